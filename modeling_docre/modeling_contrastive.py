"""`DocREForContrastivePreTraining`: pairs of one relation become alike before any relation is predicted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .augmentation import pairs_to_augment
from .configuration_docre import DocREConfig
from .contrastive import info_nce_loss, unit_vectors
from .encoding import all_pairs, check_entities
from .head_bilinear import BilinearHead, PairHead
from .method_loss import RowGatherer
from .modeling_base import DocREModel, DocREPreTrainedModel, augmented_embeddings
from .modeling_docre import DocREForRelationExtraction
from .relation_queues import RelationQueues


@dataclass
class ContrastivePreTrainingOutput(ModelOutput):
    """Output of [`DocREForContrastivePreTraining`].

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): InfoNCE, when `labels` were given.
        losses (`dict[str, torch.Tensor]`, *optional*): The same by its name, `"info_nce"`.
        embeddings (`torch.Tensor` of shape `(num_anchors, contrastive_size)`):
            Relation representations, not normalised: of the pairs with a relation where `labels` were given, and
            of their copies in training; of all pairs otherwise.
        pairs (`torch.Tensor` of shape `(num_anchors, 3)`): Document in batch, head entity, tail entity of each.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    embeddings: Tensor | None = None
    pairs: Tensor | None = None


def refuse_code(include_code: bool) -> None:
    """Refuse to save the code of a model that answers nothing by itself.

    Raises:
        ValueError: when it is asked for.
    """
    if include_code:
        raise ValueError(
            "include_code=True is for models that extract relations. Leave it out, and pass it where the model is "
            "saved that DocREForRelationExtraction.from_encoder makes of this one."
        )


class _Fusion(BilinearHead):
    """What the bilinear head does before it classifies."""

    def __init__(self, config: DocREConfig) -> None:
        PairHead.__init__(self, config, features=config.get_text_config().hidden_size)


class _Branch(nn.Module):
    """The slowly following copy of the model, which no gradient reaches."""

    def __init__(self, config: DocREConfig) -> None:
        super().__init__()
        self.docre = DocREModel(config)
        self.head = _Fusion(config)
        self.projection = _projection(config)
        self.requires_grad_(False)


def _projection(config: DocREConfig) -> nn.Sequential:
    """Equation 13: one ReLU, behind both layers."""
    return nn.Sequential(
        nn.Linear(2 * config.emb_size, config.emb_size), nn.Linear(config.emb_size, config.moco_size), nn.ReLU()
    )


