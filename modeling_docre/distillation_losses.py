"""
Losses between a student's logits and its teacher's: pure functions of both.

`logits` and `teacher_logits` are `(num_pairs, num_classes)`, in any precision: half precision is computed, and the
loss returned, in float32, also under autocast. No gradient reaches the teacher. `reduction` is `"none"` (one value per
pair, `(num_pairs,)`), `"sum"` or `"mean"` over pairs; a batch without pairs gives 0.0, still attached to the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .losses import reduce_pairs


def distillation_mse_loss(logits: Tensor, teacher_logits: Tensor, *, reduction: str = "mean") -> Tensor:
    r"""
    Squared distance between logits, KD-DocRE's distillation loss (equation 12). The value of a pair is the mean over
    its classes, the threshold class included, so that the mean over pairs is that over all entries, as in the authors'
    code: \\(\frac{1}{C} \sum_c (s_c - t_c)^2\\).

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`): The student's.
        teacher_logits (`torch.Tensor` of shape `(num_pairs, num_classes)`): The teacher's, of the same pairs.
        reduction (`str`, *optional*, defaults to `"mean"`): `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit or an unknown `reduction`.
    """
    student, teacher = _check(logits, teacher_logits)
    return reduce_pairs((student - teacher).square().mean(dim=1), reduction)


def distillation_kl_loss(logits: Tensor, teacher_logits: Tensor, *, reduction: str = "mean") -> Tensor:
    r"""
    Kullback-Leibler divergence of the student's softmax from the teacher's, over all classes and at temperature 1:
    what KD-DocRE compares the squared distance with (table 6). \\(\sum_c p^T_c (\log p^T_c - \log p^S_c)\\); the
    paper does not write it out, and its code has none.

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`): The student's.
        teacher_logits (`torch.Tensor` of shape `(num_pairs, num_classes)`): The teacher's, of the same pairs.
        reduction (`str`, *optional*, defaults to `"mean"`): `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit or an unknown `reduction`.
    """
    student, teacher = (functional.log_softmax(part, dim=1) for part in _check(logits, teacher_logits))
    return reduce_pairs((teacher.exp() * (teacher - student)).sum(dim=1), reduction)


def _check(logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one precision, float32 or better, the teacher's without a gradient."""
    if logits.dim() != 2 or logits.shape[1] == 0 or logits.shape != teacher_logits.shape:
        raise ValueError(
            "`logits` and `teacher_logits` must both be (num_pairs, num_classes), with rows for the same pairs and "
            f"columns for the same relations, got {tuple(logits.shape)} and {tuple(teacher_logits.shape)}."
        )
    dtype = torch.promote_types(torch.promote_types(logits.dtype, teacher_logits.dtype), torch.float32)
    return logits.to(dtype), teacher_logits.detach().to(dtype)


__all__ = ["distillation_kl_loss", "distillation_mse_loss"]
