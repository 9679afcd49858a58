"""What heads know of a document beside its tokens: types and order of its entities, and which sentences hold them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class SentenceFeatures(NamedTuple):
    """Of each document of a batch.

    Attributes:
        entity_types (`torch.Tensor` of shape `(batch, entities)`): Type ids, 0 unknown.
        places (`torch.Tensor` of shape `(batch, entities)`):
            Place of each entity among those of its document, by first appearance; entities without a mention, and
            those that there are not, come last.
        shared (`torch.Tensor` of shape `(batch, entities, entities)`):
            Bool: whether a mention of one and a mention of the other are in one sentence.
        sentence_ids (`torch.Tensor` of shape `(batch, tokens)`):
            Sentence of each token; -1 outside, behind the document, and where nothing reads it.
    """

    entity_types: Tensor
    places: Tensor
    shared: Tensor
    sentence_ids: Tensor

    def take(self, documents: Tensor, entities: int) -> SentenceFeatures:
        """Return those of some documents, of their first entities."""
        return SentenceFeatures(
            self.entity_types[documents, :entities],
            self.places[documents, :entities],
            self.shared[documents, :entities, :entities],
            self.sentence_ids[documents],
        )


def sentence_features(
    mentions: Tensor,
    entity_types: Tensor,
    sentence_ids: Tensor,
    num_entities: Tensor,
    lengths: Tensor,
    unread: Callable[[int], range] | None = None,
) -> SentenceFeatures:
    """Gather them from a batch.

    Args:
        mentions (`torch.Tensor` of shape `(num_mentions, 3)`):
            Document, entity, token; those beyond a document's tokens are ignored.
        entity_types (`torch.Tensor` of shape `(batch, entities)`): Type ids, 0 unknown.
        sentence_ids (`torch.Tensor` of shape `(batch, tokens)`): Sentence of each token, -1 outside.
        num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document.
        lengths (`torch.Tensor` of shape `(batch,)`): Tokens per document.
        unread (`Callable[[int], range]`, *optional*):
            Which tokens of a document of some length nothing reads; all are read when left out.
    """
    batch, entities = entity_types.shape
    tokens = sentence_ids.shape[1]
    # Whatever padding has there.
    behind = torch.arange(tokens, device=lengths.device) >= lengths[:, None]
    sentence_ids = sentence_ids.masked_fill(behind, -1)
    if unread is not None:
        for row, left_out in enumerate(map(unread, lengths.tolist())):
            sentence_ids[row, left_out.start : left_out.stop] = -1
    document, entity, token = mentions[mentions[:, 2] < lengths[mentions[:, 0]]].unbind(1)
    places = _places(document * entities + entity, token, entity_types, num_entities, tokens)
    sentences = int(sentence_ids.max()) + 1 if sentence_ids.numel() else 0
    held = torch.zeros(batch, entities, sentences, device=sentence_ids.device)
    sentence = sentence_ids[document, token]
    inside = sentence >= 0
    held[document[inside], entity[inside], sentence[inside]] = 1.0
    with torch.autocast(held.device.type, enabled=False):
        shared = held @ held.transpose(1, 2) > 0
    return SentenceFeatures(entity_types, places, shared, sentence_ids)


def _places(slots: Tensor, token: Tensor, entity_types: Tensor, num_entities: Tensor, tokens: int) -> Tensor:
    """Place of each entity `(batch, entities)`: by first mention, and where two have one, by the sum of the places of
    all, the sum of their squares, and the type.

    The order in which they are given decides between those that are equal in all of these.
    """
    batch, entities = entity_types.shape
    first = torch.full((batch * entities,), tokens, device=token.device)
    first = first.scatter_reduce(0, slots, token, "amin").view(batch, entities)
    sums = [
        torch.zeros(batch * entities, dtype=torch.long, device=token.device).index_add(0, slots, power).view_as(first)
        for power in (token, token * token)
    ]
    missing = torch.arange(entities, device=token.device) >= num_entities[:, None]
    order = torch.arange(entities, device=token.device).expand(batch, entities)
    # The last key decides, and those before it where it does not.
    for key in (entity_types.long(), *reversed(sums), first, missing.long()):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order.argsort(dim=1)


__all__ = ["SentenceFeatures", "sentence_features"]