class DocREForContrastivePreTraining(DocREPreTrainedModel):
    """MoCo-DocRE (ERACL, section 4): pairs that share a relation, and no others, get representations alike.

    Every pair with a relation is an anchor. Its keys come from a copy of the model that follows slowly, and are kept
    in one queue per relation, so that a rare relation is compared across many batches. Labels may be noisy: distant
    ones, say. Encoder and fusion layers go on into relation extraction, where
    [`DocREForRelationExtraction.from_encoder`] takes them from the folder of this model; the projection behind them
    has served.

    With `era_copies`, masked copies of pairs are anchors and keys too (the sets T and T' of the paper).

    A training step updates the copy, puts the batch's keys into the queues and then compares, so that an anchor's own
    key is among its positive ones. `config.moco_momentum`, `moco_queue_size`, `moco_temperature`, `moco_size` and
    `moco_positives` are its settings. Copy and queues are saved with the model.

    Args:
        config ([`DocREConfig`]): The configuration, of a method with the bilinear head.

    Raises:
        ValueError: when the config has another head.
    """

    # The loss is divided by `num_items_in_batch` here, so Trainer must not divide it again.
    accepts_loss_kwargs = True

    def __init__(self, config: DocREConfig) -> None:
        super().__init__(config)
        if config.head != "bilinear":
            raise ValueError(
                f"head={config.head!r}: contrastive pre-training is for the bilinear head, whose fusion layers it "
                'trains. Take a method that has it, such as "eracl", or go without and set contrastive_weight.'
            )
        self.docre = DocREModel(config)
        self.head = _Fusion(config)
        self.projection = _projection(config)
        self.momentum = _Branch(config)
        self.queues = RelationQueues(len(config.relations), config.moco_queue_size, config.moco_size)
        self.post_init()
        self.momentum.load_state_dict(self._followed())

    @classmethod
    def from_encoder(
        cls, encoder: str | os.PathLike[str] | PreTrainedModel, method: str = "eracl", *arguments: Any, **settings: Any
    ) -> DocREForContrastivePreTraining:
        """
        Start from a pretrained encoder; takes what [`DocREForRelationExtraction.from_encoder`] takes. Of a model that
        was pre-trained this way before, encoder and fusion layers go on; projection and queues begin anew.
        """
        started = DocREForRelationExtraction.from_encoder(encoder, method, *arguments, **settings)
        model = cls(started.config)
        model.docre.load_state_dict(started.docre.state_dict())
        fusion = started.head.state_dict()
        model.head.load_state_dict({name: fusion[name] for name in model.head.state_dict()})
        model.momentum.load_state_dict(model._followed())
        return model

    def save_pretrained(self, save_directory: Any, *args: Any, include_code: bool = False, **kwargs: Any) -> None:
        """Save as every model does.

        Raises:
            ValueError: when code is to go with it.
        """
        refuse_code(include_code)
        super().save_pretrained(save_directory, *args, **kwargs)

    def _followed(self) -> dict[str, Tensor]:
        """What the copy follows, by its names there."""
        parts = {"docre": self.docre, "head": self.head, "projection": self.projection}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}

    @torch.no_grad()
    def update_momentum(self) -> None:
        """Let the copy follow by one step (equation 14).

        Raises:
            ValueError: when weights are in half precision, which cannot hold such small steps.
        """
        if self.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"The weights are {self.dtype}, in which the steps of the momentum copy are rounded away: keep them "
                "in float32, model.float(), and compute in half precision by DocRETrainingArguments(bf16=True)."
            )
        followed, rate = self._followed(), 1 - self.config.moco_momentum
        for name, value in self.momentum.state_dict().items():
            if value.is_floating_point():
                value.lerp_(followed[name].to(value.dtype), rate)
            else:
                value.copy_(followed[name])

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        mentions: Tensor | None = None,
        pairs: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        num_entities: Tensor | None = None,
        entity_types: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        gather_rows: RowGatherer | None = None,
        update: bool = True,
        return_dict: bool | None = None,
        **unread: Any,
    ) -> ContrastivePreTrainingOutput | tuple[Tensor, ...]:
        """Represent pairs, and compare them where labels are given.

        Args:
            input_ids (`torch.Tensor` of shape `(batch, tokens)`): Token ids, of any length.
            attention_mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): 1 for tokens, 0 for padding.
            mentions (`torch.Tensor` of shape `(num_mentions, 3)`, *optional*): Document, entity, opening marker.
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`, *optional*): Document, head, tail; all when left out.
            labels (`torch.Tensor` of shape `(num_pairs, num_classes)`, *optional*): Multi-hot; never changed.
            num_entities (`torch.Tensor` of shape `(batch,)`, *optional*): Entities per document.
            entity_types (`torch.Tensor` of shape `(batch, entities)`, *optional*): Type ids, 0 unknown.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Anchors, copies counted, over all micro-batches and processes of a step, by which the sum over anchors
                is divided.
            gather_rows (`Callable`, *optional*):
                [`processes.gather_rows`], where several processes fill the same queues.
            update (`bool`, *optional*, defaults to `True`):
                Whether the copy follows before: once a step, so not with the further micro-batches of one. In training
                alone.
            return_dict (`bool`, *optional*): Return a tuple when `False`.
            unread: Further inputs that a processor makes, such as `sentence_ids`.

        Returns:
            [`ContrastivePreTrainingOutput`].
        """
        documents = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "mentions": mentions,
            "num_entities": num_entities,
            "entity_types": entity_types,
        }
        states = self.docre(**documents)
        if pairs is None:
            pairs = all_pairs(states.num_entities)
        pairs = pairs.long()
        check_entities("pairs", pairs, states.num_entities)
        augmented = pairs[:0, 0]
        if labels is not None:
            anchors = (labels[:, 1:] > 0).any(1)
            pairs, labels = pairs[anchors], labels[anchors]
            if self.training and self.config.era_copies:
                augmented = pairs_to_augment(labels, self.config.era_classes)
        embeddings = self._represent(self, states, pairs, augmented)
        copied = augmented.repeat_interleave(self.config.era_copies)
        loss = None
        if labels is not None:
            relations = torch.cat([labels, labels[copied]])[:, 1:]
            if self.training:
                with torch.no_grad():
                    if update:
                        self.update_momentum()
                    followed = self.momentum.docre(**documents)
                    keys, of_keys = self._represent(self.momentum, followed, pairs, augmented), relations
                    # Copies arrive with their pairs: in the same order however documents are dealt out to processes.
                    arrival = torch.cat([torch.arange(len(pairs), device=copied.device), copied]).argsort(stable=True)
                    keys, of_keys = keys[arrival], of_keys[arrival]
                    if gather_rows is not None:
                        (keys, of_keys), _ = gather_rows(keys, of_keys)
                    self.queues.push(unit_vectors(keys.float()), of_keys)
            keys, positives, negatives = self.queues.compare(relations)
            total = info_nce_loss(
                embeddings,
                keys,
                positives,
                negatives,
                temperature=self.config.moco_temperature,
                positive_reduction=self.config.moco_positives,
                reduction="sum",
            )
            loss = total / (max(len(embeddings), 1) if num_items_in_batch is None else num_items_in_batch)
        output = ContrastivePreTrainingOutput(
            loss=loss,
            losses=None if loss is None else {"info_nce": loss},
            embeddings=embeddings,
            pairs=torch.cat([pairs, pairs[copied]]),
        )
        return output.to_tuple() if return_dict is False else output

    def _represent(self, branch: Any, states: Any, pairs: Tensor, augmented: Tensor) -> Tensor:
        """Represent pairs, and behind them copies of those at `augmented` whose contexts are masked (section 3.4)."""
        hidden, entities, attention = states.last_hidden_state, states.entity_embeddings, states.entity_attention
        represented = [
            torch.cat(branch.head.pair_embeddings(hidden, entities, attention, states.num_entities, pairs), 1)
        ]
        if len(augmented):
            copies = augmented_embeddings(self.config, branch.head, states, pairs[augmented])
            represented.append(torch.cat(copies, 1))
        return branch.projection(torch.cat(represented))


__all__ = ["ContrastivePreTrainingOutput", "DocREForContrastivePreTraining", "refuse_code"]
