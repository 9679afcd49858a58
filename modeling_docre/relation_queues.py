"""One queue of pair embeddings per relation, which contrastive pre-training compares with (MoCo-DocRE, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RelationQueues(nn.Module):
    """The last embeddings of each relation, first in, first out.

    A pair with several relations is in the queue of each, and kept once: as long as any of them holds it. The queues
    are buffers, so that a checkpoint has them.

    Args:
        num_relations (`int`): Relations, the threshold class left out.
        capacity (`int`): Embeddings in each queue.
        width (`int`): Width of an embedding.
    """

    embeddings: Tensor
    labels: Tensor
    filled: Tensor

    def __init__(self, num_relations: int, capacity: int, width: int) -> None:
        super().__init__()
        self.capacity = capacity
        # What is filled is in the order of arrival. There is room for all queues full of pairs of their own.
        self.register_buffer("embeddings", torch.zeros(num_relations * capacity, width))
        self.register_buffer("labels", torch.zeros(num_relations * capacity, num_relations, dtype=torch.bool))
        self.register_buffer("filled", torch.tensor(0))

    @torch.no_grad()
    def push(self, embeddings: Tensor, labels: Tensor) -> None:
        """Put embeddings into the queues of their relations; the oldest leave the queues that are full.

        Args:
            embeddings (`torch.Tensor` of shape `(number, width)`): In the order of arrival; without gradient.
            labels (`torch.Tensor` of shape `(number, num_relations)`): Multi-hot, the threshold class left out.
        """
        filled = int(self.filled)
        all_embeddings = torch.cat([self.embeddings[:filled], embeddings.to(self.embeddings.dtype)])
        all_labels = torch.cat([self.labels[:filled], labels > 0])
        stays = self._held(all_labels).any(1)
        filled = int(stays.sum())
        self.embeddings[:filled], self.labels[:filled] = all_embeddings[stays], all_labels[stays]
        self.embeddings[filled:], self.labels[filled:] = 0.0, False
        self.filled.fill_(filled)

    def compare(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what anchors are compared with.

        Args:
            labels (`torch.Tensor` of shape `(num_anchors, num_relations)`): Their relations, multi-hot.

        Returns:
            The `num_keys` embeddings in the queues `(num_keys, width)`; which of them are in a queue of the anchor's
            relations, bool `(num_anchors, num_keys)`; and which share no relation with it, and so are in queues of
            others alone.
        """
        filled = int(self.filled)
        known = self.labels[:filled]
        held = self._held(known).float()
        wanted = (labels > 0).float()
        with torch.autocast(labels.device.type, enabled=False):
            positives = wanted @ held.t() > 0
            negatives = wanted @ known.float().t() == 0
        return self.embeddings[:filled].clone(), positives, negatives

    def _held(self, labels: Tensor) -> Tensor:
        """Which relations' queues hold each embedding: those in which fewer than `capacity` came after it."""
        after = labels.int().flip(0).cumsum(0).flip(0)
        return labels & (after <= self.capacity)


__all__ = ["RelationQueues"]
