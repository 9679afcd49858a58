"""The `docre` pipeline: documents in, their relations out, as plain JSON."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import Pipeline
from transformers.utils import logging

from modeling_docre.configuration_docre import DocREConfig
from modeling_docre.documents import Document, DocumentError
from modeling_docre.entity_filters import did_you_mean, missing_names
from modeling_docre.memory import give_memory_back
from modeling_docre.modeling_base import DocREModel
from modeling_docre.modeling_docre import DocREForRelationExtraction, DocRERelationOutput
from modeling_docre.predicted_relations import pairs_read
from modeling_docre.processing_docre import DocREProcessor
from modeling_docre.remote_code import Shareable

logger = logging.get_logger(__name__)

# Documents that are read ahead and sorted by length, per document of a batch.
_READ_AHEAD = 8
_BATCH_SIZE = 8
# Pairs and padded tokens of a batch, per document that it may have: what a batch needs is then soon at its limit and
# stays there, however many documents come. A single document may have more.
_PAIRS = 512
_TOKENS = 512

_FILTERS = ("threshold", "relations", "top_k", "head", "tail")
_WITHOUT_ENTITIES = "the text comes without entities, and this model relates entities that are given. Mark them:\n"
_OFFER = ", or pass strict=False to skip it with a count"
_HOW_TO_PASS = (
    '    pipe({"text": "Ada lived in London.", "entities": [\n'
    '        {"type": "PER", "mentions": [{"start": 0, "end": 3}]},\n'
    '        {"type": "LOC", "mentions": [{"start": 13, "end": 19}]}]})\n'
    "or by hand, inside the text:\n"
    '    pipe(Document.from_markup("[Ada](:PER) lived in [London](:LOC)."))'
)


# No dict: the base class would search its thousands of numbers for tensors.
@dataclass(frozen=True, slots=True)
class _Item:
    document: Document
    features: dict[str, Any]
    gave_text: bool


class DocREPipeline(Shareable, Pipeline):  # type: ignore[misc]
    """Document-level relation extraction, `pipeline("docre")`.

    ```python
    >>> import modeling_docre
    >>> from transformers import pipeline

    >>> extract = pipeline("docre")
    >>> document = modeling_docre.Document.from_markup("[Ada](:PER) lived in [London](:LOC).")
    >>> result = extract(document)
    >>> [entity["name"] for entity in result["entities"]]
    ['Ada', 'London']

    ```

    An input is a dict `{"text", "entities": [{"name"?, "type"?, "mentions": [{"start", "end"}]}]}` with character
    offsets, a dict in DocRED's form, or a [`Document`]; or a list, a generator or a `datasets.Dataset` of them. A list
    gives a list; whatever else is iterated over gives a generator, which reads ahead only a little.

    The answer to one document is plain JSON:

    - `entities`: `id`, `name`, `type` and `mentions` (`start`, `end`, `text`, `sentence`), in the caller's order, none
      dropped; offsets are characters of the caller's text;
    - `relations`, the best first: `head` and `tail` (entity ids), `head_name`, `tail_name`, `relation` (its id),
      `label` (its words), `score` (a probability), `evidence` (sentence ids);
    - `sentences`: `[start, end]` of each;
    - `coverage`: what was read and what a limit or a filter left out;
    - `text`: what the offsets count in, where it is not the text of the caller's own dict: the tokens joined, or the
      text of a [`Document`].

    Args at call time, or when the pipeline is built:
        threshold (`float`, *optional*):
            Probability above which a relation is returned; the model's own decision when left out.
        relations (`list[str]`, *optional*): Return only these relations, by id or by words.
        top_k (`int`, *optional*): Return at most this many relations of a document.
        head, tail (`int` or `str`, *optional*): Return only relations of this entity, by id or name.
        batch_size (`int`, *optional*, defaults to `8`): Documents that run at once; they are sorted by length inside.

    A checkpoint in float16 runs in float32 on a CPU, which is several times faster there, unless `dtype` is given when
    the pipeline is built.

    Raises:
        ValueError: when the model is none of this library, has no processor, or a filter is out of its range.
        OSError: when the model's folder has no tokenizer; the message says which files to add.
    """

    processor: DocREProcessor
    _load_tokenizer = False  # type: ignore[assignment]
    # Not `True`: `pipeline` would then answer a missing tokenizer or another architecture with errors of its own,
    # which say nothing about the way out. What did not load is loaded again here, where its error can be read.
    _load_processor = None
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]

    def __init__(self, model: Any, *, processor: Any = None, **kwargs: Any) -> None:
        name = getattr(model, "name_or_path", "")
        if not isinstance(model, DocREForRelationExtraction):
            if type(model).__name__ == DocREForRelationExtraction.__name__:
                raise ValueError(
                    f"{name or 'The model'} is of another copy of the library than this pipeline: the code of a "
                    "folder. Import modeling_docre before the model is loaded."
                )
            raise ValueError(
                f"{name or 'The model'} is a {type(model).__name__}, not a relation extraction model of this library. "
                f'Start a new one around it and train it: DocREForRelationExtraction.from_encoder("{name}", ...).'
            )
        if processor is None and name:
            logger.info(f"No processor was passed: taking the one of {name}.")
            processor = DocREProcessor.from_pretrained(name, revision=getattr(model.config, "_commit_hash", None))
        if not isinstance(processor, DocREProcessor):
            raise ValueError(
                "The pipeline needs the model's processor: pass processor=DocREProcessor.from_pretrained(FOLDER), or "
                "processor=DocREProcessor.from_encoder(ENCODER, config=model.config) for a model made by from_encoder."
            )
        chosen = kwargs.get("dtype") != "auto"
        # Before the base class reads the filters, which are checked against both.
        self.model, self.processor = model, processor
        processor.config = model.config
        super().__init__(model, processor=processor, **kwargs)
        if not chosen and self.device.type == "cpu" and self.model.dtype == torch.float16:
            self.model.float()
        self.model.eval()

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = set(kwargs) - set(_FILTERS)
        if unknown:
            hint = ""
            if settings := sorted(unknown & DocREConfig.__annotations__.keys()):
                loading = f'pipeline("docre", model=FOLDER, model_kwargs={{"{settings[0]}": ...}})'
                hint = f" The model takes its settings when it is loaded: {loading}."
            raise TypeError(
                f"The docre pipeline has no parameter {', '.join(sorted(unknown))}; it has {', '.join(_FILTERS)}, "
                f"batch_size.{hint}"
            )
        # Of no pairs: what is wrong with a filter is said before anything runs.
        nothing = DocRERelationOutput(
            logits=torch.zeros(0, self.model.config.num_classes), pairs=torch.zeros(0, 3, dtype=torch.long)
        )
        self.processor.decode(nothing, [], **kwargs)
        return {}, {}, kwargs

    def __call__(  # type: ignore[override]
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **filters: Any
    ) -> Any:
        """Extract the relations of one document or of many.

        Args:
            inputs: One document or many; see the class.
            batch_size (`int`, *optional*): Documents that run at once.
            num_workers (`int`, *optional*): Taken for compatibility; reading documents is not what costs time.
            filters: `threshold`, `relations`, `top_k`, `head`, `tail`.

        Returns:
            `dict` for one document, `list[dict]` for a list, a generator of dicts for any other iterable.

        Raises:
            DocumentError: when an input is not a document; the message says which one, and what to pass.
            ValueError: when a filter is out of its range, names a relation that the model does not have, or an entity
                id that a document does not have. An entity name that no entity has gives no relations; of many
                documents most lack it, so only a document that is passed alone makes it a warning.
            TypeError: for a parameter that does not exist.
        """
        filters = {**self._postprocess_params, **self._sanitize_parameters(**filters)[2]}
        batch_size = self._choose_batch_size(batch_size)
        if isinstance(inputs, str | bytes | Mapping | Document):
            return next(self._run([inputs], batch_size, filters, alone=True))
        if isinstance(inputs, Sequence):
            return list(self._run(inputs, batch_size, filters))
        if isinstance(inputs, Iterable):
            return self._run(inputs, batch_size, filters)
        raise DocumentError(_not_a_document(inputs))

    def read_ahead(self, batch_size: int | None = None) -> int:
        """Return how many documents are read at once and sorted by length into batches, which never reach beyond them.

        Args:
            batch_size (`int`, *optional*): As when the pipeline is called.

        Raises:
            ValueError: when it is less than 1.
        """
        return self._choose_batch_size(batch_size) * _READ_AHEAD

    def _choose_batch_size(self, batch_size: int | None) -> int:
        if batch_size is None:
            batch_size = _BATCH_SIZE if self._batch_size is None else self._batch_size
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} runs nothing; pass 1 or more.")
        return batch_size

    def _run(
        self, inputs: Iterable[Any], batch_size: int, filters: dict[str, Any], *, alone: bool = False
    ) -> Iterator[dict[str, Any]]:
        numbered = enumerate(inputs)
        while chunk := list(itertools.islice(numbered, self.read_ahead(batch_size))):
            items = [self.preprocess(item, number) for number, item in chunk]
            if alone:
                _warn_of_names(items[0].document, filters)
            order = sorted(range(len(items)), key=lambda row: -len(items[row].features["input_ids"]))
            answers: list[dict[str, Any] | None] = [None] * len(items)
            for rows in _batches(order, items, batch_size):
                outputs = self.forward({"items": [items[row] for row in rows]})
                for row, answer in zip(rows, self.postprocess(outputs, **filters), strict=True):
                    answers[row] = answer
                del outputs
                if self.device.type == "cpu":
                    give_memory_back()
            yield from answers  # type: ignore[misc]

    def preprocess(self, inputs: Any, index: int = 0) -> _Item:  # type: ignore[override]
        """Turn one input into its document and features.

        Args:
            inputs: One document; see the class.
            index (`int`, *optional*, defaults to `0`): Its place in the inputs, for messages.
        """
        if isinstance(inputs, Document):
            document = inputs
        elif isinstance(inputs, str) or _has_text_alone(inputs):
            raise DocumentError(f"input {index}: {_WITHOUT_ENTITIES}{_HOW_TO_PASS}")
        elif isinstance(inputs, Mapping):
            try:
                document = read_dict(inputs, "pass Document.from_dict(..., strict=False) to skip it with a count")
            except DocumentError as error:
                raise DocumentError(f"input {index}: {error}") from None
        else:
            raise DocumentError(f"input {index}: {_not_a_document(inputs)}")
        # Gold relations play no part in extraction, so those that the model doesn't know don't matter here.
        features = self.processor([document], strict=False)[0]
        gave_text = isinstance(inputs, Mapping) and inputs.get("text") == document.text
        return _Item(document, features, gave_text)

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any], **_: Any
    ) -> dict[str, Any]:
        items = model_inputs["items"]
        batch = self.processor.collate([item.features for item in items])
        batch.pop("labels", None)
        outputs = self.model(
            **{name: tensor.to(self.device) for name, tensor in batch.items()},
            output_sentence_attention=self.model.config.evidence_threshold is not None,
        )
        return {"items": items, "outputs": outputs}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], **filters: Any
    ) -> list[dict[str, Any]]:
        """Turn the outputs of a batch into one JSON-ready dict per document."""
        items = model_outputs["items"]
        documents = [item.document for item in items]
        found = self.processor.decode(model_outputs["outputs"], documents, **filters)
        config = cast(DocREConfig, self.model.config)
        label = config.relation_label
        answers = []
        left_out = _left_out(model_outputs["outputs"], config, len(items))
        for item, relations, unrelated in zip(items, found, left_out, strict=True):
            document = item.document
            names = [entity.name for entity in document.entities]
            answer: dict[str, Any] = {
                "entities": _entities(document),
                "relations": [
                    {
                        "head": relation.head,
                        "tail": relation.tail,
                        "head_name": names[relation.head],
                        "tail_name": names[relation.tail],
                        "relation": relation.relation,
                        "label": label(relation.relation),
                        "score": relation.score,
                        "evidence": list(relation.evidence),
                    }
                    for relation in relations
                ],
                "sentences": [list(span) for span in document.sentence_spans],
                "coverage": _coverage(item.features["coverage"]) | unrelated,
            }
            if not item.gave_text:
                answer["text"] = document.text
            answers.append(answer)
        return answers

    def _save(
        self, save_directory: str | os.PathLike[str], *args: Any, include_code: bool = False, **kwargs: Any
    ) -> None:
        # Model and processor: the folder loads by `pipeline("docre", model=save_directory)`.
        self.model.save_pretrained(save_directory, *args, include_code=include_code, **kwargs)
        self.processor.save_pretrained(save_directory, is_main_process=kwargs.get("is_main_process", True))


def _warn_of_names(document: Document, filters: Mapping[str, Any]) -> None:
    for name, like in missing_names(document, (filters.get("head"), filters.get("tail"))).items():
        logger.warning(f"No entity of the document is named {name!r}, so there are no relations.{did_you_mean(like)}")


def read_dict(data: Mapping[str, Any], instead: str = "") -> Document:
    """Read a document for a caller who cannot pass `strict=False`, which the library's messages offer.

    Args:
        data (`Mapping`): A document, as [`Document.from_dict`] takes it.
        instead (`str`, *optional*): What to offer in its place; nothing when left out.

    Raises:
        DocumentError: when it cannot be read.
    """
    try:
        return Document.from_dict(data)
    except DocumentError as error:
        advice = f", or {instead}" if instead else ""
        raise DocumentError(str(error).replace(_OFFER, advice)) from None


def _has_text_alone(inputs: Any) -> bool:
    """Whether a dict is a text without entities; a table fills the keys that a row lacks with `None`."""
    if not isinstance(inputs, Mapping) or inputs.get("text") is None:
        return False
    return all(inputs.get(key) is None for key in ("entities", "sents", "vertexSet"))


def _not_a_document(inputs: Any) -> str:
    if type(inputs).__name__ == Document.__name__:
        return (
            "this Document is of another copy of the library than the pipeline. Import modeling_docre before the "
            "pipeline is built, or pass a dict."
        )
    return f"an object of type {type(inputs).__name__} is not a document. Pass one with its entities:\n{_HOW_TO_PASS}"


def _batches(order: list[int], items: list[_Item], batch_size: int) -> Iterator[list[int]]:
    """Cut the rows, the longest first, into batches of limited size."""
    batch: list[int] = []
    pairs = longest = 0
    for row in order:
        features = items[row].features
        more = len(features["pairs"])
        tokens = (len(batch) + 1) * longest
        full = len(batch) == batch_size or pairs + more > _PAIRS * batch_size or tokens > _TOKENS * batch_size
        if batch and full:
            yield batch
            batch, pairs = [], 0
        if not batch:
            longest = len(features["input_ids"])
        batch.append(row)
        pairs += more
    if batch:
        yield batch


def _entities(document: Document) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "name": entity.name,
            "type": entity.type,
            **({"ids": list(entity.ids)} if entity.ids else {}),
            "mentions": [
                {
                    "start": mention.start,
                    "end": mention.end,
                    "text": document.text[mention.start : mention.end],
                    "sentence": mention.sentence,
                }
                for mention in entity.mentions
            ],
        }
        for number, entity in enumerate(document.entities)
    ]


def _left_out(outputs: Any, config: DocREConfig, documents: int) -> list[dict[str, int]]:
    unrelated = outputs.get("pruned")
    if unrelated is None:
        return [{} for _ in range(documents)]
    # Others do not count as scored.
    counts = outputs.pairs[unrelated & pairs_read(outputs, config), 0].bincount(minlength=documents)
    return [{"pairs left out as unrelated": number} for number in counts.tolist()]


def _coverage(coverage: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in coverage.items() if not name.startswith("relations")}


# Loading from a checkpoint that brings its code asks this file for every class: see `remote_code.py`.
__all__ = ["DocREConfig", "DocREForRelationExtraction", "DocREModel", "DocREPipeline", "DocREProcessor"]
