"""What the models return."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class DocREModelOutput(ModelOutput):
    """Output of [`DocREModel`].

    Args:
        last_hidden_state (`torch.Tensor` of shape `(batch, tokens, hidden)`): Stitched last hidden states.
        entity_embeddings (`torch.Tensor` of shape `(batch, entities, hidden)`): Entities, zero-padded.
        entity_attention (`torch.Tensor` of shape `(batch, entities, attention_heads, tokens)`): Their attention.
        num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document.
        entities_read (`torch.Tensor` of shape `(batch, entities)`): False for entities without a mention in reach.
    """

    last_hidden_state: Tensor | None = None
    entity_embeddings: Tensor | None = None
    entity_attention: Tensor | None = None
    num_entities: Tensor | None = None
    entities_read: Tensor | None = None


@dataclass
class DocRERelationOutput(ModelOutput):
    """Output of [`DocREForRelationExtraction`]. Rows of `logits` follow `pairs`.

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): The method's whole loss, when `labels` were given.
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Class 0 is the threshold class. Of pairs that were pruned 0, and -1e4 for each relation: no teacher's.
        pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document in batch, head entity, tail entity.
        entities_read (`torch.Tensor` of shape `(batch, entities)`): False for entities without a mention in reach.
        losses (`dict[str, torch.Tensor]`, *optional*): The parts of `loss`, each weighted as it enters the sum.
        pair_embeddings (`torch.Tensor`, *optional*):
            On request: what the classifier reads, `(num_pairs, emb_size * block_size)`, or `(num_pairs, hidden)` of
            the axial head.
        entity_embeddings (`torch.Tensor` of shape `(batch, entities, hidden)`, *optional*): On request.
        potential_pairs (`torch.Tensor` of shape `(num_pairs,)`, *optional*):
            Of the pair-aware head: probability that a pair has a relation at all.
        pruned (`torch.Tensor` of shape `(num_pairs,)`, *optional*):
            With a prune threshold, outside training: True for pairs whose probability is not above it.
        sentence_attention (`torch.Tensor` of shape `(num_pairs, sentences)`, *optional*):
            On request: how much of the pair's context comes from each sentence; see [`sentence_attention`].
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    pairs: Tensor | None = None
    entities_read: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    pair_embeddings: Tensor | None = None
    entity_embeddings: Tensor | None = None
    potential_pairs: Tensor | None = None
    pruned: Tensor | None = None
    sentence_attention: Tensor | None = None


__all__ = ["DocREModelOutput", "DocRERelationOutput"]
