"""
Sentences and words of plain text in any script, as spans of characters.

Nothing is normalised: a span always points into the caller's own string. Words are cut the way that the public
corpora are (spaCy's English style), so that a model trained on these sees familiar words.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise

Span = tuple[int, int]

# Every character is first mapped to one letter for its kind; the rules are regular expressions over these letters.
#   space white space    U upper-case letter   L other letter    D digit       M combining mark    Z zero-width joiner
#   F other invisible    T skin tone           E emoji, symbol   R flag half   A apostrophe        N . , : in numbers
#   I ideograph          K kana                H hangul          S South-East Asian script without spaces
#   P any other character
_RANGES = (
    ("I", ((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF), (0x4E00, 0x9FFF))),
    ("I", ((0xF900, 0xFAFF), (0x20000, 0x3FFFD))),
    ("K", ((0x3031, 0x3035), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F))),
    ("H", ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xFFA0, 0xFFDC))),
    ("S", ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF))),
    ("S", ((0xA9E0, 0xA9FF), (0xAA60, 0xAADF))),
)
_SINGLE = {"'": "A", "\u2019": "A", "\u200d": "Z"} | dict.fromkeys(".,:\u066b\u066c", "N")
_CATEGORIES = {"Lu": "U", "Lt": "U", "Nd": "D", "Cf": "F", "So": "E", "Cn": "E"}


def _kind(code: int) -> str:
    character = chr(code)
    category = unicodedata.category(character)
    if character.isspace():
        return " "
    if character in _SINGLE:
        return _SINGLE[character]
    if 0x1F3FB <= code <= 0x1F3FF:
        return "T"
    if 0x1F1E6 <= code <= 0x1F1FF:
        return "R"
    if category[0] == "M":
        return "M"
    if category[0] == "L" or category == "Nl" or 0x2E80 <= code <= 0x2FDF:
        for kind, ranges in _RANGES:
            if any(first <= code <= last for first, last in ranges):
                return kind
    if category in _CATEGORIES:
        return _CATEGORIES[category]
    if category[0] in "LN":
        return "L"
    return "E" if category == "Sm" and code > 0x7F else "P"


class _Kinds(dict[int, str]):
    """A table for `str.translate` that fills itself: building it for all of Unicode would slow the import down."""

    def __missing__(self, code: int) -> str:
        kind = self[code] = _kind(code)
        return kind


_KINDS = _Kinds()

_WORD = re.compile(
    r"""
    [MZFT]* (?:                                             # an invisible mark before a word belongs to it
        RR [MZFT]*                                          # a flag
      | [ER] (?: [MZFT] | (?<=Z)E )*                        # an emoji with all that is joined to it
      | I [MZFT]*
      | K [KMZFT]*
      | H [HMZFT]*
      | S [SMZFT]*
      | (?: U[MZFT]* N )+ U[MZFT]* (?![ULDMZFTA]) (?:N[MZFT]*)?  # U.S. (checked below: dots)
      | [ULD] (?: [ULDMZFT] | (?<=D)N(?=D) | A(?=[UL]) )*   # with 1,000.5 and O'Brien
      | A[UL]{1,2} (?![ULDMZFTA])                           # 's after a space
      | [PNA] [MZFT]*
    )
    | [MZFT]+
    """,
    re.VERBOSE,
)
_CLITIC = re.compile(r"(?:n['\u2019]t|['\u2019](?:s|re|ve|ll|d|m))\Z", re.IGNORECASE)
_SPECIAL = re.compile(r"['\u2019.,:]")
_INITIALS = re.compile(r"[^.,:]*(?:\.[^.,:]*)*\Z")
_LETTERS = re.compile(r"[ULDMZFT]+|[NA][MZFT]*")


def split_words(text: str, start: int = 0, end: int | None = None, boundaries: Iterable[int] = ()) -> list[Span]:
    """
    Cut a stretch of text into words.

    A run of letters, digits and combining marks is a word, as are numbers (`1,000.5`), initials (`U.S.`) and English
    endings (`Anna's` gives `Anna` and `'s`, `don't` gives `do` and `n't`); a hyphen and every other punctuation
    character is a word of its own, and so is every Chinese character. Kana, Hangul and scripts such as Thai, which
    have no spaces either, stay together in runs. Emoji sequences, flags and marks are never cut from their base.

    Args:
        text (`str`): The document.
        start (`int`, *optional*, defaults to `0`): First character of the stretch.
        end (`int`, *optional*): Character after the stretch; the end of the text by default.
        boundaries (iterable of `int`, *optional*, defaults to `()`):
            Character offsets at which a word must end or start, whatever the rules say; those outside are ignored.

    Returns:
        `list[tuple[int, int]]`: The `[start, end)` characters of the words, in order. Every character of the stretch
        but white space is in exactly one of them.
    """
    piece = text[start:end]
    spans: list[Span] = []
    for match in _WORD.finditer(piece.translate(_KINDS)):
        first, last = start + match.start(), start + match.end()
        if _SPECIAL.search(text, first, last):
            for cut in _inner_cuts(text[first:last], match.group()):
                spans.append((first, start + match.start() + cut))
                first = start + match.start() + cut
        spans.append((first, last))
    return _break_at(spans, boundaries)


def _inner_cuts(word: str, kinds: str) -> list[int]:
    """Offsets at which a match of the word pattern falls into several words after all."""
    if "A" in kinds:
        clitic = _CLITIC.search(word)
        if clitic:
            return [clitic.start()] if clitic.start() else []
        if kinds[0] == "A" and len(word) > 1 and kinds[1] in "UL":
            return [1]
    elif kinds.count("N") and "D" not in kinds and len(kinds) > 1 and not _INITIALS.match(word):
        return [match.start() for match in _LETTERS.finditer(kinds) if match.start()]
    return []


def _break_at(spans: list[Span], boundaries: Iterable[int]) -> list[Span]:
    edges = sorted(set(boundaries))
    if not edges:
        return spans
    broken: list[Span] = []
    for first, last in spans:
        for edge in edges[bisect_right(edges, first) : bisect_left(edges, last)]:
            broken.append((first, edge))
            first = edge
        broken.append((first, last))
    return broken


# --- sentences ---

# These end a sentence wherever they stand; the others need white space and a plausible start after them.
_SURE_STOPS = "。！？｡．؟۔।॥።။។։"
_STOPS = ".!?…‼‽⁇⁈⁉"
_CLOSERS = "\"'”’»›)]}」』）】》〉〕］｝＂＇"
_STOP = re.compile(rf"[{_STOPS}{_SURE_STOPS}]+(?:\[\d{{1,3}}\]|[{re.escape(_CLOSERS)}])*")
_BREAK = re.compile(r"(?:\r\n|[\n\r\v\f\x85\u2028\u2029])")
_SPACES = re.compile(r"\s+")
_OPENERS = re.compile(r"[\"'“‘„‚«‹(\[{¿¡「『（【《〈〔—–•*\-\s\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]*")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BEFORE = re.compile(r"[^\s\"“”‘«»(\[{—–/]*\Z")
_LIST_ITEM = re.compile(r"(?:[-*•–]|\(?\w{1,3}[.)])\s")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_TITLES = _set(
    "mr mrs ms mx dr prof st rev fr gen col lt sgt capt cpt cmdr adm maj hon pres gov sen rep messrs mme mlle mgr "
    "msgr mt e.g i.e eg ie vs viz cf ca c approx al resp esp incl excl b d r f fl op z.b d.h bzw sog"
)
_BEFORE_NUMBERS = _set(
    "no nos nr vol vols p pp fig figs eq eqs ch chap sec sect art para cap tab ex ver jan feb mar apr jun jul aug sep "
    "sept oct nov dec"
)
_MAYBE_LAST = _set(
    "inc ltd co corp llc plc bros jr sr esq dept univ assn est etc ave blvd rd hwy jan feb mar apr jun jul aug sep "
    "sept oct nov dec"
)
_DOTTED = re.compile(r"(?:[^\W\d_]{1,3}\.)+[^\W\d_]{1,2}\Z")
_STARTERS = _set(
    "the this that these those he she it they we you his her its their our there here in on at by for from after "
    "before since during while when where although though because if as but and so yet however then later also "
    "some many most all both each one two another such who what why how with without under over until despite"
)


def split_sentences(text: str, protected: Iterable[Span] = ()) -> list[Span]:
    """
    Cut a text into sentences, without a model.

    A sentence ends at `.`, `!`, `?` or `…` with closing quotes and brackets, if white space and something that can
    start a sentence follow (abbreviations, initials, decimals and list numbers do not end one); at `。！？`, `؟`, `۔`,
    `।` and their like also without white space; at a blank line; and at a single line break, unless the line looks
    wrapped at a fixed width or the next one goes on in lower case.

    Args:
        text (`str`): The document.
        protected (iterable of `tuple[int, int]`, *optional*, defaults to `()`):
            `[start, end)` characters that no sentence may end inside, such as mentions.

    Returns:
        `list[tuple[int, int]]`: The `[start, end)` characters of the sentences, in order, without white space at
        their edges. Every character but white space is in exactly one of them.
    """
    merged = _merge(protected)
    starts = [start for start, _ in merged]
    any_case = text == text.lower()  # typed without capitals: a capital cannot be asked for
    lines = _line_breaks(text)
    breaks = set(lines)
    sentence = 0
    for match in _STOP.finditer(text):
        place, end = match.span()
        line = bisect_right(lines, place) - 1
        sentence = max(sentence, lines[line] if line >= 0 else 0)
        while end < len(text) and _KINDS[ord(text[end])] in "MZF":
            end += 1
        if _ends_sentence(text, sentence, place, match.group(), end, any_case):
            breaks.add(end)
            sentence = end

    spans: list[Span] = []
    previous = 0
    for place in [*sorted(breaks), len(text)]:
        index = bisect_left(starts, place) - 1
        if index >= 0 and place < merged[index][1]:
            continue
        piece = text[previous:place]
        core = piece.strip()
        if core:
            first = previous + len(piece) - len(piece.lstrip())
            spans.append((first, first + len(core)))
        previous = place
    return spans


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Unite spans that overlap; those that only touch stay two, since a sentence may end between them."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def _ends_sentence(text: str, sentence: int, place: int, stop: str, end: int, any_case: bool) -> bool:
    """Whether the stop at `place`, whose closers run to `end`, ends the sentence that began at `sentence`."""
    if stop[0] in _SURE_STOPS:
        return True
    if end == len(text):
        return False
    if not text[end].isspace():
        near = text[place - 1 : place] + text[end]
        return stop[0] in "!?" and len(near) == 2 and all(_KINDS[ord(character)] in "IK" for character in near)
    start = _OPENERS.match(text, end).end()  # type: ignore[union-attr]  # the pattern matches the empty string
    if start == len(text) or not _can_start(text, start, any_case):
        return False
    if stop.rstrip(_CLOSERS) != ".":
        return True
    before = _BEFORE.search(text, max(sentence, place - 40), place).group()  # type: ignore[union-attr]
    if place - sentence < 8 and not any(character.isalpha() for character in text[sentence:place]):
        return False  # "1." at the start of a list item
    return _period_ends(before, text, start)


def _can_start(text: str, start: int, any_case: bool) -> bool:
    character = text[start]
    if character.islower():
        return any_case or text[start + 1 : start + 2].isupper()  # iPhone
    return _KINDS[ord(character)] not in "MZFT" and character not in ",;:)]}%"


def _period_ends(before: str, text: str, start: int) -> bool:
    """Whether a single period after the word `before` ends the sentence, `start` being the next word's place."""
    word = before.lower()
    token = _TOKEN.match(text, start)
    following = token.group() if token else ""
    is_number = following[:1].isdigit()
    if word in _TITLES and not (len(word) == 1 and before.isupper()):
        return False
    if word in _BEFORE_NUMBERS and is_number:
        return False
    is_initial = len(before) == 1 and before.isalpha() and before.isupper()
    if is_initial or word in _MAYBE_LAST or _DOTTED.match(word):
        # "U.S. President" goes on, "U.S. He" does not
        return following.lower() in _STARTERS and not is_number
    return True


