"""Batches of documents, limited by pairs as well, equal in number on all processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from .training_arguments import DocRETrainingArguments
from .training_data import DocumentDataset, count_pairs


class DocumentBatchSampler(Sampler[list[int]]):
    """
    Batches of document positions, limited by documents and by pairs, the same for a given seed and epoch.

    All processes compute the same list of batches, and process r takes number r, r + world_size, ...: together the
    processes see each document exactly once per epoch. Every process gets the same number of batches; where the
    documents don't suffice, a batch is a filler (a document position p written as `-1 - p`) whose loss has no weight.

    Args:
        num_documents (`int`):
            How many documents there are.
        batch_size (`int`):
            The most documents in a batch.
        pairs (`Sequence[int]`, *optional*):
            The number of pairs of each document; needed with `max_pairs`.
        max_pairs (`int`, *optional*):
            The most pairs in a batch. A document with more is a batch of its own.
        lengths (`Sequence[int]`, *optional*):
            If given, documents of similar length share a batch (within windows of 50 batches when shuffled).
        shuffle (`bool`, *optional*, defaults to `True`):
            Whether the order changes from epoch to epoch.
        seed (`int`, *optional*, defaults to `0`):
            The seed of the order.
        epochs (`int`, *optional*, defaults to `1`):
            For how many epochs the number of batches has to be the same: the trainer plans its steps once.
        rank (`int`, *optional*, defaults to `0`):
            This process.
        world_size (`int`, *optional*, defaults to `1`):
            The number of processes.
        even (`bool`, *optional*, defaults to `True`):
            Whether every process needs the same number of batches (training does, evaluation doesn't).
        drop_last (`bool`, *optional*, defaults to `False`):
            Whether to leave out the last step of an epoch when it is not full.
        renewed (`int`, *optional*, defaults to `0`):
            How many of the last documents are others in each epoch: their positions go on counting, so that whoever
            makes them needs to know nothing else.
    """

    def __init__(
        self,
        num_documents: int,
        batch_size: int,
        *,
        pairs: Sequence[int] | None = None,
        max_pairs: int | None = None,
        lengths: Sequence[int] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        epochs: int = 1,
        rank: int = 0,
        world_size: int = 1,
        even: bool = True,
        drop_last: bool = False,
        renewed: int = 0,
    ) -> None:
        if max_pairs is not None and pairs is None:
            raise ValueError("`max_pairs` needs `pairs`, the number of pairs of each document.")
        self.num_documents = num_documents
        self.batch_size = batch_size
        self.pairs = pairs
        self.max_pairs = max_pairs
        self.lengths = lengths
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.even = even
        self.drop_last = drop_last
        self.renewed = renewed
        self.epoch = 0
        # Only a limit on pairs makes the number of batches depend on the order.
        varies = max_pairs is not None and shuffle
        self.num_batches = max(len(self._batches(epoch)) for epoch in range(epochs if varies else 1))

    def set_epoch(self, epoch: int) -> None:
        """
        Args:
            epoch (`int`): The epoch whose order the next iteration takes.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self.num_batches, self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches(self.epoch)
        while len(batches) < self.num_batches:
            self._split(batches, self.world_size if self.even else 1)
        for batch in batches[self.rank : self.num_batches : self.world_size]:
            yield [self._renew(position) for position in batch]

    def _renew(self, position: int) -> int:
        if position < 0:
            return -1 - self._renew(-1 - position)
        old = position < self.num_documents - self.renewed
        return position if old else position + self.epoch * self.renewed

    def _order(self, epoch: int) -> list[int]:
        order = np.arange(self.num_documents)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        if self.lengths is None:
            return order.tolist()
        window = 50 * self.batch_size * self.world_size if self.shuffle else max(self.num_documents, 1)
        lengths = self.lengths
        sorted_order: list[int] = []
        for start in range(0, len(order), window):
            part = order[start : start + window].tolist()
            sorted_order.extend(sorted(part, key=lambda position: -lengths[position]))
        return sorted_order

    def _batches(self, epoch: int) -> list[list[int]]:
        batches: list[list[int]] = []
        room = 0
        for position in self._order(epoch):
            cost = self.pairs[position] if self.max_pairs is not None and self.pairs is not None else 0
            if not batches or len(batches[-1]) == self.batch_size or cost > room:
                batches.append([])
                room = self.max_pairs or 0
            batches[-1].append(position)
            room -= cost
        if self.lengths is not None and self.shuffle:
            # Sorting has put short documents last in each window; the order of the batches must stay random.
            batches = [batches[i] for i in np.random.default_rng([self.seed, epoch, 1]).permutation(len(batches))]
        if self.drop_last:
            full = len(batches) - len(batches) % self.world_size
            if full == len(batches) and batches and len(batches[-1]) < self.batch_size and self.max_pairs is None:
                full -= self.world_size
            return batches[:full]
        if self.even and len(batches) % self.world_size:
            last = batches[len(batches) - len(batches) % self.world_size :]
            head = batches[: len(batches) - len(last)]
            while len(last) < self.world_size:
                self._split(last, 1)
            batches = head + last
        return batches

    @staticmethod
    def _split(batches: list[list[int]], count: int) -> None:
        """Halves the largest batch `count` times, so that the order of documents stays; a filler behind one of 1."""
        for _ in range(count):
            if not batches:  # all were left out as incomplete
                batches.append([-1])
                continue
            largest = max(range(len(batches)), key=lambda i: len(batches[i]))
            batch = batches[largest]
            middle = (len(batch) + 1) // 2
            rest = batch[middle:] or [min(batch[0], -1 - batch[0])]
            batches[largest : largest + 1] = [batch[:middle], rest]


class DocumentDataLoader(DataLoader):
    """A `DataLoader` that hands the epoch on to its batch sampler, which the trainer does for accelerate's alone."""

    def set_epoch(self, epoch: int) -> None:
        """
        Args:
            epoch (`int`): The epoch that the next iteration belongs to.
        """
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def training_batches(
    dataset: DocumentDataset, args: DocRETrainingArguments, collator: Callable[..., Any], batch_size: int
) -> DocumentDataLoader:
    """
    The training batches of this process.

    Args:
        dataset ([`DocumentDataset`]): The training documents.
        args ([`DocRETrainingArguments`]): Seed, limits, number of epochs and processes are read.
        collator (`Callable`): Makes a batch of features.
        batch_size (`int`): The most documents in a batch of one process.

    Returns:
        [`DocumentDataLoader`].
    """
    documents = dataset.sources
    epochs = math.ceil(args.num_train_epochs)
    if args.max_steps > 0:
        fewest = math.ceil(len(documents) / (batch_size * args.world_size))
        epochs = math.ceil(args.max_steps * args.gradient_accumulation_steps / fewest)
    by_length = args.train_sampling_strategy == "group_by_length"
    sampler = DocumentBatchSampler(
        len(documents),
        batch_size,
        pairs=[count_pairs(document) for document in documents] if args.max_pairs_per_batch else None,
        max_pairs=args.max_pairs_per_batch,
        lengths=[len(document.text) for document in documents] if by_length else None,
        shuffle=args.train_sampling_strategy != "sequential",
        seed=args.data_seed if args.data_seed is not None else args.seed,
        epochs=max(epochs, 1),
        rank=args.process_index,
        world_size=args.world_size,
        drop_last=args.dataloader_drop_last,
        renewed=len(documents) - len(dataset.documents),
    )
    return _dataloader(dataset, sampler, args, collator)


def evaluation_batches(
    dataset: DocumentDataset, args: DocRETrainingArguments, collator: Callable[..., Any]
) -> DocumentDataLoader:
    """
    The evaluation batches of this process, long documents first.

    Args:
        dataset ([`DocumentDataset`]): The documents.
        args ([`DocRETrainingArguments`]): The batch size, the limit on pairs and the number of processes are read.
        collator (`Callable`): Makes a batch of features.

    Returns:
        [`DocumentDataLoader`].
    """
    sampler = DocumentBatchSampler(
        len(dataset),
        args.eval_batch_size,
        pairs=[count_pairs(document) for document in dataset.documents],
        max_pairs=args.max_pairs_per_batch,
        lengths=[len(document.text) for document in dataset.documents],
        shuffle=False,
        rank=args.process_index,
        world_size=args.world_size,
        even=False,
    )
    return _dataloader(dataset, sampler, args, collator)


def _dataloader(
    dataset: DocumentDataset,
    sampler: DocumentBatchSampler,
    args: DocRETrainingArguments,
    collator: Callable[..., Any],
) -> DocumentDataLoader:
    return DocumentDataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
        # Without a generator of its own each new iterator draws from the one that dropout uses, and an evaluation
        # would change the training that follows.
        generator=torch.Generator(),
    )


__all__ = ["DocumentBatchSampler", "DocumentDataLoader", "evaluation_batches", "training_batches"]
