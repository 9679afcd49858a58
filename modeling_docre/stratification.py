"""Parts of labelled documents with the same relations in each, as far as that can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence


def stratify(facts: Sequence[Mapping[str, int]], lots: Sequence[float], shares: Sequence[float]) -> list[int]:
    """
    Share documents among parts by iterative stratification (Sechidis et al. 2011, Algorithm 1), with facts for counts.

    The relation that is left in the fewest documents goes first, because later there is no choice for it. Each of its
    documents goes to the part that wants most of this relation; on ties to the one that wants most documents, then to
    the first. What a part still wants is its share of all facts of a relation without those it has. In the paper a
    label is in an item or not, which is the same where no document has two facts of a relation. Documents without
    facts come last and fill the parts up.

    Args:
        facts (sequence of `Mapping[str, int]`): For each document, how many facts it has of each of its relations.
        lots (sequence of `float`): For each document a number that decides which of two that are alike goes first.
        shares (sequence of `float`): What each part is to have of all documents; together 1.

    Returns:
        `list[int]`: The part of each document.
    """
    holders: dict[str, list[int]] = defaultdict(list)
    totals: dict[str, int] = defaultdict(int)
    for document, counts in enumerate(facts):
        for relation, number in counts.items():
            holders[relation].append(document)
            totals[relation] += number
    wanted = {relation: [share * total for share in shares] for relation, total in totals.items()}
    room = [share * len(facts) for share in shares]
    left = {relation: len(documents) for relation, documents in holders.items()}
    parts = [-1] * len(facts)

    def put(document: int, part: int) -> None:
        parts[document] = part
        room[part] -= 1
        for relation, number in facts[document].items():
            wanted[relation][part] -= number
            left[relation] -= 1

    while left:
        rarest = min(left, key=lambda relation: (left[relation], relation))
        # Those with many facts first: those with one even out what they leave.
        documents = [document for document in holders[rarest] if parts[document] < 0]
        for document in sorted(documents, key=lambda document: (-facts[document][rarest], lots[document])):
            put(document, max(range(len(shares)), key=lambda part: (wanted[rarest][part], room[part])))
        del left[rarest]
    for document in sorted((place for place, part in enumerate(parts) if part < 0), key=lots.__getitem__):
        put(document, max(range(len(shares)), key=room.__getitem__))
    return parts


__all__ = ["stratify"]
