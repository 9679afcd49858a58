"""Names that nobody knows: which of the known ones were meant."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

# Words that say nothing about which relation is meant.
_SMALL_WORDS = frozenset(
    ["a", "an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "was"]
)
# Verbs whose noun, which stands in the words for a relation, is of another stem.
_NOUNS = {"born": "birth", "died": "death"}
_SHORTEST_STEM = 4
_FEWEST_COMMON = 0.45  # of all words, for a suggestion
_OF_THE_BEST = 0.75  # a suggestion is as good as the best one but for this much


def fold_name(name: str) -> str:
    """Return a name without what people write in different ways: case, spaces, `_` and `-`."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def suggest_name(name: str, names: Sequence[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all of them."""
    return nearest_name(name, names) or f" Known names: {', '.join(sorted(names))}."


def nearest_name(name: str, names: Iterable[str], likeness: float = 0.51) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or nothing where all are far."""
    folded = {known.casefold(): known for known in reversed(list(names))}
    swapped = [known for known in folded if sorted(known) == sorted(name.casefold())]
    found = swapped or difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=likeness)
    return f" Did you mean {folded[found[0]]!r}?" if found else ""


def closest_relations(name: str, words: Mapping[str, str], most: int = 4) -> list[str]:
    """Return the relations that a name may stand for, the likeliest first; none where all are far from it.

    Args:
        name (`str`): What was asked for: an id, or words.
        words (`Mapping[str, str]`): Relation id to its words, or to the id again where it has none.
        most (`int`, *optional*, defaults to `4`): How many at most.

    Returns:
        `list[str]`: Relation ids.
    """
    asked = _words(name)
    scores = {relation: max(_likeness(asked, text), _id_likeness(name, relation)) for relation, text in words.items()}
    bar = max(_FEWEST_COMMON, _OF_THE_BEST * max(scores.values(), default=0.0))
    # The sort is stable: equally good ones stay in the order of the classes.
    return sorted((key for key, score in scores.items() if score >= bar), key=lambda key: -scores[key])[:most]


def closest_names(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Return the names that a name may stand for, the likeliest first: those spelt alike, and those that hold it."""
    folded = name.casefold()
    scores = {
        known: max(
            difflib.SequenceMatcher(None, folded, known.casefold()).ratio(),
            0.9 * _is_within(folded, known.casefold()),
        )
        for known in names
    }
    return sorted((known for known in scores if scores[known] >= 0.6), key=lambda known: -scores[known])[:most]


def _is_within(one: str, other: str) -> bool:
    words, others = set(one.split()), set(other.split())
    if words and others and (words <= others or others <= words):
        return True
    return min(len(one), len(other)) >= _SHORTEST_STEM and (one in other or other in one)


def _words(name: str) -> list[str]:
    found = [_NOUNS.get(word, word) for word in re.findall(r"[^\W_]+", name.casefold())]
    return [word for word in found if word not in _SMALL_WORDS] or found


def _id_likeness(name: str, relation: str) -> float:
    likeness = difflib.SequenceMatcher(None, name.casefold(), relation.casefold()).ratio()
    return likeness if likeness >= 0.8 else 0.0


def _likeness(asked: Sequence[str], text: str) -> float:
    """How much of what was asked for is in the words, which counts more, and how much of the words was asked for."""
    known = _words(text)
    if not asked or not known:
        return 0.0
    there = sum(_share(word, known) for word in asked) / len(asked)
    back = sum(_share(word, asked) for word in known) / len(known)
    return 0.7 * there + 0.3 * back


def _share(word: str, others: Sequence[str]) -> float:
    """How much of a word is in others: in one that is alike or of its stem, or, of a compound, in several."""
    alike = max(_alike(word, other) for other in others)
    inside = sum(len(other) for other in set(others) if len(other) >= _SHORTEST_STEM and other in word)
    around = any(len(word) >= _SHORTEST_STEM and word in other for other in others)
    return max(alike, min(1.0, inside / len(word)), 0.5 * around)


def _alike(one: str, other: str) -> float:
    longest = max(len(one), len(other))
    stem = sum(itertools.takewhile(bool, (a == b for a, b in zip(one, other, strict=False))))
    if stem >= _SHORTEST_STEM and stem >= longest / 2:
        return max(stem / longest, 0.8)
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    return ratio if ratio >= 0.8 else 0.0


__all__ = ["closest_names", "closest_relations", "fold_name", "nearest_name", "suggest_name"]
