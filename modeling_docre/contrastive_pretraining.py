"""`ContrastivePreTrainer`: MoCo-DocRE on documents with labels that may be noisy."""

from __future__ import annotations

from typing import Any, cast

import torch

from .method_loss import count_anchors, count_augmented
from .modeling_contrastive import DocREForContrastivePreTraining, refuse_code
from .training import DocRETrainer

_PREDICTS_NOTHING = (
    "Contrastive pre-training predicts no relations, which could be scored: evaluate the model that "
    "DocREForRelationExtraction.from_encoder makes of this one, when it is trained."
)
_UNUSED = ("tune_threshold", "prior_bias", "teacher", "soft_labels", "text_augmentation", "augmentation")


class ContrastivePreTrainer(DocRETrainer):
    """
    [`DocRETrainer`] for [`DocREForContrastivePreTraining`]. Its loss is a mean over anchors, the pairs with a
    relation; the momentum copy follows once a step; and several processes fill the same queues. The copy runs all of
    its layers, with dropout, also where lower layers of the encoder are frozen or their outputs kept.

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

    model_class: Any = DocREForContrastivePreTraining
    card_template = "model_card_pretraining.md"
    pipeline_tag = None

    def __init__(self, model: DocREForContrastivePreTraining | None = None, args: Any = None, **kwargs: Any) -> None:
        unused = [name for name in _UNUSED if getattr(args, name, None) and getattr(args, name) != "none"]
        unused += [name for name in ("eval_dataset", "teacher") if kwargs.get(name) is not None]
        if unused:
            raise ValueError(
                f"{' and '.join(unused)} would not be used: contrastive pre-training predicts no relations, and has "
                "era_copies for augmentation. Leave it out here, and use it when this model's encoder goes on into "
                "DocRETrainer."
            )
        super().__init__(cast(Any, model), args, **kwargs)
        # Every process has the same queues, filled with the keys of all in one order: to send them would be in vain.
        if self.args.ddp_broadcast_buffers is None:
            self.args.ddp_broadcast_buffers = False

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """
        Raises:
            ValueError: Always.
        """
        raise ValueError(_PREDICTS_NOTHING)

    def predict(self, *_: Any, **__: Any) -> Any:
        """
        Raises:
            ValueError: Always.
        """
        raise ValueError(_PREDICTS_NOTHING)

    def save_model(
        self, output_dir: str | None = None, _internal_call: bool = False, *, include_code: bool = False
    ) -> None:
        """
        Saves model and processor, and the model card; as [`DocRETrainer.save_model`], but without code.

        Args:
            output_dir (`str`, *optional*): The folder. Defaults to `args.output_dir`.
            _internal_call (`bool`, *optional*, defaults to `False`): Set by Trainer when it saves a checkpoint.
            include_code (`bool`, *optional*, defaults to `False`): Refused.
        """
        refuse_code(include_code)
        super().save_model(output_dir, _internal_call)

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
