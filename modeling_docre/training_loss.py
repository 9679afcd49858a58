"""The part of [`DocRETrainer`] that makes a step's loss of batches of documents."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from .distillation import Teacher
from .frozen_layers import FrozenLayers
from .loss_parts import LossPartsTrainer
from .method_loss import count_anchors, count_augmented, rows_in_mean
from .pair_augmentation import PairAugmentation
from .processes import gather_rows
from .training_data import DocumentDataset
from .training_record import RecordingTrainer


class LossTrainer(LossPartsTrainer, RecordingTrainer):
    """A `Trainer` whose losses are means over the pairs of a step, of all its micro-batches and processes."""

    _frozen: FrozenLayers | None
    _teacher: Teacher | None
    _augmentation: PairAugmentation | None

    # The loss of a batch

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        if self.args.normalise == "micro-batch":
            self._weigh(batch_samples, device)
            return None
        batches = [batch for batch in batch_samples if batch["document_index"][0] >= 0]
        counted = self._count_items(batches)
        counts = torch.tensor([list(counted.values())], device=device)
        if self.args.world_size > 1:
            counts = self.accelerator.gather(counts)
        numbers = dict(zip(counted, counts.sum(0), strict=True))
        num_items = numbers.pop("num_items_in_batch")
        for batch in batch_samples:
            batch.update(numbers)
        # A step of documents without any pair has nothing to divide.
        return num_items.clamp(min=1)

    def _count_items(self, batches: list[Any]) -> dict[str, int]:
        """What the parts of the loss are means over, by the name under which the model takes it."""
        config = self.model.config
        rows = sum(rows_in_mean(config, batch["pairs"], batch["num_entities"]) for batch in batches)
        counted = {"num_items_in_batch": rows}
        if config.era_copies:
            counted["num_augmented_in_batch"] = sum(count_augmented(config, batch["labels"]) for batch in batches)
        extra = 0
        if self._augmentation is not None and self._augmentation.has_begun(self.state.epoch):
            extra = sum(self._augmentation.count(batch["labels"]) for batch in batches)
            counted["num_extra_in_batch"] = extra
        if config.head == "pair-aware":
            counted["num_entities_in_batch"] = sum(int(batch["num_entities"].sum()) for batch in batches)
        if config.contrastive_weight:
            anchors = sum(int(count_anchors(batch["labels"])) for batch in batches)
            counted["num_anchors_in_batch"] = anchors + extra
        return counted

    def _joins_rows(self, num_items_in_batch: torch.Tensor | int | None) -> bool:
        """Whether the model compares the pairs of all processes."""
        return self.args.world_size > 1 and num_items_in_batch is not None

    def _weigh(self, batches: list[Any], device: torch.device) -> None:
        """Makes the mean over processes one over those whose batch isn't a filler."""
        if self.args.world_size > 1:
            real = torch.tensor([[float(batch["document_index"][0] >= 0) for batch in batches]], device=device)
            for batch, count in zip(batches, self.accelerator.gather(real).sum(0).tolist(), strict=True):
                batch["weight"] = self.args.world_size / max(count, 1.0)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """
        The model's loss, over `num_items_in_batch` pairs of all micro-batches and processes.

        Args:
            model (`nn.Module`): The model, perhaps wrapped.
            inputs (`dict`): A batch of [`DocumentCollator`].
            return_outputs (`bool`, *optional*, defaults to `False`): Whether to return the outputs as well.
            num_items_in_batch (`torch.Tensor`, *optional*): By how many pairs to divide; `None` = those of the batch.

        Returns:
            `torch.Tensor` or `tuple`: The loss, with the outputs if asked for.
        """
        inputs = dict(inputs)
        index, left_out = inputs.pop("document_index", None), inputs.pop("left_out", None)
        weight = inputs.pop("weight", 1.0)
        if self.is_in_train and model.training and self.train_dataset is not None and left_out is not None:
            self.train_dataset.count(index.tolist(), left_out)
        if self._frozen is not None:
            self._frozen.eval()
            self._frozen.passing = self._passing(index)
        filler = index is not None and bool(index[0] < 0)
        if model.training and self._joins_rows(num_items_in_batch):
            inputs["gather_rows"] = functools.partial(gather_rows, left_out=filler)
        if self._teacher is not None and model.training and self.model.config.distillation_weight:
            inputs["teacher_logits"] = self._ask_teacher(index.tolist(), inputs["pairs"])
        augmentation = self._augmentation if model.training else None
        if augmentation is not None and augmentation.has_begun(self.state.epoch):
            inputs |= augmentation.inputs(inputs["labels"])
        outputs = model(**inputs, num_items_in_batch=num_items_in_batch)
        if augmentation is not None:
            _leave_out(outputs, augmentation.leaves_out(self.state.epoch))
        if self._frozen is not None:
            self._frozen.passing = None
        # Processes average their gradients, whereas a sum divided by the pairs of all of them has to be added up.
        scale = self.accelerator.num_processes if num_items_in_batch is not None else weight
        if filler:
            scale = 0.0
        if model.training:
            accumulated = self.current_gradient_accumulation_steps if self.args.normalise == "micro-batch" else 1
            self._collect_parts(outputs.losses, scale / accumulated)
        loss = outputs.loss * scale
        return (loss, outputs) if return_outputs else loss

    def _passing(self, index: torch.Tensor | None) -> list[bool] | None:
        """Which documents of a training batch are altered copies, if any."""
        if index is None or self.train_dataset is None or self.train_dataset.altered is None or not self.is_in_train:
            return None
        positions = torch.where(index < 0, -1 - index, index)
        return (positions >= len(self.train_dataset.documents)).tolist()

    def _ask_teacher(self, index: list[int], pairs: torch.Tensor) -> torch.Tensor:
        teacher, dataset = cast(Teacher, self._teacher).to(self.args.device), cast(DocumentDataset, self.train_dataset)
        documents = [dataset.documents[number if number >= 0 else -1 - number] for number in index]
        return teacher.logits(teacher.features(documents), pairs, self.model.config)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """
        Logs, and says what documents lost when all of them have been read.

        Args:
            logs (`dict[str, float]`): The values.
            start_time (`float`, *optional*): The start of training.
        """
        super().log(logs, start_time)
        if "loss" in logs and self.train_dataset is not None:
            self._report_left_out(self.train_dataset, "training")


def _leave_out(outputs: Any, parts: Sequence[str]) -> None:
    """Take parts out of the loss."""
    if any(name in outputs.losses for name in parts):
        outputs.losses = {name: value for name, value in outputs.losses.items() if name not in parts}
        outputs.loss = torch.stack(list(outputs.losses.values())).sum()


__all__ = ["LossTrainer"]
