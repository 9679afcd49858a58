"""`ContrastivePreTrainer`: MoCo-DocRE on documents with labels that may be noisy."""

from __future__ import annotations

from typing import Any, cast

import torch

from .method_loss import count_anchors, count_augmented
from .modeling_contrastive import DocREForContrastivePreTraining
from .training import DocRETrainer

_UNUSED = ("tune_threshold", "prior_bias", "teacher", "soft_labels", "text_augmentation")


class ContrastivePreTrainer(DocRETrainer):
    """
    [`DocRETrainer`] for [`DocREForContrastivePreTraining`]. Its loss is a mean over anchors, the pairs with a
    relation; the momentum copy follows once a step; and several processes fill the same queues.

    Args:
        model ([`DocREForContrastivePreTraining`]): The model to train.
        args ([`DocRETrainingArguments`]): The settings.
        train_dataset: Labelled documents, as for [`DocRETrainer`].
        processing_class ([`DocREProcessor`]): The processor of the model.
        kwargs: Further arguments of [`DocRETrainer`].

    Raises:
        TypeError: If the model is another one.
        ValueError: If there is something to evaluate, to tune or to learn from that needs a model which predicts
            relations, or text to alter.
    """

    card_template = "model_card_pretraining.md"
    pipeline_tag = None

    def __init__(self, model: DocREForContrastivePreTraining | None = None, args: Any = None, **kwargs: Any) -> None:
        if model is not None and not isinstance(model, DocREForContrastivePreTraining):
            raise TypeError(
                f"`model` is a {type(model).__name__}; pass DocREForContrastivePreTraining.from_encoder(...), or "
                "train this one with DocRETrainer."
            )
        unused = [name for name in _UNUSED if getattr(args, name, False)]
        unused += [name for name in ("eval_dataset", "teacher") if kwargs.get(name) is not None]
        if unused:
            raise ValueError(
                f"{' and '.join(unused)} would not be used: contrastive pre-training predicts no relations, and has "
                "era_copies for augmentation. Leave it out here, and use it when this model's encoder goes on into "
                "DocRETrainer."
            )
        super().__init__(cast(Any, model), args, **kwargs)
        # Every process has the same queues: they are filled with the keys of all, in one order.
        if self.args.ddp_broadcast_buffers is None:
            self.args.ddp_broadcast_buffers = False

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        for number, batch in enumerate(batch_samples):
            batch["update"] = number == 0
        return super()._get_num_items_in_batch(batch_samples, device)

    def _count_items(self, batches: list[Any]) -> dict[str, int]:
        labels = [batch["labels"] for batch in batches]
        anchors = sum(int(count_anchors(one)) + count_augmented(self.model.config, one) for one in labels)
        return {"num_items_in_batch": anchors}

    def _joins_rows(self, num_items_in_batch: torch.Tensor | int | None) -> bool:
        return self.args.world_size > 1


__all__ = ["ContrastivePreTrainer"]
