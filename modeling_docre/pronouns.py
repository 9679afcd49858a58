"""English pronouns, which name nobody: what they stand for changes from one document to the next."""

from __future__ import annotations

import unicodedata

PRONOUNS = frozenset(
    [
        *("i", "me", "my", "mine", "myself"),
        *("you", "your", "yours", "yourself", "yourselves"),
        *("he", "him", "his", "himself"),
        *("she", "her", "hers", "herself"),
        *("it", "its", "itself"),
        *("we", "us", "our", "ours", "ourselves"),
        *("they", "them", "their", "theirs", "themself", "themselves"),
        *("oneself", "this", "that", "these", "those"),
        *("who", "whom", "whose", "which"),
    ]
)
"""Personal, possessive, reflexive, demonstrative and relative ones."""


def is_pronoun(name: str) -> bool:
    """
    Tell whether a name is a pronoun: one of [`PRONOUNS`] in lower case, or with a capital letter in front, as where a
    sentence begins. In capitals alone it is a name (`"US"`, `"IT"`, `"WHO"`), but for `"I"`; and so it is behind an
    article (`"The Who"`).

    Args:
        name (`str`): A name.

    Returns:
        `bool`: Whether it is one.

    Example:
    ```python
    >>> from modeling_docre.pronouns import is_pronoun

    >>> [name for name in ("She", "us", "US", "The Who", "I") if is_pronoun(name)]
    ['She', 'us', 'I']
    ```
    """
    word = unicodedata.normalize("NFKC", name).strip()
    return word in (word.lower(), word.capitalize()) and word.lower() in PRONOUNS


__all__ = ["PRONOUNS", "is_pronoun"]
