"""Small heads that read tables of entities, and documents for them, that their tests share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modeling_docre import DocREConfig
from modeling_docre.head_axial import AxialHead
from modeling_docre.head_pair_aware import PairAwareHead
from modeling_docre.head_unet import UNetHead

HIDDEN, WIDTH, BLOCK, TOKENS, HEADS = 8, 8, 4, 9, 3


def config_for(method: str, **settings) -> DocREConfig:
    return DocREConfig.for_method(
        method,
        ["R1", "R2"],
        encoder_config={"model_type": "bert", "hidden_size": HIDDEN, "num_attention_heads": 2},
        **{"emb_size": WIDTH, "block_size": BLOCK, **settings},
    )


def axial_head(dtype=torch.float64, **settings) -> AxialHead:
    torch.manual_seed(0)
    return AxialHead(config_for("kd-docre", **{"axial_layers": 2, "axial_heads": 2, **settings})).to(dtype).eval()


def unet_head(dtype=torch.float64, **settings) -> UNetHead:
    torch.manual_seed(0)
    return settle(UNetHead(config_for("docunet", **{"unet_width": 4, "unet_outputs": 6, **settings})).to(dtype).eval())


def settle(head):
    """As after training: what batch norm has seen is not 0 and 1."""
    for module in head.modules():
        # Small numbers, as those that pass through are, and biases that keep most of these above 0: otherwise nothing
        # depends on the input.
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.03)
            module.running_var.uniform_(0.05, 0.2)
            nn.init.uniform_(module.bias, 0.0, 0.5)
    return head


def pair_aware_head(dtype=torch.float64, **settings) -> PairAwareHead:
    torch.manual_seed(0)
    sizes = {"unet_width": 4, "unet_outputs": 6, "pair_type_size": 2, "entity_encoder_heads": 2, "mask_padding": True}
    own = {**sizes, "pad_to": None, "potential_feature": "probability", "entity_types": ["A"], **settings}
    return settle(PairAwareHead(config_for("paee", **own)).to(dtype).eval())


def documents(counts: Tensor, dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, entities and their attention, zero beyond each document's `counts`."""
    generator = torch.Generator().manual_seed(1)
    most = max(counts.tolist(), default=0)
    real = (torch.arange(most) < counts[:, None]).to(dtype)
    hidden = torch.randn(len(counts), TOKENS, HIDDEN, generator=generator, dtype=dtype)
    entities = torch.randn(len(counts), most, HIDDEN, generator=generator, dtype=dtype) * real[..., None]
    attention = torch.rand(len(counts), most, HEADS, TOKENS, generator=generator, dtype=dtype)
    return hidden, entities, attention * real[..., None, None]
