"""Checks of a document that is built by hand: do its parts fit together? Nothing is repaired here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .document_parts import DocumentError, Entity, Mention, Reading, Relation, lone_surrogate, name_document, show

if TYPE_CHECKING:
    from .documents import Document


def check_document(document: Document) -> None:
    """
    Check a document.

    Args:
        document (`Document`): The document.

    Raises:
        DocumentError: If a part contradicts another, or is of the wrong type.
    """
    if not isinstance(document.title, str):
        raise DocumentError(f"document: `title` is {show(document.title)}: not a string. Use '' for no title.")
    _check_characters(document, "title", document.title)
    _check_sentences(document)
    _check_tuple(document, "entities", document.entities, Entity)
    for number, entity in enumerate(document.entities):
        place = f"entities[{number}]"
        _check_tuple(document, f"{place}.mentions", entity.mentions, Mention)
        _check_name(document, place, entity.name, entity.type)
        _check_tuple(document, f"{place}.ids", entity.ids, str)
        for key in entity.ids:
            _check_characters(document, f"{place}.ids", key)
            if not key.strip():
                raise _error(document, f"{place}.ids", entity.ids, "an id is blank", "Leave it out")
        for position, mention in enumerate(entity.mentions):
            _check_mention(document, f"{place}.mentions[{position}]", mention)
    if document.relations is not None:
        _check_tuple(document, "relations", document.relations, Relation)
        for number, relation in enumerate(document.relations):
            _check_relation(document, f"relations[{number}]", relation)
        if len({(fact.head, fact.tail, fact.relation) for fact in document.relations}) != len(document.relations):
            raise _error(document, "relations", document.relations, "a fact occurs twice", "Unite their evidence")
    if document.pairs is not None:
        _check_pairs(document, document.pairs)
    _check_repairs(document)


def _error(document: Document, place: str, value: object, problem: str, mend: str) -> DocumentError:
    return Reading(name_document(document.title, "document"), True).error(place, value, problem, mend)


def _is_index(value: object, size: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size


def _check_tuple(document: Document, place: str, value: object, kind: type) -> None:
    if not isinstance(value, tuple) or not all(isinstance(item, kind) for item in value):
        raise _error(document, place, value, f"not a tuple of {kind.__name__}", "Build it with `tuple(...)`")


def _check_pairs(document: Document, pairs: tuple[tuple[int, int], ...]) -> None:
    _check_tuple(document, "pairs", pairs, tuple)
    for number, pair in enumerate(pairs):
        if len(pair) != 2 or not all(_is_index(end, len(document.entities)) for end in pair) or pair[0] == pair[1]:
            problem = f"not two different entities out of {len(document.entities)}"
            raise _error(document, f"pairs[{number}]", pair, problem, "Write (head, tail)")
    if len(set(pairs)) != len(pairs):
        raise _error(document, "pairs", pairs, "a pair occurs twice", "Keep each pair once")


def _check_repairs(document: Document) -> None:
    _check_tuple(document, "repairs", document.repairs, tuple)
    for number, repair in enumerate(document.repairs):
        if len(repair) != 2 or not isinstance(repair[0], str) or not isinstance(repair[1], int):
            raise _error(document, f"repairs[{number}]", repair, "not a cause and its count", "Write (cause, count)")


def _check_characters(document: Document, place: str, text: str) -> None:
    broken = lone_surrogate(text)
    if broken is not None:
        problem = f"character {broken} is half of a surrogate pair and cannot be encoded"
        raise _error(document, place, text[max(0, broken - 20) : broken + 20], problem, "Put another in its place")


def _check_sentences(document: Document) -> None:
    mend = "Give (start, end) characters of every word of every sentence, in order, as tuples"
    if not isinstance(document.text, str):
        raise _error(document, "text", document.text, "not a string", "Pass the document's text")
    _check_characters(document, "text", document.text)
    if not isinstance(document.sentences, tuple):
        raise _error(document, "sentences", document.sentences, "not a tuple", mend)
    previous, size = 0, len(document.text)
    for number, sentence in enumerate(document.sentences):
        if not isinstance(sentence, tuple):
            raise _error(document, f"sentences[{number}]", sentence, "not a tuple", mend)
        for position, word in enumerate(sentence):
            if type(word) is not tuple or len(word) != 2 or type(word[0]) is not int or type(word[1]) is not int:
                raise _error(document, f"sentences[{number}][{position}]", word, "not a tuple of two int", mend)
            if not previous <= word[0] <= word[1] <= size:
                problem = f"outside the text of {size} characters, or before the end of the last word ({previous})"
                raise _error(document, f"sentences[{number}][{position}]", word, problem, mend)
            previous = word[1]


def _check_name(document: Document, place: str, name: object, kind: object) -> None:
    if not isinstance(name, str):
        raise _error(document, f"{place}.name", name, "not a string", "Name it")
    _check_characters(document, f"{place}.name", name)
    if kind is not None:
        if not isinstance(kind, str):
            raise _error(document, f"{place}.type", kind, "not a string", "Use None for no type")
        _check_characters(document, f"{place}.type", kind)


def _check_mention(document: Document, place: str, mention: Mention) -> None:
    _check_name(document, place, mention.name, mention.type)
    if not _is_index(mention.sentence, len(document.sentences)):
        problem = f"the document has {len(document.sentences)} sentences, counted from 0"
        raise _error(document, f"{place}.sentence", mention.sentence, problem, "Give the index of one of them")
    words = document.sentences[mention.sentence]
    span = mention.words
    if not (
        type(span) is tuple
        and len(span) == 2
        and _is_index(span[0], len(words))
        and _is_index(span[1], len(words) + 1)
        and span[0] < span[1]
    ):
        problem = f"not word positions [start, end) in sentence {mention.sentence}, which has {len(words)} words"
        raise _error(document, f"{place}.words", span, problem, "Give (start, end), end exclusive")
    first, last = words[span[0]][0], words[span[1] - 1][1]
    size = len(document.text)
    text = document.text
    if not (
        _is_index(mention.start, size)
        and _is_index(mention.end, size + 1)
        and mention.start <= first < last <= mention.end
        and not text[mention.start : first].strip()
        and not text[last : mention.end].strip()
    ):
        problem = f"its words cover the characters ({first}, {last}) of a text of {size}"
        mend = "Let start and end be those, white space around them aside"
        raise _error(document, place, (mention.start, mention.end), problem, mend)


def _check_relation(document: Document, place: str, relation: Relation) -> None:
    for key, value in (("head", relation.head), ("tail", relation.tail)):
        if not _is_index(value, len(document.entities)):
            problem = f"the document has {len(document.entities)} entities, counted from 0"
            raise _error(document, f"{place}.{key}", value, problem, "Give the index of one of them")
    if not isinstance(relation.relation, str) or not relation.relation.strip():
        raise _error(document, f"{place}.relation", relation.relation, "not a relation's id", "Write a string")
    _check_characters(document, f"{place}.relation", relation.relation)
    size = len(document.sentences)
    if type(relation.evidence) is not tuple or not all(_is_index(number, size) for number in relation.evidence):
        problem = f"not a tuple of sentence indices below {size}"
        raise _error(document, f"{place}.evidence", relation.evidence, problem, "Use () for none")
    score = relation.score
    if score is not None and not (isinstance(score, int | float) and 0.0 <= score <= 1.0):
        raise _error(document, f"{place}.score", score, "not a probability", "Use a number from 0 to 1, or None")
