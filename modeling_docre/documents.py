"""
Documents: text, sentences, words, entities with mentions, and relations. The one place that checks what comes in.

A `Document` never changes. Its characters are the truth: words, sentences and mentions are spans of `Document.text`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .docred_format import read_docred
from .document_checks import check_document
from .document_parts import DocumentError, Entity, Mention, Reading, Relation, name_document, show
from .document_reading import document_form, join_spans, published_as, say_published
from .markup import format_markup, parse_markup
from .text_format import read_text

__all__ = ["Document", "DocumentError", "Entity", "Mention", "Relation", "count_repairs", "read_documents"]

_FORMS = (
    'Pass {"text": "Ada lived in London.", "entities": [{"name": "Ada", "type": "PER", "mentions": [{"start": 0, '
    '"end": 3}]}]}, or a DocRED dict with "title", "sents" and "vertexSet"'
)


@dataclass(frozen=True)
class Document:
    """
    A text with its sentences, words, entities and, where it is labelled, relations.

    Make one with [`Document.from_text`], [`Document.from_markup`], [`Document.from_docred`] or
    [`Document.from_dict`]; these repair what is known to occur in public data and count it in `repairs`. A document
    that is built by hand is checked and never repaired.

    Args:
        title (`str`): Key of the document; may be empty.
        text (`str`): All characters of the document.
        sentences (`tuple[tuple[tuple[int, int], ...], ...]`):
            The `[start, end)` characters of every word of every sentence, in order. A sentence may be empty, and a
            word may cover white space or nothing: public data has such words, and word positions count them.
        entities (`tuple[Entity, ...]`, *optional*, defaults to `()`): The entities; their order is their identity.
        relations (`tuple[Relation, ...]`, *optional*):
            The facts of a labelled document; `None` for an unlabelled one, `()` for one without facts.
        pairs (`tuple[tuple[int, int], ...]`, *optional*):
            The candidate pairs `(head, tail)`; `None` stands for all ordered pairs of two different entities.
        repairs (`tuple[tuple[str, int], ...]`, *optional*, defaults to `()`):
            `(cause, count)` of what reading repaired or skipped. Not part of equality.

    Raises:
        DocumentError: If a part contradicts another, such as a mention outside its sentence.

    Example:
    ```python
    >>> from modeling_docre import Document

    >>> document = Document.from_markup("[Ada](ada:PER) lived in [London](:LOC). [She](ada) loved it.")
    >>> [entity.name for entity in document.entities]
    ['Ada', 'London']
    ```
    """

    title: str
    text: str
    sentences: tuple[tuple[tuple[int, int], ...], ...]
    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] | None = None
    pairs: tuple[tuple[int, int], ...] | None = None
    repairs: tuple[tuple[str, int], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        check_document(self)

    @property
    def words(self) -> list[list[str]]:
        """The words of every sentence."""
        return [[self.text[start:end] for start, end in sentence] for sentence in self.sentences]

    @property
    def sentence_spans(self) -> list[tuple[int, int]]:
        """The `[start, end)` characters of every sentence; an empty one is a point at the end of the one before."""
        return join_spans(self.sentences)

    @classmethod
    def from_docred(
        cls, data: Mapping[str, Any], *, strict: bool = True, keep_duplicate_mentions: bool = False
    ) -> Document:
        """
        Read a dict in DocRED's form; `text` becomes all words joined by single spaces.

        Repaired and counted in `repairs`: mentions of one entity on the same words (the first stays), label rows of
        the same fact (their evidence is united), evidence that is `None`, repeated evidence. Kept and counted: empty
        sentences, entities with an empty list of mentions, two entities on one span. The order of entities and
        mentions never changes, mention names are kept as given, and an entity takes name and type of its mention with
        the longest name (the first on ties).

        Args:
            data (`Mapping`):
                `title`, `sents` (lists of words), `vertexSet` (per entity a list of mentions with `sent_id`, `pos`
                and, if known, `name`, `type` and the entity's `id`), optionally `labels` (rows of `h`, `t`, `r` and,
                if known, `evidence` and `score`; missing or `None` for an unlabelled document) and `pairs`
                (`[head, tail]` candidates).
            strict (`bool`, *optional*, defaults to `True`):
                Whether nonsense, such as a mention outside its sentence, is an error. If `False` it is skipped and
                counted; an entity that loses all its mentions keeps its place, a word that is no string becomes an
                empty word.
            keep_duplicate_mentions (`bool`, *optional*, defaults to `False`):
                Whether an entity keeps several mentions on the same words, as the published code does.

        Returns:
            `Document`: The document.

        Raises:
            DocumentError: On nonsense if `strict`; always on something that is not a dict or has no words.
        """
        return _read(cls, data, "sents", "document", strict, keep_duplicate_mentions)

    @classmethod
    def from_text(
        cls,
        text: str,
        entities: Sequence[Mapping[str, Any] | Entity] = (),
        *,
        title: str = "",
        relations: Sequence[Mapping[str, Any] | Relation] | None = None,
        pairs: Sequence[Sequence[int]] | None = None,
        sentences: Sequence[Sequence[int]] | None = None,
        strict: bool = True,
    ) -> Document:
        """
        Read a plain text with entities at character offsets.

        The edges of mentions are edges of words, and no sentence ends inside a mention. White space at the edges of
        a mention is allowed.

        Args:
            text (`str`): The document.
            entities (sequence of `dict`, *optional*, defaults to `()`):
                `{"name"?, "type"?, "id"?, "mentions": [{"start", "end", "name"?, "type"?}]}` with character offsets,
                end exclusive. A name may be a canonical one that the text never uses. A mention without the key
                `type` has its entity's; an entity without it has that of its longest mention. `id` is what a
                knowledge base calls the entity, or a list of such; a number there is none. Other keys are ignored.
            title (`str`, *optional*, defaults to `""`): Key of the document.
            relations (sequence of `dict` or `Relation`, *optional*):
                `{"head", "tail", "relation", "evidence"?}`, head and tail being positions in `entities`. `None` for
                an unlabelled document.
            pairs (sequence of `[head, tail]`, *optional*): The candidate pairs; `None` for all.
            sentences (sequence of `[start, end]`, *optional*):
                Character offsets of the sentences, in order; together they hold all text but white space. Found by
                [`split_sentences`] if not given.
            strict (`bool`, *optional*, defaults to `True`):
                Whether nonsense is an error; if `False` it is skipped and counted in `repairs`.

        Returns:
            `Document`: The document.

        Raises:
            DocumentError: On nonsense if `strict`; always on an empty text.

        Example:
        ```python
        >>> from modeling_docre import Document

        >>> ada = {"name": "Ada", "type": "PER", "mentions": [{"start": 0, "end": 3}]}
        >>> Document.from_text("Ada lived in London.", [ada]).words
        [['Ada', 'lived', 'in', 'London', '.']]
        ```
        """
        data = {
            "text": text,
            "entities": entities,
            "title": title,
            "relations": relations,
            "pairs": pairs,
            "sentences": sentences,
        }
        return _read(cls, data, "text", "document", strict)

    @classmethod
    def from_markup(cls, string: str, *, title: str = "", strict: bool = True) -> Document:
        """
        Read text with inline markup: `"[Ada](ada:PER) lived in [London](:LOC). [She](ada) loved it."`.

        Args:
            string (`str`): Text in which mentions are written `[words](key:TYPE)`; see [`parse_markup`].
            title (`str`, *optional*, defaults to `""`): Key of the document.
            strict (`bool`, *optional*, defaults to `True`): As for [`Document.from_text`].

        Returns:
            `Document`: The document; its `text` is without the markup.

        Raises:
            DocumentError: If the markup is broken, or the text is empty.
        """
        try:
            text, entities = parse_markup(string)
        except DocumentError as error:
            raise DocumentError(f"{name_document(title, 'document')}: {error}") from None
        return cls.from_text(text, entities, title=title, strict=strict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, strict: bool = True) -> Document:
        """
        Read either dict form: with a `text`, as [`Document.to_dict`] writes it, or with DocRED's `sents`.

        Args:
            data (`Mapping`): The document; `vertexSet` without `entities` marks DocRED's form where both could be.
            strict (`bool`, *optional*, defaults to `True`): As for [`Document.from_text`].

        Returns:
            `Document`: The document.

        Raises:
            DocumentError: If the dict has neither form, and as for the form that it has.
        """
        return _from_dict(cls, data, "document", strict)

    def to_docred(self) -> dict[str, Any]:
        """
        Write DocRED's form: `title`, `sents`, `vertexSet`, and `labels` where the document is labelled.

        Reading it again gives an equal document if this one came from that form (with `keep_duplicate_mentions=True`
        where it was read so). For other documents the text becomes the words joined by spaces, and an entity's own
        name and type give way to those of its longest mention.

        Returns:
            `dict`: Plain JSON; `pairs` is present if the document has candidate pairs, `score` if a fact has one,
            `id` in the first mention of an entity that has ids.
        """
        vertices: list[list[dict[str, Any]]] = [
            [
                {"name": mention.name, "sent_id": mention.sentence, "pos": list(mention.words), "type": mention.type}
                for mention in entity.mentions
            ]
            for entity in self.entities
        ]
        for entity, mentions in zip(self.entities, vertices, strict=True):
            if mentions:
                mentions[0].update(_write_ids(entity))
        data: dict[str, Any] = {"title": self.title, "sents": self.words, "vertexSet": vertices}
        if self.relations is not None:
            data["labels"] = [_write_relation(relation, ("h", "t", "r")) for relation in self.relations]
        if self.pairs is not None:
            data["pairs"] = [list(pair) for pair in self.pairs]
        return data

    def to_dict(self) -> dict[str, Any]:
        """
        Write the text form: `title`, `text`, `sentences`, `entities`, and `relations` where the document is labelled.

        Reading it again gives an equal document if this one came from text or markup. Words are not written, they are
        found again: a document in DocRED's words keeps its text, sentences, entities and relations this way, while
        its words may become other ones (`to_docred` keeps them).

        Returns:
            `dict`: Plain JSON. A mention has `name` and `type` only where they differ from the text that it covers
            and from the entity's type (`None` for a mention without one); `pairs` is present if the document has
            candidate pairs, `id` if an entity has ids.
        """
        data: dict[str, Any] = {
            "title": self.title,
            "text": self.text,
            "sentences": [list(span) for span in self.sentence_spans],
            "entities": [
                {
                    "name": entity.name,
                    "type": entity.type,
                    **_write_ids(entity),
                    "mentions": [self._write_mention(mention, entity) for mention in entity.mentions],
                }
                for entity in self.entities
            ],
        }
        if self.relations is not None:
            data["relations"] = [_write_relation(row, ("head", "tail", "relation")) for row in self.relations]
        if self.pairs is not None:
            data["pairs"] = [list(pair) for pair in self.pairs]
        return data

    def to_markup(self) -> str:
        """
        Write the inline markup that [`Document.from_markup`] reads. Title, relations and the ids of entities are not
        part of it, and entities that do not stand in the order of their first mentions are in that order when it is
        read again.

        Returns:
            `str`: The text with `[words](key:TYPE)` for every mention.

        Raises:
            DocumentError: If mentions cross each other, which brackets cannot show.
        """
        return format_markup(self)

    def _write_mention(self, mention: Mention, entity: Entity) -> dict[str, Any]:
        data: dict[str, Any] = {"start": mention.start, "end": mention.end}
        if mention.name != self.text[mention.start : mention.end]:
            data["name"] = mention.name
        if mention.type != entity.type:
            data["type"] = mention.type
        return data


def read_documents(items: Iterable[Document | Mapping[str, Any]], *, strict: bool = True) -> Iterator[Document]:
    """
    Read documents from dicts of either form, one by one; documents pass through as they are.

    Args:
        items (iterable of `Document` or `dict`): As [`Document.from_dict`] takes them.
        strict (`bool`, *optional*, defaults to `True`):
            Whether nonsense is an error. If `False`, an item that cannot be read at all becomes an empty document
            with the repair `"unreadable document"`, so that the order stays.

    Yields:
        `Document`: One for every item.

    Raises:
        DocumentError: On nonsense if `strict`; the message has the item's index where it has no title. Always on
            something that is not a list of items.
    """
    if isinstance(items, str | bytes | Mapping | Document) or not hasattr(items, "__iter__"):
        raise DocumentError(f"documents: {show(items)} is a {type(items).__name__}. Pass a list of documents.")
    for index, item in enumerate(items):
        if isinstance(item, Document):
            yield item
            continue
        try:
            yield _from_dict(Document, item, f"document {index}", strict)
        except DocumentError:
            if strict:
                raise
            yield Document("", "", (), repairs=(("unreadable document", 1),))


def count_repairs(documents: Iterable[Document]) -> Counter[str]:
    """
    Add up what reading repaired or skipped.

    Args:
        documents (iterable of `Document`): The documents.

    Returns:
        `collections.Counter`: Count by cause, such as `"duplicate mention"`.
    """
    counts: Counter[str] = Counter()
    for document in documents:
        for cause, count in document.repairs:
            counts[cause] += count
    return counts


def _from_dict(cls: type[Document], data: object, where: str, strict: bool) -> Document:
    if not isinstance(data, Mapping):
        raise DocumentError(f"{where}: {show(data)} is not a dict but a {type(data).__name__}. {_FORMS}.")
    form = document_form(data)
    if form is not None:
        return _read(cls, data, form, where, strict)
    where = name_document(data.get("title"), where)
    known = published_as(data)
    if known is not None:
        raise DocumentError(f"{where}: {say_published(known)}.")
    raise DocumentError(f'{where}: neither "text" nor "sents" among the keys {show(list(data))}. {_FORMS}.')


def _read(
    cls: type[Document], data: object, form: str, where: str, strict: bool, keep_duplicate_mentions: bool = False
) -> Document:
    if not isinstance(data, Mapping):
        raise DocumentError(f"{where}: {show(data)} is not a dict but a {type(data).__name__}. {_FORMS}.")
    reading = Reading(name_document(data.get("title"), where), strict)
    if form == "text":
        return cls(**read_text(data, reading))
    return cls(**read_docred(data, reading, keep_duplicate_mentions))


def _write_ids(entity: Entity) -> dict[str, Any]:
    return {"id": entity.ids[0] if len(entity.ids) == 1 else list(entity.ids)} if entity.ids else {}


def _write_relation(relation: Relation, keys: tuple[str, str, str]) -> dict[str, Any]:
    data: dict[str, Any] = dict(zip(keys, (relation.head, relation.tail, relation.relation), strict=True))
    data["evidence"] = list(relation.evidence)
    if relation.score is not None:
        data["score"] = relation.score
    return data
