"""What heads know of a document beside its tokens: types and order of its entities, and which sentences hold them."""

from __future__ import annotations

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
        sentence_ids (`torch.Tensor` of shape `(batch, tokens)`): Sentence of each token, -1 outside.
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


def sentence_features(mentions: Tensor, entity_types: Tensor, sentence_ids: Tensor) -> SentenceFeatures:
    """Gather them from a batch.

    Args:
        mentions (`torch.Tensor` of shape `(num_mentions, 3)`): Document, entity, token; beyond the tokens, ignored.
        entity_types (`torch.Tensor` of shape `(batch, entities)`): Type ids, 0 unknown.
        sentence_ids (`torch.Tensor` of shape `(batch, tokens)`): Sentence of each token, -1 outside.
    """
    batch, entities = entity_types.shape
    tokens = sentence_ids.shape[1]
    document, entity, token = mentions[mentions[:, 2] < tokens].unbind(1)
    first = sentence_ids.new_full((batch * entities,), tokens)
    first = first.scatter_reduce(0, document * entities + entity, token.to(first.dtype), "amin")
    places = first.view(batch, entities).argsort(dim=1, stable=True).argsort(dim=1)
    sentences = int(sentence_ids.max()) + 1 if sentence_ids.numel() else 0
    held = torch.zeros(batch, entities, sentences, device=sentence_ids.device)
    sentence = sentence_ids[document, token]
    inside = sentence >= 0
    held[document[inside], entity[inside], sentence[inside]] = 1.0
    with torch.autocast(held.device.type, enabled=False):
        shared = held @ held.transpose(1, 2) > 0
    return SentenceFeatures(entity_types, places, shared, sentence_ids)


__all__ = ["SentenceFeatures", "sentence_features"]
