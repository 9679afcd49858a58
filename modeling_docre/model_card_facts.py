"""What a model card says of training documents, settings and papers."""

from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

from .configuration_docre import DocREConfig
from .documents import Document, DocumentError, Entity, Mention, Relation
from .training_arguments import DocRETrainingArguments

MAX_EXAMPLE = 160
"""Characters of the longest sentence that a card quotes."""


# Relations


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A fact of a training document: the entities' names, and a sentence that has both where a short one does."""

    head: str
    tail: str
    sentence: str | None = None


def fact_counts(documents: Iterable[Document]) -> Counter[str]:
    """Facts by relation; one that a document repeats counts once."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(name for *_, name in {(r.head, r.tail, r.relation) for r in document.relations or ()})
    return counts


def relation_examples(documents: Iterable[Document]) -> dict[str, Example]:
    """
    Finds an example of each relation.

    Args:
        documents (`Iterable[Document]`): Labelled documents.

    Returns:
        `dict[str, Example]`: By relation, the fact with the shortest sentence that names both entities, the first
        one on ties.
    """
    found: dict[str, tuple[int, Example]] = {}
    for document in documents:
        spans = document.sentence_spans
        for relation in document.relations or ():
            shared = _shared_sentences(document, relation)
            size, sentence = min(((spans[i][1] - spans[i][0], i) for i in shared), default=(MAX_EXAMPLE + 1, None))
            if relation.relation in found and found[relation.relation][0] <= size:
                continue
            head, tail = (document.entities[number].name for number in (relation.head, relation.tail))
            quoted = None
            if sentence is not None and size <= MAX_EXAMPLE:
                quoted = document.text[slice(*spans[sentence])]
            found[relation.relation] = size, Example(head[:MAX_EXAMPLE], tail[:MAX_EXAMPLE], quoted)
    return {name: example for name, (_, example) in found.items()}


def _shared_sentences(document: Document, relation: Relation) -> set[int]:
    head, tail = (
        {mention.sentence for mention in document.entities[number].mentions}
        for number in (relation.head, relation.tail)
    )
    return head & tail


def example_markup(documents: Sequence[Document], entity_types: Sequence[str]) -> str | None:
    """
    Writes a short sentence of a training document as markup, to show what goes into the model.

    Args:
        documents (`Sequence[Document]`): Labelled documents.
        entity_types (`Sequence[str]`): The types that the model knows; others are left out.

    Returns:
        `str` or `None`: The shortest sentence that names both entities of a fact, of eight words or more, or else of
        five.
    """
    best: tuple[bool, int, int, int] | None = None
    for number, document in enumerate(documents):
        spans = document.sentence_spans
        for relation in document.relations or ():
            for sentence in _shared_sentences(document, relation) if relation.head != relation.tail else ():
                size = spans[sentence][1] - spans[sentence][0]
                words = len(document.sentences[sentence])
                if size <= MAX_EXAMPLE and words >= 5:
                    rank = (words < 8, size, number, sentence)
                    best = min(best or rank, rank)
    if best is None:
        return None
    *_, number, sentence = best
    try:
        return _one_sentence(documents[number], sentence, entity_types).to_markup()
    except DocumentError:  # mentions that cross each other, or a type that markup can't write
        return None


def _one_sentence(document: Document, sentence: int, entity_types: Sequence[str]) -> Document:
    start, end = document.sentence_spans[sentence]
    entities: list[dict[str, Any]] = []
    for entity in document.entities:
        mentions = [_place(mention, start) for mention in entity.mentions if mention.sentence == sentence]
        if mentions:
            entities.append({"type": _known_type(entity, entity_types), "mentions": mentions})
    return Document.from_text(document.text[start:end], entities)


def _place(mention: Mention, start: int) -> dict[str, int]:
    return {"start": mention.start - start, "end": mention.end - start}


def _known_type(entity: Entity, entity_types: Sequence[str]) -> str | None:
    return entity.type if entity.type in entity_types else None


# Settings

# What a reader looks for first. The rest is named where it differs from its default. Only what is listed is written:
# other settings hold folders, tokens and addresses of this machine.
_ALWAYS = (
    "learning_rate",
    "per_device_train_batch_size",
    "optim",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "seed",
)
_WHERE_CHANGED = (
    "head_learning_rate",
    "module_learning_rates",
    "head_weight_decay",
    "gradient_accumulation_steps",
    "max_pairs_per_batch",
    "normalise",
    "freeze_layers",
    "freeze_embeddings",
    "prior_bias",
    "tune_threshold",
    "half_precision_weights",
    "early_stopping_patience",
    "load_best_model_at_end",
    "max_steps",
    "lr_scheduler_kwargs",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "train_sampling_strategy",
    "data_seed",
    "full_determinism",
    "bf16",
    "fp16",
    "tf32",
    "torch_compile",
)


def hyper_parameters(args: DocRETrainingArguments) -> list[tuple[str, str]]:
    """
    The settings of a training run that its reader needs.

    Args:
        args ([`DocRETrainingArguments`]): All settings.

    Returns:
        `list[tuple[str, str]]`: Names and values: the common ones, and others where they differ from their defaults.
    """
    defaults = {item.name: item.default for item in dataclasses.fields(DocRETrainingArguments)}
    rows = [("num_train_epochs", args.num_train_epochs)] if args.max_steps <= 0 else []
    rows += [(name, getattr(args, name)) for name in _ALWAYS]
    # Older versions of transformers lack some.
    changed = [(name, getattr(args, name)) for name in _WHERE_CHANGED if name in defaults]
    rows += [(name, value) for name, value in changed if value not in (None, defaults[name])]
    return [
        (name, f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value)))
        for name, value in rows
    ]


def versions() -> list[tuple[str, str]]:
    """Names and versions of what the model was trained with."""
    names = ("modeling-docre", "torch", "transformers", "tokenizers", "accelerate", "datasets")
    found = [("Python", platform.python_version())]
    for name in names:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


# Papers

SOFTWARE = """\
@software{modeling_docre,
    title = {modeling-docre},
    author = {{The modeling-docre authors}},
    version = {VERSION},
    license = {Apache-2.0},
}"""

ATLOP = """\
@inproceedings{zhou2021atlop,
    title = {Document-level relation extraction with adaptive thresholding and localized context pooling},
    author = {Zhou, Wenxuan and Huang, Kevin and Ma, Tengyu and Huang, Jing},
    booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
    volume = {35},
    pages = {14612--14620},
    year = {2021},
}"""

PEMSCL = """\
@inproceedings{guo2023pemscl,
    title = {Towards integration of discriminability and robustness for document-level relation extraction},
    author = {Guo, Jia and Kok, Stanley and Bing, Lidong},
    booktitle = {Proceedings of the 17th Conference of the European Chapter of the Association for Computational
        Linguistics},
    pages = {2606--2617},
    year = {2023},
}"""

HEADS = {"bilinear": ("grouped bilinear with localized context pooling (Zhou et al., 2021)", ATLOP)}
"""By pair head: what it is, and its paper."""

LOSSES = {
    "atl": ("adaptive thresholding (Zhou et al., 2021)", ATLOP),
    "pmt": ("pairwise moving threshold (Guo et al., 2023)", PEMSCL),
    "bce": ("binary cross-entropy", None),
}
"""By loss: what it is, and its paper, if it takes one."""


def citations(config: DocREConfig, version: str) -> str:
    """
    What to cite.

    Args:
        config ([`DocREConfig`]): The pair head and the loss.
        version (`str`): The version of this library.

    Returns:
        `str`: BibTeX of the library and of the papers.
    """
    papers = [HEADS[config.head][1], LOSSES[config.loss][1]]
    return "\n\n".join(dict.fromkeys([SOFTWARE.replace("VERSION", version), *filter(None, papers)]))


__all__ = [
    "HEADS",
    "LOSSES",
    "Example",
    "citations",
    "example_markup",
    "fact_counts",
    "hyper_parameters",
    "relation_examples",
    "versions",
]
