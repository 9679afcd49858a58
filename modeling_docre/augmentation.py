"""More rows for pairs with a relation: with a masked context (easy relation augmentation: ERA, section 3.4), or with
noise on what represents them (VaeDiff-DocRE, section 3.4).
"""

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


def noisy_copies(
    embeddings: Tensor,
    labels: Tensor,
    copies: int,
    *,
    scale: float = 0.1,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Copy the embeddings of pairs with a relation, with Gaussian noise (VaeDiff-DocRE, section 3.4).

    The paper gives no size of the noise. Here that of each dimension is in proportion to how far the embeddings of
    these pairs differ in it.

    Args:
        embeddings (`torch.Tensor` of shape `(num_pairs, width)`): Pair embeddings; gradients reach them.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot; never changed.
        copies (`int`): Copies of each.
        scale (`float`, *optional*, defaults to `0.1`):
            Deviation of the noise, in standard deviations of the dimension over these pairs. That of one pair is 0.
        generator (`torch.Generator`, *optional*): What to draw with; torch's global generator when left out.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: The copies `(num_copies, width)`, those of a pair together, and of which
        rows they are, `(num_copies,)`.
    """
    rows = pairs_to_augment(labels)
    chosen = embeddings[rows]
    spread = chosen.detach().std(0, correction=0) if len(rows) else chosen.new_zeros(chosen.shape[1])
    rows = rows.repeat_interleave(copies)
    noise = torch.empty(len(rows), embeddings.shape[1], dtype=embeddings.dtype, device=embeddings.device)
    return embeddings[rows] + scale * spread * noise.normal_(generator=generator), rows


__all__ = ["keep_masks", "noisy_copies", "pairs_to_augment"]
