"""Which relations a training augments, and altered texts: what ERA's paper compares itself with (section 5.4)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .configuration_docre import DocREConfig
from .documents import Document, Mention
from .metrics.docred.measures import DOCRED_FACTS
from .training_arguments import DocRETrainingArguments

FEW_FACTS = 500
"""Training facts of DocRED below which a relation counts as a tail relation in Macro@500 (ERA, section 5.2)."""


def relations_to_augment(
    config: DocREConfig, args: DocRETrainingArguments, documents: Sequence[Document]
) -> tuple[list[str], int | None]:
    """
    The relations that a training augments: those that the config names, or those with few facts.

    Args:
        config ([`DocREConfig`]): `relations` and `era_relations` are read.
        args ([`DocRETrainingArguments`]): `era_max_facts` and `era_scale_facts` are read.
        documents (`Sequence[Document]`): The training documents.

    Returns:
        `tuple[list[str], int | None]`: Their ids in class order, and the number of facts that each has fewer than;
        `None` where the config names them and no argument asks for others.
    """
    if config.era_relations is not None and args.era_max_facts is None and not args.era_scale_facts:
        return list(config.era_relations), None
    counts = Counter(relation.relation for document in documents for relation in document.relations or ())
    limit: float = FEW_FACTS if args.era_max_facts is None else args.era_max_facts
    if args.era_scale_facts:
        limit *= sum(counts.values()) / DOCRED_FACTS
    # Of whole numbers the same are below.
    limit = math.ceil(limit)
    return [name for name in config.relations if counts[name] < limit], limit


def alter_text(
    document: Document, form: str, probability: float, generator: np.random.Generator, *, mask_token: str = "[MASK]"
) -> Document:
    """
    A copy of a document in which words outside of mentions are deleted or masked at random, each by itself.

    Args:
        document (`Document`): Any document.
        form (`str`): `"deletion"` takes words away (Wei and Zou, 2019), `"mask"` puts one mask token in their place.
        probability (`float`): That of a word.
        generator (`numpy.random.Generator`): What to draw with.
        mask_token (`str`, *optional*, defaults to `"[MASK]"`): That of the tokenizer.

    Returns:
        `Document`: With the same entities, pairs and relations, and its words joined by single spaces. A sentence may
        be left without words.
    """
    named = {
        (mention.sentence, position)
        for entity in document.entities
        for mention in entity.mentions
        for position in range(*mention.words)
    }
    kept: list[str] = []
    sentences: list[tuple[tuple[int, int], ...]] = []
    places: dict[tuple[int, int], int] = {}
    end = -1
    for number, words in enumerate(document.words):
        spans: list[tuple[int, int]] = []
        for position, chance in enumerate(generator.random(len(words))):
            word = words[position]
            if (number, position) in named:
                places[number, position] = len(spans)
            elif chance < probability:
                if form == "deletion":
                    continue
                word = mask_token
            start, end = end + 1, end + 1 + len(word)
            spans.append((start, end))
            kept.append(word)
        sentences.append(tuple(spans))

    def moved(mention: Mention) -> Mention:
        first, last = (places[mention.sentence, position] for position in (mention.words[0], mention.words[1] - 1))
        spans = sentences[mention.sentence]
        return replace(mention, start=spans[first][0], end=spans[last][1], words=(first, last + 1))

    entities = tuple(replace(one, mentions=tuple(map(moved, one.mentions))) for one in document.entities)
    return replace(document, text=" ".join(kept), sentences=tuple(sentences), entities=entities)


@dataclass(frozen=True)
class AlteredTexts:
    """
    Altered copies of training documents, other ones in each epoch.

    Args:
        sources (`tuple[int, ...]`): The document that each of an epoch's copies is of.
        form (`str`): As for [`alter_text`].
        probability (`float`): As for [`alter_text`].
        mask_token (`str`): As for [`alter_text`].
        seed (`int`): What the draws start from, besides the copy's number.
    """

    sources: tuple[int, ...]
    form: str
    probability: float
    mask_token: str
    seed: int

    def make(self, documents: Sequence[Document], number: int) -> Document:
        """
        The copy of a number, which goes on counting from epoch to epoch; the same in any process and order.

        Args:
            documents (`Sequence[Document]`): The training documents.
            number (`int`): The copy's number.

        Returns:
            `Document`: The altered document.
        """
        source = documents[self.sources[number % len(self.sources)]]
        generator = np.random.default_rng([self.seed, number, 2])
        return alter_text(source, self.form, self.probability, generator, mask_token=self.mask_token)


def altered_texts(
    config: DocREConfig, args: DocRETrainingArguments, documents: Sequence[Document], mask_token: str | None
) -> AlteredTexts | None:
    """
    The altered texts that a training adds to its documents.

    Args:
        config ([`DocREConfig`]): As for [`relations_to_augment`].
        args ([`DocRETrainingArguments`]): `text_augmentation`, its probability and copies, and the seed are read.
        documents (`Sequence[Document]`): The training documents.
        mask_token (`str`, *optional*): The tokenizer's.

    Returns:
        `AlteredTexts` or `None`: Copies of the documents that hold a fact of [`relations_to_augment`]; `None` where
        there are none.

    Raises:
        ValueError: If words are to be masked, and the tokenizer has no token for it.
    """
    if args.text_augmentation is None:
        return None
    if args.text_augmentation == "mask" and mask_token is None:
        raise ValueError(
            "text_augmentation='mask' needs a mask token, which the tokenizer hasn't got: pass 'deletion', or set "
            "processor.tokenizer.mask_token."
        )
    relations = set(relations_to_augment(config, args, documents)[0])
    sources = [
        index
        for index, document in enumerate(documents)
        if any(fact.relation in relations for fact in document.relations or ())
    ]
    if not sources:
        return None
    return AlteredTexts(
        tuple(sources * args.text_augmentation_copies),
        args.text_augmentation,
        args.text_augmentation_probability,
        mask_token or "",
        args.seed if args.data_seed is None else args.data_seed,
    )


__all__ = ["FEW_FACTS", "AlteredTexts", "alter_text", "altered_texts", "relations_to_augment"]
