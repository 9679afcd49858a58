"""Names of relations and types that look like another, much more frequent one, written wrongly."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from .names import fold_name

# By the length of the shorter name: so many letters may differ.
_EDITS = ((12, 1), (40, 2))
# In names shorter than this, another letter, or one more in front, makes another word: DNA, RNA and mRNA.
_SHORT = 5


def find_misspellings(counts: Mapping[str, int], *, times: int = 10, shortest: int = _SHORT) -> dict[str, str]:
    """
    Find names that look like misspellings of much more frequent ones. Ids that differ in their digits, such as `P17`
    and `P19`, never do; names that differ in `_`, `-`, spaces or case alone do however often they occur.

    Args:
        counts (`Mapping[str, int]`): How often each name occurs.
        times (`int`, *optional*, defaults to 10): How many times as often the one that was meant occurs.
        shortest (`int`, *optional*, defaults to 5):
            Letters that a name has at least if one may differ; see [`is_slip`].

    Returns:
        `dict[str, str]`: The name that was meant, by the one that was written.

    Example:
    ```python
    >>> from modeling_docre.misspellings import find_misspellings

    >>> find_misspellings({"born_in": 240, "bornin": 1, "member_of": 30, "membr_of": 2, "P17": 90, "P19": 1})
    {'bornin': 'born_in', 'membr_of': 'member_of'}
    >>> find_misspellings({"PER": 240, "PRE": 1, "ORG": 90}, times=20, shortest=3)
    {'PRE': 'PER'}
    ```
    """
    names = sorted(counts, key=lambda name: (-counts[name], name))
    rank = {name: place for place, name in enumerate(names)}
    near: dict[tuple[str, str], list[str]] = defaultdict(list)
    meant: dict[str, str] = {}
    for name in names:
        folded, digits = fold_name(name), re.sub(r"\D", "", name)
        shorter = _shortened(folded, _edits(len(folded), shortest))
        # From the most frequent on: the first that fits is the one that was meant.
        fitting = sorted({known for key in shorter for known in near[digits, key]}, key=rank.__getitem__)
        for known in fitting:
            if known in meant:
                continue
            right = fold_name(known)
            if folded == right or (
                counts[known] >= times * counts[name] and is_slip(folded, right, shortest=shortest)
            ):
                meant[name] = known
                break
        for key in shorter:
            near[digits, key].append(name)
    return {name: meant[name] for name in counts if name in meant}


def is_slip(name: str, known: str, *, shortest: int = 3) -> bool:
    """
    Tell whether a name is another one with a slip: a letter too many or too few, another one, or two that are swapped,
    two such in names of 12 letters and more. In names of less than 5 none is exchanged, and the first one stays
    unless it is swapped.

    Args:
        name (`str`): As it was written; see [`~names.fold_name`].
        known (`str`): As it may have been meant, likewise.
        shortest (`int`, *optional*, defaults to 3): Letters that both have at least.
    """
    size = min(len(name), len(known))
    if size < _SHORT and name[:1] != known[:1] and sorted(name) != sorted(known):
        return False
    return _distance(name, known, 2 if size < _SHORT else 1) <= _edits(size, shortest)


def _edits(length: int, shortest: int) -> int:
    return 0 if length < shortest else next((edits for below, edits in _EDITS if length < below), 1)


def _shortened(name: str, edits: int) -> set[str]:
    """The name, and what is left of it without a few letters: names that are alike have one of these in common."""
    found = last = {name}
    # The other name may be a letter longer, and be allowed more.
    for _ in range(edits):
        last = {word[:place] + word[place + 1 :] for word in last for place in range(len(word))}
        found = found | last
    return found


def _distance(one: str, other: str, exchange: int) -> int:
    """Letters to put in, leave out, swap with the next, or exchange at a price, to make one word of another."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last_but_one, before = before, row
        row = [i]
        for j, wanted in enumerate(other, 1):
            steps = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + exchange * (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                steps = min(steps, last_but_one[j - 2] + 1)
            row.append(steps)
    return row[-1]


__all__ = ["find_misspellings", "is_slip"]
