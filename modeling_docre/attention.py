"""Attention rows of chosen tokens from an encoder's last layer, with every layer still running fused attention.

Localized context pooling needs the last layer's attention, and of it only the rows at mention markers. Asking an
encoder for `output_attentions` would make every layer compute, and keep, all of them.

Three routes, by encoder family:

- families that pass unknown arguments down to the attention function (BERT, RoBERTa, ...): the last attention module
  gets an attention function of ours that delegates to the encoder's own one and computes the wanted rows beside it;
- DeBERTa v1, v2 and v3, which compute attention in the open: a hook keeps the last layer's attention;
- anything else: eager attention and `output_attentions=True`, correct and slow.

On the first route the rows are without attention dropout, on the other two they are what the encoder itself weighs its
values with, in training after dropout (as in ATLOP's code).
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import logging

logger = logging.get_logger(__name__)

_ROWS_FUNCTION = "docre_rows_sdpa"

# Encoder family -> class of its attention module: checked to pass keyword arguments down and to add nothing to
# scaled q.k but the mask.
_DELEGATING = {
    "bert": "BertSelfAttention",
    "roberta": "RobertaSelfAttention",
    "xlm-roberta": "XLMRobertaSelfAttention",
    "camembert": "CamembertSelfAttention",
    "electra": "ElectraSelfAttention",
    "distilbert": "DistilBertSelfAttention",
    "modernbert": "ModernBertAttention",
}
_HOOKED = {
    "deberta": "DisentangledSelfAttention",
    "deberta-v2": "DisentangledSelfAttention",
}


def attention_rows(
    query: Tensor, key: Tensor, attention_mask: Tensor | None, scaling: float, positions: Tensor
) -> Tensor:
    """Softmax attention of chosen query positions, without dropout, in float32 (float64 for a float64 encoder).

    Args:
        query (`torch.Tensor` of shape `(windows, attention_heads, tokens, head_width)`): As the layer made them.
        key (`torch.Tensor` of shape `(windows, attention_heads, tokens, head_width)`): As the layer made them.
        attention_mask (`torch.Tensor`, *optional*):
            Boolean (true may be attended to) or additive, `(windows, 1, 1 or tokens, tokens)`, or `(windows, tokens)`.
        scaling (`float`): Factor of the scores.
        positions (`torch.Tensor` of shape `(windows, rows)`): Query positions.

    Returns:
        `torch.Tensor` of shape `(windows, attention_heads, rows, tokens)`.
    """
    width = query.shape[-1]
    index = positions[:, None, :, None]
    chosen = query.gather(2, index.expand(-1, query.shape[1], -1, width))
    with torch.autocast(query.device.type, enabled=False):
        scores = at_least_float32(chosen) @ at_least_float32(key).transpose(-1, -2) * scaling
        if attention_mask is not None:
            mask = attention_mask
            if mask.dim() == 2:
                mask = mask[:, None, None, :].bool()
            mask = mask[..., : key.shape[-2]]
            if mask.shape[2] > 1:
                mask = mask.gather(2, index.expand(-1, mask.shape[1], -1, mask.shape[-1]))
            # Not -inf: a window without any token would have NaN gradients.
            lowest = torch.finfo(scores.dtype).min
            scores = scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)
        return scores.softmax(-1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half precision as float32, everything else as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _rows_beside_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    docre_positions: Tensor | None = None,
    docre_rows: list[Tensor] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    owner = module.docre_owner_config._attn_implementation  # type: ignore[union-attr]
    if owner in (None, "eager"):
        attend: Callable[..., Any] = sys.modules[type(module).__module__].eager_attention_forward
    else:
        attend = ALL_ATTENTION_FUNCTIONS[owner]
    if docre_positions is not None and docre_rows is not None:
        scaling = kwargs.get("scaling")
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        docre_rows.append(attention_rows(query, key, attention_mask, scaling, docre_positions))
    return attend(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(_ROWS_FUNCTION, _rows_beside_attention)


def _last_module(encoder: nn.Module, class_name: str) -> nn.Module:
    found = [module for module in encoder.modules() if type(module).__name__ == class_name]
    if not found:
        raise ValueError(f"The encoder {type(encoder).__name__} has no attention module of class {class_name}.")
    return found[-1]


class AttentionRows:
    """Runs an encoder and returns its last hidden states with the attention rows of chosen tokens.

    Args:
        encoder (`PreTrainedModel`): Any encoder; its last attention module is prepared in place.

    Warns (log) when the encoder's last layer attends in a sliding window: two mentions further apart than that window
    then have an empty context.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        family = encoder.config.model_type
        self._listening = False
        self._heard: Tensor | None = None
        if family in _DELEGATING:
            self.route = "delegate"
            module = _last_module(encoder, _DELEGATING[family])
            if not hasattr(module, "docre_owner_config"):
                module.docre_owner_config = module.config  # type: ignore[assignment]
                module.config = copy.copy(module.config)  # type: ignore[arg-type]
                module.config._attn_implementation_internal = _ROWS_FUNCTION  # type: ignore[union-attr]
        elif family in _HOOKED:
            self.route = "hook"
            module = _last_module(encoder, _HOOKED[family])
            module.register_forward_pre_hook(self._ask_for_attention, with_kwargs=True)
            module.register_forward_hook(self._keep_attention)
        else:
            self.route = "eager"
            encoder.set_attn_implementation("eager")
        if (getattr(encoder.config, "layer_types", None) or [""])[-1] == "sliding_attention":
            logger.warning(
                f"The last layer of {type(encoder).__name__} attends in a sliding window, so that mentions far apart "
                "get an empty pair context. Prefer an encoder whose last layer has full attention "
                '(config.layer_types[-1] == "full_attention").'
            )

    def __call__(
        self, encoder: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run `encoder` over windows.

        Args:
            encoder (`PreTrainedModel`): The encoder that this object prepared.
            input_ids (`torch.Tensor` of shape `(windows, tokens)`): Token ids.
            attention_mask (`torch.Tensor` of shape `(windows, tokens)`): 1 for tokens, 0 for padding.
            positions (`torch.Tensor` of shape `(windows, rows)`): Tokens whose attention rows are wanted.

        Returns:
            Hidden states `(windows, tokens, hidden)` and rows `(windows, attention_heads, rows, tokens)`.

        Raises:
            RuntimeError: when the encoder gave no attention, one that is not over tokens (sparse attention), or one
                that has lost its gradient (reentrant activation checkpointing).
        """
        rows: list[Tensor] = []
        if self.route == "delegate":
            hidden = encoder(
                input_ids=input_ids, attention_mask=attention_mask, docre_positions=positions, docre_rows=rows
            ).last_hidden_state
        elif self.route == "hook":
            # The hook only keeps: activation checkpointing runs it again in backward, after other calls maybe, and
            # must find the same operations there.
            self._listening = True
            try:
                hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
                rows = [] if self._heard is None else [_gather_rows(self._heard, positions)]
            finally:
                self._listening, self._heard = False, None
        else:
            outputs = encoder(input_ids=input_ids, attention_mask=attention_mask, output_attentions=True)
            hidden = outputs.last_hidden_state
            rows = [_gather_rows(attention, positions) for attention in (outputs.attentions or ())[-1:]]
        if rows and rows[0].shape[-1] != input_ids.shape[1]:
            raise RuntimeError(
                f"{type(encoder).__name__} gives attention over {rows[0].shape[-1]} places for {input_ids.shape[1]} "
                "tokens: encoders with sparse attention cannot give the pair context. Use one with full attention."
            )
        if rows and hidden.requires_grad and not rows[0].requires_grad and _checkpoints(encoder):
            raise RuntimeError(
                "Reentrant activation checkpointing cuts the gradient of the attention rows. Turn it on with "
                'gradient_checkpointing_kwargs={"use_reentrant": False}.'
            )
        if not rows:
            raise RuntimeError(
                f"{type(encoder).__name__} returned no attention, which the pair context needs. Load it with "
                'attn_implementation="eager".'
            )
        return hidden, rows[0]

    def _ask_for_attention(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) > 2:
            return (*args[:2], True, *args[3:]), kwargs
        return args, {**kwargs, "output_attentions": True}

    def _keep_attention(self, module: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> Any:
        context, attention = output
        if self._listening:
            self._heard = attention
        return context, None


def _checkpoints(encoder: PreTrainedModel) -> bool:
    return encoder.training and any(getattr(module, "gradient_checkpointing", False) for module in encoder.modules())


def _gather_rows(attention: Tensor, positions: Tensor) -> Tensor:
    index = positions[:, None, :, None].expand(-1, attention.shape[1], -1, attention.shape[-1])
    return at_least_float32(attention.gather(2, index))


__all__ = ["AttentionRows", "at_least_float32", "attention_rows"]
