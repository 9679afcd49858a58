"""Documents on their way into the trainer: reading what the caller passed, features, batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from .documents import Document, read_documents

if TYPE_CHECKING:
    from .processing_docre import DocREProcessor


def as_documents(data: Any, argument: str) -> list[Document]:
    """
    Reads whatever form of documents a caller passed to the trainer.

    Args:
        data (`Iterable[Document | dict]` or `datasets.Dataset`):
            Documents, dicts in DocRED's or in plain-text form, or a dataset whose rows are such dicts.
        argument (`str`):
            The name under which the caller passed it; used in error messages.

    Returns:
        `list[Document]`: The documents, in the order of `data`.

    Raises:
        TypeError: If `data` is a dictionary of splits, a stream, a path or something that isn't a document.
        DocumentError: If a document is not valid.
    """
    if isinstance(data, Mapping):
        if "sents" in data or "text" in data:
            raise TypeError(f"`{argument}` is one document; pass a list of documents: {argument}=[document].")
        splits = [str(name) for name in data]
        raise TypeError(
            f"`{argument}` is a {type(data).__name__} with the splits {splits}, not one split: "
            f"did you mean {argument}=dataset[{splits[0] if splits else 'train'!r}]?"
        )
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise TypeError(
            f"`{argument}` is a {type(data).__name__}; pass a list of documents, for example "
            f"{argument}=json.load(open('train.json'))."
        )
    columns = getattr(data, "column_names", None)
    if columns is not None and "sents" not in columns and "text" not in columns:
        raise TypeError(
            f"`{argument}` is a {type(data).__name__} with the columns {list(columns)}; documents need `title`, "
            "`sents`, `vertexSet` and `labels` (DocRED's form), or `text` and `entities`. Rename the columns with "
            "`dataset.rename_columns({...})`."
        )
    return list(read_documents(data))


def refuse_unlabelled(documents: Sequence[Document], argument: str, purpose: str) -> None:
    """
    Raises an error that names the first document without labels.

    Args:
        documents (`Sequence[Document]`): What to look through.
        argument (`str`): The name under which the caller passed them.
        purpose (`str`): What the labels are needed for, as in "training".

    Raises:
        ValueError: If a document's `relations` are `None`.
    """
    for index, document in enumerate(documents):
        if document.relations is None:
            raise ValueError(
                f"`{argument}[{index}]` ({document.title!r}) has no labels, and {purpose} needs them. Leave "
                "unlabelled documents out; a document that is known to hold no relation has an empty list, not a missing one."
            )


def count_pairs(document: Document) -> int:
    """
    The number of candidate pairs of a document, before any filter by entity type.

    Args:
        document (`Document`): Any document.

    Returns:
        `int`: How many (head, tail) pairs can at most be scored.
    """
    if document.pairs is not None:
        return len(document.pairs)
    return len(document.entities) * (len(document.entities) - 1)


# Features of as many documents stay in memory; those of a distantly labelled corpus would not fit.
KEPT_FEATURES = 20_000


class DocumentDataset(Dataset):
    """
    Documents as a torch dataset of features, computed when first asked for.

    Args:
        documents (`Sequence[Document]`):
            The documents.
        processor (`DocREProcessor`):
            Turns a document into features.
        keep (`bool`, *optional*, defaults to `True`):
            Whether to keep features in memory for the next epoch. A corpus that is only read once needn't.
    """

    def __init__(self, documents: Sequence[Document], processor: DocREProcessor, *, keep: bool = True) -> None:
        self.documents = list(documents)
        self.processor = processor
        self.keep = keep
        self._features: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # The batch sampler writes a filler document as `-1 - index`: it is computed like others, and counted nowhere.
        position = index if index >= 0 else -1 - index
        features = self._features.get(position)
        if features is None:
            features = self.processor([self.documents[position]])[0]
            if self.keep and len(self._features) < KEPT_FEATURES:
                self._features[position] = features
        return {**features, "document_index": index}


class DocumentCollator:
    """
    `processor.collate` for the trainer: also notes which documents are in the batch.

    Args:
        processor (`DocREProcessor`): Owner of the batch form.
    """

    def __init__(self, processor: DocREProcessor) -> None:
        self.processor = processor

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Args:
            features (`list[dict]`): Items of a [`DocumentDataset`].

        Returns:
            `dict[str, Any]`: Model inputs, and `document_index`, a long tensor `(batch,)`.
        """
        index = [item["document_index"] for item in features]
        plain = [{key: value for key, value in item.items() if key != "document_index"} for item in features]
        batch = dict(self.processor.collate(plain))
        batch["document_index"] = torch.tensor(index, dtype=torch.long)
        return batch


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
            batches.extend(self._split(batches, self.world_size if self.even else 1))
        yield from batches[self.rank : self.num_batches : self.world_size]

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
                last.extend(self._split(last, 1))
            batches = head + last
        return batches

    @staticmethod
    def _split(batches: list[list[int]], count: int) -> list[list[int]]:
        """Takes the second half away from the `count` largest batches; fillers where no batch can be halved."""
        halves: list[list[int]] = []
        for _ in range(count):
            largest = max(range(len(batches)), key=lambda i: len(batches[i]))
            batch = batches[largest]
            if len(batch) < 2:
                halves.append([min(batch[0], -1 - batch[0])])
                continue
            middle = (len(batch) + 1) // 2
            batches[largest] = batch[:middle]
            halves.append(batch[middle:])
        return halves


class DocumentDataLoader(DataLoader):
    """A `DataLoader` that hands the epoch on to its batch sampler, which the trainer does for accelerate's alone."""

    def set_epoch(self, epoch: int) -> None:
        """
        Args:
            epoch (`int`): The epoch that the next iteration belongs to.
        """
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
