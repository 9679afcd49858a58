"""The `docre` pipeline: documents in, their relations out, as plain JSON."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from transformers import Pipeline

from modeling_docre.documents import Document, DocumentError
from modeling_docre.processing_docre import DocREProcessor

# Documents that are read ahead and sorted by length, per document of a batch.
_READ_AHEAD = 16
_BATCH_SIZE = 8
# Pairs of a batch, whatever its number of documents; one document may have more.
_MAX_PAIRS = 16384

_FILTERS = ("threshold", "relations", "top_k", "head", "tail")
_HOW_TO_PASS_ENTITIES = (
    "The text comes without entities, and this model relates entities that are given. Mark them:\n"
    '    pipe({"text": "Ada lived in London.", "entities": [\n'
    '        {"type": "PER", "mentions": [{"start": 0, "end": 3}]},\n'
    '        {"type": "LOC", "mentions": [{"start": 13, "end": 19}]}]})\n'
    "or by hand, inside the text:\n"
    '    pipe(Document.from_markup("[Ada](:PER) lived in [London](:LOC)."))'
)


class DocREPipeline(Pipeline):
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
    - `text`: where only tokens were given, the text that joins them, which the offsets count in.

    Args at call time, or when the pipeline is built:
        threshold (`float`, *optional*): Probability above which a relation is returned; the model's own by default.
        relations (`list[str]`, *optional*): Return only these relations, by id or by words.
        top_k (`int`, *optional*): Return at most this many relations of a document.
        head, tail (`int` or `str`, *optional*): Return only relations of this entity, by id or name.
        batch_size (`int`, *optional*, defaults to `8`): Documents that run at once; they are sorted by length inside.
    """

    _load_tokenizer = False
    _load_processor = True
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.processor, DocREProcessor):
            raise ValueError(
                "The pipeline needs a DocREProcessor: pass processor=DocREProcessor.from_pretrained(FOLDER), or "
                "processor=DocREProcessor.from_encoder(ENCODER, config=model.config) for a model made by from_encoder."
            )
        self.processor.config = self.model.config
        self.model.eval()

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = set(kwargs) - set(_FILTERS)
        if unknown:
            raise TypeError(
                f"The docre pipeline has no parameter {', '.join(sorted(unknown))}; it has {', '.join(_FILTERS)}, "
                "batch_size."
            )
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
            DocumentError: when an input is not a document; the message says what to pass.
        """
        filters = {**self._postprocess_params, **self._sanitize_parameters(**filters)[2]}
        size = batch_size or self._batch_size or _BATCH_SIZE
        if isinstance(inputs, (str, Mapping, Document)):
            return next(self._run([inputs], size, filters))
        if isinstance(inputs, Sequence):
            return list(self._run(inputs, size, filters))
        if isinstance(inputs, Iterable):
            return self._run(inputs, size, filters)
        raise DocumentError(f"A {type(inputs).__name__} is not a document. {_HOW_TO_PASS_ENTITIES}")

    def _run(self, inputs: Iterable[Any], batch_size: int, filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        numbered = enumerate(inputs)
        while chunk := list(itertools.islice(numbered, batch_size * _READ_AHEAD)):
            items = [self.preprocess(item, number) for number, item in chunk]
            order = sorted(range(len(items)), key=lambda row: -len(items[row]["features"]["input_ids"]))
            answers: list[dict[str, Any] | None] = [None] * len(items)
            for rows in _batches(order, items, batch_size):
                outputs = self.forward({"items": [items[row] for row in rows]})
                for row, answer in zip(rows, self.postprocess(outputs, **filters), strict=True):
                    answers[row] = answer
            yield from answers  # type: ignore[misc]

    def preprocess(self, inputs: Any, index: int = 0) -> dict[str, Any]:  # type: ignore[override]
        """Turn one input into its document and features.

        Args:
            inputs: One document; see the class.
            index (`int`, *optional*, defaults to `0`): Its place in the inputs, for messages.
        """
        if isinstance(inputs, str) or (isinstance(inputs, Mapping) and "text" in inputs and "entities" not in inputs):
            raise DocumentError(f"input {index}: {_HOW_TO_PASS_ENTITIES}")
        if isinstance(inputs, Document):
            document = inputs
        elif isinstance(inputs, Mapping):
            try:
                document = Document.from_dict(inputs)
            except DocumentError as error:
                raise DocumentError(f"input {index}: {error}") from None
        else:
            raise DocumentError(f"input {index}: a {type(inputs).__name__} is not a document. {_HOW_TO_PASS_ENTITIES}")
        # Gold relations play no part in extraction, so those that the model doesn't know don't matter here.
        features = self.processor([document], strict=False)[0]
        return {"document": document, "features": features, "gave_text": _gave_text(inputs)}

    def _forward(self, model_inputs: dict[str, Any], **_: Any) -> dict[str, Any]:
        items = model_inputs["items"]
        batch = self.processor.collate([item["features"] for item in items])
        batch.pop("labels", None)
        outputs = self.model(**{name: tensor.to(self.device) for name, tensor in batch.items()})
        return {"items": items, "outputs": outputs}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], **filters: Any
    ) -> list[dict[str, Any]]:
        """Turn the outputs of a batch into one JSON-ready dict per document."""
        items = model_outputs["items"]
        documents = [item["document"] for item in items]
        found = self.processor.decode(model_outputs["outputs"], documents, **filters)
        label = self.model.config.relation_label
        answers = []
        for item, relations in zip(items, found, strict=True):
            document: Document = item["document"]
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
                "coverage": _coverage(item["features"]["coverage"]),
            }
            if not item["gave_text"]:
                answer["text"] = document.text
            answers.append(answer)
        return answers

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save model and processor. The folder loads by `pipeline("docre", model=save_directory)`."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _gave_text(inputs: Any) -> bool:
    return isinstance(inputs, Document) or "text" in inputs


def _batches(order: list[int], items: list[dict[str, Any]], batch_size: int) -> Iterator[list[int]]:
    batch: list[int] = []
    pairs = 0
    for row in order:
        more = len(items[row]["features"]["pairs"])
        if batch and (len(batch) == batch_size or pairs + more > _MAX_PAIRS):
            yield batch
            batch, pairs = [], 0
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


def _coverage(coverage: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in coverage.items() if not name.startswith("relations")}


__all__ = ["DocREPipeline"]