def _line_breaks(text: str) -> list[int]:
    """Places where a line break ends a sentence."""
    lines: list[Span] = []
    position = 0
    for match in _BREAK.finditer(text):
        lines.append((position, match.start()))
        position = match.end()
    if not lines:
        return []
    lines.append((position, len(text)))
    places: list[int] = []
    block: list[Span] = []
    for first, last in [*lines, (len(text), len(text))]:
        if text[first:last].strip():
            block.append((first, last))
            continue
        places.extend(_breaks_in_block(text, block))
        if block:
            places.append(block[-1][1])
        block = []
    return places


def _breaks_in_block(text: str, block: list[Span]) -> list[int]:
    """Line ends between blank lines that end a sentence, which those of a text wrapped at a fixed width do not."""
    width = max((last - first for first, last in block), default=0)
    places = []
    for (first, last), (start, stop) in pairwise(block):
        following = text[start:stop].lstrip()
        word = following.split(maxsplit=1)[0]
        spaceless = _KINDS[ord(word[0])] in "IK"
        size, narrow = (0, 20) if spaceless else (len(word), 40)
        is_wrapped = width >= narrow and last - first + 1 + size > width and not _LIST_ITEM.match(following)
        if not is_wrapped and not following[0].islower():
            places.append(last)
    return places
