"""Easy relation augmentation: more rows for the pairs of chosen relations, each with a masked context (ERA, 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pairs_to_augment(labels: Tensor, classes: Sequence[int] | None = None) -> Tensor:
    """Find the pairs that hold one of the chosen relations; others that they hold as well don't matter.

    Args:
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot; never changed.
        classes (`Sequence[int]`, *optional*): Classes of the chosen relations; all but class 0 when left out.

    Returns:
        `torch.Tensor` of shape `(num_chosen,)`: Rows of `labels`, ascending. A pair without relation is never chosen.
    """
    chosen = labels[:, 1:] if classes is None else labels[:, [number for number in classes if number]]
    return (chosen > 0).any(1).nonzero().squeeze(1)


def keep_masks(
    num_pairs: int,
    copies: int,
    tokens: int,
    *,
    probability: float = 0.1,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw which tokens each copy of each pair keeps (ERA, equation 5).

    The paper's parameter p = 0.1 is the probability of a slight perturbation: here a token is left out with it, each
    by itself in each copy of each pair.

    Args:
        num_pairs (`int`): Pairs.
        copies (`int`): Copies of each.
        tokens (`int`): Tokens.
        probability (`float`, *optional*, defaults to `0.1`): Probability that a token is left out.
        device (`torch.device` or `str`, *optional*): Where to draw.
        generator (`torch.Generator`, *optional*): What to draw with; torch's global generator when left out.

    Returns:
        `torch.Tensor` of shape `(num_pairs, copies, tokens)`, boolean: a byte for each token of a copy.
    """
    masks = torch.empty(num_pairs, copies, tokens, dtype=torch.bool, device=device)
    return masks.bernoulli_(1.0 - probability, generator=generator)


__all__ = ["keep_masks", "pairs_to_augment"]
