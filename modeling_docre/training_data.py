"""Documents on their way into the trainer: reading what the caller passed, features, model inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import Dataset

from .documents import Document, read_documents
from .pair_aware_loss import entity_roles

if TYPE_CHECKING:
    from .processing_docre import DocREProcessor
    from .training_augmentation import AlteredTexts


def as_documents(data: Any, argument: str) -> list[Document]:
    """
    Reads whatever form of documents a caller passed to the trainer.

    Args:
        data (`Iterable[Document | dict]` or `datasets.Dataset`):
            Documents, dicts in DocRED's or in plain-text form, or a dataset whose rows are such dicts. A stream is
            read to its end.
        argument (`str`):
            The name under which the caller passed it; used in error messages.

    Returns:
        `list[Document]`: The documents, in the order of `data`.

    Raises:
        TypeError: If `data` is a dictionary of splits, a path or something that isn't a document.
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
                "unlabelled documents out; a document that is known to hold no relation has an empty list, not a "
                "missing one."
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
        strict (`bool`, *optional*, defaults to `True`):
            Whether a gold relation that the model does not know is an error; otherwise it counts as left out.
        altered ([`AlteredTexts`], *optional*):
            Altered copies of the documents, which come after them: those of the first epoch, of the second, and so
            on. They are made when asked for and never kept, and count as no documents where these are counted.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        processor: DocREProcessor,
        *,
        keep: bool = True,
        strict: bool = True,
        altered: AlteredTexts | None = None,
    ) -> None:
        self.documents = list(documents)
        self.altered = altered
        self.processor = processor
        self.keep = keep
        self.strict = strict
        self.soft_labels: Callable[[int, Sequence[tuple[int, int]]], torch.Tensor] | None = None
        """Gives a teacher's logits, from a document's place and pairs; they are read anew each time."""
        self._features: dict[int, dict[str, Any]] = {}
        self.left_out: dict[int, dict[str, int]] = {}
        """By document that was in a batch so far, what a length limit, a filter or a repair has dropped from it."""
        self.reported = False

    def __len__(self) -> int:
        return len(self.documents) + (len(self.altered.sources) if self.altered else 0)

    @property
    def sources(self) -> list[Document]:
        """What an epoch reads: the documents, and those that its altered copies are of."""
        copied = self.altered.sources if self.altered else ()
        return [*self.documents, *(self.documents[source] for source in copied)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        # The batch sampler writes a filler document as `-1 - index`: it is computed like others, and counted nowhere.
        position = index if index >= 0 else -1 - index
        features = self._features.get(position)
        if self.altered is not None and position >= len(self.documents):
            document = self.altered.make(self.documents, position - len(self.documents))
            features = self.processor([document], strict=self.strict)[0]
        elif features is None:
            features = self.processor([self.documents[position]], strict=self.strict)[0]
            if self.keep and len(self._features) < KEPT_FEATURES:
                self._features[position] = features
        if self.soft_labels is not None:
            features = {**features, "teacher_logits": self.soft_labels(position, features["pairs"])}
        return {**features, "document_index": index}

    def count(self, index: Sequence[int], left_out: Sequence[dict[str, int]]) -> None:
        """
        Notes what is left out of the documents of a batch. Here and not where features are made: that may happen in
        another process.

        Args:
            index (`Sequence[int]`): The document of each row of the batch.
            left_out (`Sequence[dict]`): `left_out` of the batch.
        """
        counted = range(len(self.documents))
        found = zip(index, left_out, strict=True)
        self.left_out.update((number, counts) for number, counts in found if number in counted)


def _left_out(coverage: Mapping[str, int]) -> dict[str, int]:
    """Totals come with what was read or scored of them; the rest are counts of what was dropped."""
    counts = {}
    for name, total in coverage.items():
        partial = next(
            (coverage[f"{name}_{done}"] for done in ("read", "scored") if f"{name}_{done}" in coverage), None
        )
        if partial is not None:
            counts[f"{name} not {'scored' if name == 'pairs' else 'read'}"] = total - partial
        elif name != "relations" and not name.endswith(("_read", "_scored")):
            counts[name] = total
    return {cause: count for cause, count in counts.items() if count}


def describe_left_out(left_out: Mapping[int, Mapping[str, int]]) -> str:
    """
    One line on what is left out of documents, or none.

    Args:
        left_out (`Mapping[int, Mapping[str, int]]`): What is left out, by document.

    Returns:
        `str`: Such as `"40 tokens not read, 3 pairs not scored"`, or `""`.
    """
    total: Counter[str] = Counter()
    for counts in left_out.values():
        total.update(counts)
    return ", ".join(f"{count} {cause}" for cause, count in total.most_common())


class DocumentCollator:
    """
    `processor.collate` for the trainer: also notes which documents are in the batch, and what is left out of them.

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
            `dict[str, Any]`: Model inputs; `document_index`, a long tensor `(batch,)`; and `left_out`, a dict of
            counts for each document.
        """
        index = [item["document_index"] for item in features]
        plain = [{key: value for key, value in item.items() if key != "document_index"} for item in features]
        batch: dict[str, Any] = dict(self.processor.collate(plain))
        batch["document_index"] = torch.tensor(index, dtype=torch.long)
        batch["left_out"] = [_left_out(item["coverage"]) for item in features]
        return batch


class LabelLogOdds(NamedTuple):
    """How likely labels are in documents, as log-odds.

    Attributes:
        classes (`torch.Tensor` of shape `(num_classes,)`): That a pair has each relation; 0 for the threshold class.
        related (`torch.Tensor` of shape `()`): That a pair has any.
        roles (`torch.Tensor` of shape `(2, num_relations)`):
            That an entity is the head, and the tail, of some fact of each relation.
    """

    classes: torch.Tensor
    related: torch.Tensor
    roles: torch.Tensor


def label_log_odds(dataset: DocumentDataset, collator: DocumentCollator, num_classes: int) -> LabelLogOdds:
    """
    The log-odds of the labels of documents.

    Args:
        dataset ([`DocumentDataset`]): The documents.
        collator ([`DocumentCollator`]): Makes their labels.
        num_classes (`int`): The number of classes, the threshold class included.

    Returns:
        [`LabelLogOdds`].
    """
    classes, related = torch.zeros(num_classes, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    roles = torch.zeros(2, num_classes - 1, dtype=torch.float64)
    num_pairs = num_entities = 0
    for index in range(len(dataset.documents)):
        batch = collator([dataset[index]])
        dataset.count([index], batch["left_out"])
        labels, entities = batch["labels"], int(batch["num_entities"].sum())
        classes += labels.double().sum(0)
        related += (labels[:, 1:] > 0).any(1).sum()
        roles += entity_roles(labels, batch["pairs"], roles.new_zeros(1, entities, *roles.shape)).sum((0, 1))
        num_pairs += len(labels)
        num_entities += entities
    of_classes = _log_odds(classes, num_pairs)
    of_classes[0] = 0.0
    return LabelLogOdds(of_classes, _log_odds(related, num_pairs), _log_odds(roles, num_entities))


def _log_odds(counts: torch.Tensor, of: int) -> torch.Tensor:
    # Half a time more keeps what never occurs finite.
    probability = (counts + 0.5) / (of + 1)
    return (torch.log(probability) - torch.log1p(-probability)).float()


__all__ = [
    "DocumentCollator",
    "DocumentDataset",
    "LabelLogOdds",
    "as_documents",
    "count_pairs",
    "describe_left_out",
    "label_log_odds",
    "refuse_unlabelled",
]
