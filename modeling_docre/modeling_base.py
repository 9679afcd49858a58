"""What models are built on: the base class, and encoder with entity states, before any pair head."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .attention import AttentionRows
from .augmentation import keep_masks
from .configuration_docre import DocREConfig
from .encoders import build_encoder, check_window
from .encoding import check_entities, count_entities, encode, pool_entities
from .head_bilinear import BilinearHead, PairFactors
from .loading import check_relation_model, load_whole
from .model_outputs import DocREModelOutput
from .remote_code import Shareable

# What follows from the relations.
_OF_RELATIONS = {"id2label", "label2id", "num_labels"}


def init_linear(layer: nn.Linear | nn.Conv2d) -> None:
    """Begin a layer as torch does by itself, which is what the published code trains from."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        init.uniform_(layer.bias, -bound, bound)


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Leave out dropout for a while; each part is then in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class DocREPreTrainedModel(Shareable, PreTrainedModel):  # type: ignore[misc]
    """What all models here share: the config class, initialisation, and loading that refuses what is not ours."""

    config: DocREConfig
    config_class = DocREConfig
    base_model_prefix = "docre"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    # Flex attention masks by blocks, of which no attention rows can be computed.
    _supports_flex_attn = False
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            # Encoders have their own.
            init_linear(module)
        elif module is getattr(self, "type_pair_bias", None):
            init.zeros_(module.weight)
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *model_args: Any, **kwargs: Any
    ) -> DocREPreTrainedModel:
        """Load a checkpoint of this library; takes every argument of `PreTrainedModel.from_pretrained`.

        Raises:
            ValueError: when the folder holds another kind of model, weights of this model are missing from it, they
                have other sizes than the settings ask for, or an argument is neither `transformers`' nor a setting, or
                follows from the relations, such as `num_labels`.
                To start a new model around an encoder, use [`DocREForRelationExtraction.from_encoder`].
        """
        name = str(pretrained_model_name_or_path)
        check_relation_model(name, kwargs)
        if derived := _OF_RELATIONS & kwargs.keys():
            raise ValueError(
                f"{', '.join(sorted(derived))} would not be read: what a model knows are its relations. To change "
                'them, pass relations=["P17", ...] and ignore_mismatched_sizes=True, and train the model.'
            )
        return load_whole(cls, super().from_pretrained, name, model_args, kwargs)


class DocREModel(DocREPreTrainedModel):
    """Encoder and entity states, without a pair head.

    Args:
        config ([`DocREConfig`]): The configuration.
    """

    _keys_to_ignore_on_load_unexpected = [r"^(head|type_pair_bias|projection|momentum|queues)\."]  # noqa: RUF012

    def __init__(self, config: DocREConfig) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config.encoder)
        check_window(config, self.encoder)
        self.type_embeddings: nn.Embedding | None = None
        if config.use_entity_types:
            hidden = config.get_text_config().hidden_size
            self.type_embeddings = nn.Embedding(len(config.entity_types) + 1, hidden)
        self.attention_rows = AttentionRows(self.encoder)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's word embeddings."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the encoder's word embeddings."""
        self.encoder.set_input_embeddings(value)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        mentions: Tensor | None = None,
        num_entities: Tensor | None = None,
        entity_types: Tensor | None = None,
    ) -> DocREModelOutput:
        """Encode documents and pool their entities.

        Args:
            input_ids (`torch.Tensor` of shape `(batch, tokens)`): Token ids, of any length.
            attention_mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): 1 for tokens, 0 for padding.
            mentions (`torch.Tensor` of shape `(num_mentions, 3)`, *optional*):
                Document in batch, entity in document, token of the opening marker (special tokens counted).
            num_entities (`torch.Tensor` of shape `(batch,)`, *optional*):
                Entities per document; 1 + the highest entity in `mentions` when left out.
            entity_types (`torch.Tensor` of shape `(batch, entities)`, *optional*): Type ids, 0 unknown.

        Returns:
            [`DocREModelOutput`].
        """
        config = self.config
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if mentions is None:
            mentions = input_ids.new_zeros(0, 3)
        mentions = mentions.long()
        if num_entities is None:
            num_entities = count_entities(mentions, len(input_ids))
        check_entities("mentions", mentions[:, :2], num_entities)
        encoded = encode(
            self.encoder,
            self.attention_rows,
            input_ids,
            attention_mask,
            mentions,
            window_size=config.window_size or 0,
            window_overlap=config.window_overlap,
            window_mode=config.window_mode,
            start_tokens=config.start_tokens,
            end_tokens=config.end_tokens,
        )
        most = int(num_entities.max()) if len(num_entities) else 0
        embeddings, attention = pool_entities(encoded, mentions, most)
        read = attention.detach().flatten(2).any(-1)
        if self.type_embeddings is not None:
            types = self.type_embeddings(self.entity_type_table(entity_types, num_entities)).to(embeddings.dtype)
            embeddings = embeddings + types * read[..., None]
        return DocREModelOutput(
            last_hidden_state=encoded.hidden_states,
            entity_embeddings=embeddings,
            entity_attention=attention,
            num_entities=num_entities,
            entities_read=read,
        )

    def entity_type_table(self, entity_types: Tensor | None, num_entities: Tensor) -> Tensor:
        """Return type ids `(batch, entities)`, all unknown when none were given."""
        most = int(num_entities.max()) if len(num_entities) else 0
        if entity_types is None:
            return torch.zeros(len(num_entities), most, dtype=torch.long, device=num_entities.device)
        if entity_types.shape != (len(num_entities), most):
            raise ValueError(
                f"entity_types has shape {tuple(entity_types.shape)}; the batch needs ({len(num_entities)}, {most})."
            )
        return entity_types


def augmented_embeddings(
    config: DocREConfig, head: BilinearHead, states: DocREModelOutput, pairs: Tensor
) -> PairFactors:
    """Represent the copies that easy relation augmentation adds, their contexts masked at random (ERA, section 3.4).

    Args:
        config ([`DocREConfig`]): `era_copies` and `era_mask_probability` are read.
        head ([`BilinearHead`]): What represents pairs.
        states ([`DocREModelOutput`]): Of the batch.
        pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail of the pairs to copy.

    Returns:
        [`PairFactors`], both `(num_pairs * era_copies, emb_size)`: the copies of the first pair, then the others'.
    """
    attention: Any = states.entity_attention
    keep = keep_masks(
        len(pairs),
        config.era_copies,
        attention.shape[-1],
        probability=config.era_mask_probability,
        device=attention.device,
    )
    hidden: Any = states.last_hidden_state
    entities: Any = states.entity_embeddings
    return head.masked_embeddings(hidden, entities, attention, pairs, keep)


__all__ = ["DocREModel", "DocREPreTrainedModel", "augmented_embeddings"]
