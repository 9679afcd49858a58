"""`DocREProcessor`: documents to features to a padded batch, and model outputs back to relations."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from .configuration_docre import DocREConfig
from .documents import Document, DocumentError, Mention, Relation, read_documents
from .entity_filters import check_entity, is_entity
from .markers import load_saved_tokenizer, load_tokenizer, marker_of, marker_tokens
from .predicted_relations import find_relations
from .remote_code import Shareable, describe_other_checkpoint, has_code, looking_up


class DocREProcessor(Shareable, ProcessorMixin):  # type: ignore[misc]
    """Turns documents into model inputs and model outputs into relations.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The encoder's tokenizer, with the marker tokens.
        config ([`DocREConfig`]): The model's configuration: relations, types, markers, thresholds.

    Example:

    ```python
    processor = DocREProcessor.from_encoder("google-bert/bert-base-cased", config=model.config)
    features = processor(documents)
    outputs = model(**processor.collate(features), output_sentence_attention=True)
    relations = processor.decode(outputs, documents)
    ```
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: DocREConfig | None = None) -> None:
        super().__init__(tokenizer)
        self.config = config if config is not None else DocREConfig()

    @classmethod
    def from_encoder(
        cls, encoder: str | os.PathLike[str] | PreTrainedTokenizerBase, *, config: DocREConfig
    ) -> DocREProcessor:
        """Build the processor that goes with `DocREForRelationExtraction.from_encoder(encoder, ...)`.

        Args:
            encoder (`str`, `os.PathLike` or `PreTrainedTokenizerBase`):
                Folder or Hub id of the encoder, or its tokenizer.
            config ([`DocREConfig`]): `model.config`; the processor shares it, so a threshold tuned later counts.
        """
        return cls(load_tokenizer(encoder, config), config)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> DocREProcessor:
        """Load tokenizer and configuration from a checkpoint of this library."""
        kwargs.pop("trust_remote_code", None)
        known = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
        kwargs = {key: value for key, value in kwargs.items() if key in known}
        with looking_up(pretrained_model_name_or_path):
            found, _ = DocREConfig.get_config_dict(pretrained_model_name_or_path, **kwargs)
        if found.get("model_type") != DocREConfig.model_type:
            name = str(pretrained_model_name_or_path)
            start = f'DocREProcessor.from_encoder("{name}", config=model.config)'
            raise ValueError(describe_other_checkpoint(name, found.get("model_type"), start))
        config = DocREConfig.from_pretrained(pretrained_model_name_or_path, **kwargs)
        tokenizer = load_saved_tokenizer(pretrained_model_name_or_path, config, **kwargs)
        return cls(tokenizer, config)

    def _save(
        self, save_directory: str | os.PathLike[str], *args: Any, include_code: bool = False, **kwargs: Any
    ) -> None:
        if not kwargs.pop("is_main_process", True):
            return
        # The tokenizer, and the configuration where no model saved it before; with code where the model has it.
        if not (Path(save_directory) / "config.json").exists():
            self.config.save_pretrained(save_directory)
        super()._save(save_directory, *args, include_code=include_code or has_code(save_directory), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return what `processor_config.json` holds: the class alone, since the settings live in `config.json`."""
        return {"processor_class": type(self).__name__}

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that [`~DocREProcessor.collate`] makes."""
        return [
            "input_ids",
            "attention_mask",
            "mentions",
            "pairs",
            "num_entities",
            "entity_types",
            "sentence_ids",
            "labels",
            "teacher_logits",
        ]

    def __call__(  # type: ignore[override]
        self, documents: Document | Mapping[str, Any] | Iterable[Document | Mapping[str, Any]], *, strict: bool = True
    ) -> list[dict[str, Any]]:
        """Turn documents into features, plain Python and one dict each.

        Args:
            documents ([`Document`] or `dict`, or iterable of them):
                Documents, of any length; dicts as [`Document.from_dict`] takes them.
            strict (`bool`, *optional*, defaults to `True`):
                Raise for a gold relation that the model does not know; otherwise skip and count it.

        Returns:
            `list[dict]` with, for each document: `input_ids` `(tokens,)`; `mentions` `(num_mentions, 2)`, entity and
            token of the opening marker, special tokens counted; `num_entities`; `pairs` `(num_pairs, 2)`;
            `entity_types` `(entities,)`; `sentence_ids` `(tokens,)`; `labels`, rows of `(pair, class)`, where the
            document is labelled; `coverage`, what a limit or a filter left out.

        Raises:
            DocumentError: for a relation that the model does not know, and for nonsense in a dict.
        """
        items = [documents] if isinstance(documents, Document | Mapping) else documents
        return [self._features(document, index, strict) for index, document in enumerate(read_documents(items))]

    def _features(self, document: Document, index: int, strict: bool) -> dict[str, Any]:
        config, limit = self.config, self.config.max_length
        content, sentence_ids, opened = self._tokens(document)
        start, end = self._special_ids()
        total = len(content) + 2
        if limit is not None and total > limit:
            content, sentence_ids = content[: limit - 2], sentence_ids[: limit - 2]
        mentions = [
            [number, opened[mention.sentence, mention.words[0]] + 1]
            for number, entity in enumerate(document.entities)
            for mention in entity.mentions
        ]
        type_ids = config.type_ids
        pairs = self._pairs(document)
        skipped = config.unread_tokens(len(content) + 2)
        read = [entity for entity, token in mentions if token <= len(content) and token not in skipped]
        features: dict[str, Any] = {
            "input_ids": [start, *content, end],
            "mentions": mentions,
            "num_entities": len(document.entities),
            "pairs": pairs,
            "entity_types": [type_ids.get(entity.type or "", 0) for entity in document.entities],
            "sentence_ids": [-1, *sentence_ids, -1],
            "coverage": {
                "tokens": total,
                "tokens_read": len(content) + 2 - len(skipped),
                "mentions": len(mentions),
                "mentions_read": len(read),
                "entities": len(document.entities),
                "entities_read": len(set(read)),
                "pairs": len(document.entities) * (len(document.entities) - 1),
                "pairs_scored": len(pairs) if config.window_mode == "reference" else self._count_read(pairs, read),
                **dict(document.repairs),
            },
        }
        unknown = sum(bool(entity.type) and entity.type not in type_ids for entity in document.entities)
        if config.reads_entity_types and unknown:
            features["coverage"]["entities of unknown type"] = unknown
        if document.relations is not None:
            labels, lost = self._labels(document, index, pairs, strict)
            features["labels"] = labels
            features["coverage"] |= {"relations": len(document.relations), **lost}
            gold = [pairs[row] for row, _ in labels]
            if unread := len(gold) - self._count_read(gold, read):
                features["coverage"]["relations of entities that were not read"] = unread
        return features

    @staticmethod
    def _count_read(pairs: Sequence[tuple[int, int]], read: Iterable[int]) -> int:
        entities = set(read)
        return sum(head in entities and tail in entities for head, tail in pairs)

    def _tokens(self, document: Document) -> tuple[list[int], list[int], dict[tuple[int, int], int]]:
        """Token ids and sentences with markers, and where each mention's opening marker is."""
        opening: dict[tuple[int, int], Mention] = {}
        closing: dict[tuple[int, int], Mention] = {}
        for entity in document.entities:
            for mention in entity.mentions:
                opening.setdefault((mention.sentence, mention.words[0]), mention)
                closing.setdefault((mention.sentence, mention.words[1] - 1), mention)
        words = document.words
        ids = self._word_ids({word for sentence in words for word in sentence})
        markers = {token: self.tokenizer.convert_tokens_to_ids(token) for token in marker_tokens(self.config)}
        tokens: list[int] = []
        sentences: list[int] = []
        opened: dict[tuple[int, int], int] = {}
        for number, sentence in enumerate(words):
            for position, word in enumerate(sentence):
                place = (number, position)
                if place in opening:
                    opened[place] = len(tokens)
                    tokens.append(markers[marker_of(opening[place].type, self.config, closing=False)])
                tokens.extend(ids[word])
                if place in closing:
                    tokens.append(markers[marker_of(closing[place].type, self.config, closing=True)])
            sentences.extend([number] * (len(tokens) - len(sentences)))
        return tokens, sentences, opened

    def _word_ids(self, words: set[str]) -> dict[str, list[int]]:
        # Words one by one and without the space before them, as the published readers do.
        if not words:
            return {}
        known = sorted(words)
        encoded = self.tokenizer(
            known, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )
        return dict(zip(known, encoded["input_ids"], strict=True))

    def _special_ids(self) -> tuple[int, int]:
        tokenizer = self.tokenizer
        start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
        end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        if start is None or end is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no start or end token (cls/bos, sep/eos), which an encoder needs; "
                "set them on the tokenizer."
            )
        return start, end

    def _pairs(self, document: Document) -> list[tuple[int, int]]:
        number = len(document.entities)
        pairs = list(document.pairs) if document.pairs is not None else list(itertools.permutations(range(number), 2))
        if self.config.pair_types is None:
            return pairs
        allowed = {tuple(pair) for pair in self.config.pair_types}
        types = [entity.type for entity in document.entities]
        return [(head, tail) for head, tail in pairs if (types[head], types[tail]) in allowed]

    def _labels(
        self, document: Document, index: int, pairs: list[tuple[int, int]], strict: bool
    ) -> tuple[list[tuple[int, int]], dict[str, int]]:
        rows = {pair: row for row, pair in enumerate(pairs)}
        labels: dict[tuple[int, int], None] = {}
        unknown = outside = 0
        known = set(self.config.relations)
        for relation in document.relations or ():
            # Asked before the error is made: its suggestions take milliseconds.
            if not strict and relation.relation not in known:
                unknown += 1
                continue
            try:
                class_id = self.config.class_of(relation.relation)
            except ValueError as error:
                name = f"document {document.title!r}" if document.title else f"document {index}"
                raise DocumentError(f"{name}: {error}") from None
            row = rows.get((relation.head, relation.tail))
            if row is None:
                outside += 1
            else:
                labels[row, class_id] = None
        lost = {"relations unknown to the model": unknown, "relations outside the candidate pairs": outside}
        return list(labels), {cause: count for cause, count in lost.items() if count}

    def collate(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Pad features to one batch of model inputs.

        Args:
            features (`Sequence[dict]`):
                From [`~DocREProcessor.__call__`]; `teacher_logits` `(num_pairs, num_classes)` may have been added.

        Returns:
            `dict` of the tensors that `DocREForRelationExtraction.forward` takes; `labels` and `teacher_logits` only
            when every document has them.

        Raises:
            ValueError: when there are no features, or some documents have `teacher_logits` and others do not.
        """
        if not features:
            raise ValueError("There is nothing to collate: the list of features is empty.")
        batch, longest = len(features), max(len(item["input_ids"]) for item in features)
        input_ids = torch.full((batch, longest), self.tokenizer.pad_token_id or 0, dtype=torch.long)
        attention_mask = torch.zeros(batch, longest, dtype=torch.long)
        sentence_ids = torch.full((batch, longest), -1, dtype=torch.long)
        most = max(item["num_entities"] for item in features)
        entity_types = torch.zeros(batch, most, dtype=torch.long)
        mentions, pairs = [], []
        for row, item in enumerate(features):
            length = len(item["input_ids"])
            input_ids[row, :length] = torch.tensor(item["input_ids"])
            attention_mask[row, :length] = 1
            sentence_ids[row, :length] = torch.tensor(item["sentence_ids"])
            entity_types[row, : item["num_entities"]] = torch.tensor(item["entity_types"], dtype=torch.long)
            # Published code lets the first cut-off mention read the end token.
            reach = length - (self.config.window_mode != "reference")
            mentions.append(_with_document(row, [item for item in item["mentions"] if item[1] < reach]))
            pairs.append(_with_document(row, item["pairs"]))
        collated = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "mentions": torch.cat(mentions),
            "pairs": torch.cat(pairs),
            "num_entities": torch.tensor([item["num_entities"] for item in features]),
            "entity_types": entity_types,
            "sentence_ids": sentence_ids,
        }
        if all("labels" in item for item in features):
            collated["labels"] = self._label_table(features, len(collated["pairs"]))
        taught = [item["teacher_logits"] for item in features if "teacher_logits" in item]
        if taught:
            if len(taught) < len(features):
                raise ValueError(
                    f"{len(taught)} of {len(features)} documents have teacher_logits, and a batch learns from a "
                    "teacher as a whole. Pass them for all documents, or for none."
                )
            collated["teacher_logits"] = torch.cat(taught)
        return collated

    def _label_table(self, features: Sequence[dict[str, Any]], num_pairs: int) -> Tensor:
        labels = torch.zeros(num_pairs, self.config.num_classes)
        first = 0
        for item in features:
            if item["labels"]:
                rows, classes = torch.tensor(item["labels"]).unbind(1)
                labels[first + rows, classes] = 1.0
            first += len(item["pairs"])
        labels[:, 0] = (labels.sum(1) == 0).float()
        return labels

    def decode(
        self,
        outputs: Any,
        documents: Sequence[Document],
        *,
        threshold: float | None = None,
        relations: Iterable[str] | str | None = None,
        top_k: int | None = None,
        head: int | str | None = None,
        tail: int | str | None = None,
    ) -> list[list[Relation]]:
        """Turn model outputs into relations, the best first.

        Args:
            outputs ([`DocRERelationOutput`]):
                `logits` and `pairs` are read; and `entities_read`, where there is one: nothing is known of an entity
                without a mention in reach, so it has no relations (in `reference` mode it has, as published).
            documents (`Sequence[Document]`): The documents of the batch, in its order.
            threshold (`float`, *optional*):
                Probability above which a relation is returned; the model's own decision when left out.
            relations (`Iterable[str]` or `str`, *optional*): Keep these relations, by id or words, in any case.
            top_k (`int`, *optional*): Keep at most this many relations of a document.
            head (`int` or `str`, *optional*): Keep relations from this entity, by id or by one of its names.
            tail (`int` or `str`, *optional*): Keep relations to this entity, likewise.

        Returns:
            `list[list[Relation]]`, a list for each document. A relation's `score` is a probability: the sigmoid of
            its logit minus the threshold class's (of the logit alone without a threshold class). Its `evidence` are
            the sentences above `config.evidence_threshold` in `outputs.sentence_attention`, where there is one.

        Raises:
            ValueError: for logits that are not finite, documents that are not those of the batch, an unknown
                relation, or a filter out of range.
        """
        wanted = self._wanted(relations)
        if threshold is not None and not (isinstance(threshold, int | float) and 0.0 <= threshold <= 1.0):
            raise ValueError(f"threshold={threshold!r} is not a probability; pass a number from 0 to 1.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k={top_k} keeps nothing; pass 1 or more, or leave it out.")
        logits, pairs, config = outputs.logits.detach().float(), outputs.pairs, self.config
        if not bool(torch.isfinite(logits).all()):
            raise ValueError(
                "The model's logits are not finite: its weights hold NaN or infinite values; load others."
            )
        if len(pairs) and int(pairs[:, 0].max()) >= len(documents):
            raise ValueError(
                f"The outputs are of {int(pairs[:, 0].max()) + 1} documents or more, but {len(documents)} were given; "
                "pass the documents of the batch, in its order."
            )
        for document in documents:
            for wanted_entity in (head, tail):
                check_entity(document, wanted_entity)
        found = find_relations(outputs, logits, config, config.threshold if threshold is None else threshold)
        kept = [
            [
                relation
                for relation, _ in found.get(number, ())
                if relation.relation in wanted
                and is_entity(document, relation.head, head)
                and is_entity(document, relation.tail, tail)
            ]
            for number, document in enumerate(documents)
        ]
        return [items[:top_k] for items in kept]

    def _wanted(self, relations: Iterable[str] | str | None) -> set[str]:
        """Ids of the relations that a filter lets pass."""
        if relations is None:
            return set(self.config.relations)
        names = [relations] if isinstance(relations, str) else relations
        return {self.config.relation_id(name) for name in names}


def _with_document(document: int, rows: Sequence[Sequence[int]]) -> Tensor:
    table = torch.tensor(rows, dtype=torch.long).view(-1, 2)
    return torch.cat([torch.full((len(table), 1), document), table], 1)


__all__ = ["DocREProcessor"]
