"""`VaeDiffTrainer`: the second stage of VaeDiff-DocRE, in which a generator of pair embeddings is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback
from transformers.utils import logging

from .configuration_vaediff import VaeDiffConfig
from .loss_parts import LossPartsTrainer
from .pair_embeddings import PairEmbeddingStore
from .training_arguments import PortableArguments
from .training_checks import check_one_device
from .vaediff import VaeDiffForTraining
from .vaediff_parts import CLAMP

logger = logging.get_logger(__name__)

# Numbers beyond the reach of the decoder's means that need no word.
_FEW = 0.01


@dataclass
class VaeDiffTrainingArguments(PortableArguments):
    """
    `TrainingArguments` for a generator. Some inherited defaults differ: `learning_rate`, the autoencoder's, is 2e-4,
    `per_device_train_batch_size` is 8 (documents, of which all pairs with a relation are in the batch),
    `num_train_epochs` 100, `weight_decay` 0.01, losses are logged and checkpoints saved once an epoch, and nothing is
    reported to a tracker. Gradients are not clipped (`max_grad_norm` 0): one norm over both parts would make the steps
    of the prior depend on the autoencoder's loss.

    Args:
        min_learning_rate (`float`, *optional*, defaults to 2e-5):
            Where the cosine of the autoencoder's learning rate ends.
        prior_learning_rate (`float`, *optional*, defaults to 5e-5): That of the diffusion prior, which is constant.
        autoencoder_epochs (`int`, *optional*, defaults to 10): First epochs, in which the prior does not learn.
        first_kl_weight (`float`, *optional*, defaults to 1e-6): Weight of all but the reconstruction in these.
        kl_weight (`float`, *optional*, defaults to 1e-3): The same afterwards.
        average_decay (`float`, *optional*, defaults to 0.995): Of the moving average that is sampled with.

    Raises:
        ValueError: If a number is none of these, or the prior would never learn.
    """

    output_dir: str | None = field(default=None, metadata={"help": "Folder of the generator."})
    learning_rate: float = field(default=2e-4, metadata={"help": "Peak learning rate of the autoencoder."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Documents in a batch."})
    num_train_epochs: float = field(default=100.0, metadata={"help": "Epochs."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Clip both parts' gradients by one norm."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When losses are logged."})
    save_strategy: str = field(default="epoch", metadata={"help": "When checkpoints are saved."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints that stay."})
    report_to: str | list[str] | None = field(default="none", metadata={"help": "Trackers."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used."})
    min_learning_rate: float = field(default=2e-5, metadata={"help": "Where the cosine ends."})
    prior_learning_rate: float = field(default=5e-5, metadata={"help": "Learning rate of the prior."})
    autoencoder_epochs: int = field(default=10, metadata={"help": "Epochs without the prior."})
    first_kl_weight: float = field(default=1e-6, metadata={"help": "KL weight in these."})
    kl_weight: float = field(default=1e-3, metadata={"help": "KL weight afterwards."})
    average_decay: float = field(default=0.995, metadata={"help": "Of the moving average."})

    def __post_init__(self) -> None:
        """Check what is added here."""
        super().__post_init__()
        # Without a GPU torch warns of it once an epoch.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        for name in ("min_learning_rate", "prior_learning_rate", "first_kl_weight", "kl_weight"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name}={getattr(self, name)} is below 0.")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate={self.min_learning_rate} is above learning_rate={self.learning_rate}, from which "
                "the cosine falls."
            )
        if self.lr_scheduler_type != "linear" or self.warmup_steps:
            raise ValueError(
                "lr_scheduler_type and warmup_steps would not be used: the autoencoder's rate falls from "
                "learning_rate to min_learning_rate, the prior's is constant. Leave them out."
            )
        if not 0.0 <= self.average_decay <= 1.0:
            raise ValueError(f"average_decay={self.average_decay} is a share of the average; pass 0 to 1.")
        if self.autoencoder_epochs < 0:
            raise ValueError(f"autoencoder_epochs={self.autoencoder_epochs} is a number of epochs; pass 0 or more.")
        if self.max_steps <= 0:
            # Before there is data, which says how many epochs so many steps are.
            self.check_epochs(self.num_train_epochs)

    def check_epochs(self, epochs: float) -> None:
        """
        Checks that the prior learns at all.

        Raises:
            ValueError: If there are no epochs beyond those in which the autoencoder learns alone.
        """
        if epochs <= self.autoencoder_epochs:
            raise ValueError(
                f"The autoencoder learns alone for autoencoder_epochs={self.autoencoder_epochs} epochs, and there are "
                f"{epochs:g}: the prior would never learn. Train for longer, or make these fewer."
            )


class _Average(TrainerCallback):
    """Lets the average follow after each step in which the prior has learned."""

    def __init__(self, trainer: VaeDiffTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if self.trainer.learns_prior:
            self.trainer.generator.update_average(self.trainer.args.average_decay)


class VaeDiffTrainer(LossPartsTrainer):
    """
    Trains a generator on the embeddings of pairs with a relation: the autoencoder alone at first, and then both it and
    the diffusion prior (VaeDiff-DocRE, sections 2.2.3 and 2.3.2).

    A checkpoint has the average of the prior beside what it follows, and resumes to the same numbers. The published
    code steps the autoencoder's cosine with each batch and the period of epochs, so that it swings up and down; here
    it falls once. It also never resets the autoencoder's gradients.

    Args:
        model ([`VaeDiffForTraining`]): What is trained.
        args ([`VaeDiffTrainingArguments`]): The settings.
        train_dataset ([`PairEmbeddingStore`]): What it learns from.
        callbacks (list of `TrainerCallback`, *optional*): Further callbacks.

    Raises:
        ValueError: If the store is empty, has embeddings of another width or another model, or other relations, or the
            prior would never learn.
    """

    args: VaeDiffTrainingArguments

    def __init__(
        self,
        model: VaeDiffForTraining,
        args: VaeDiffTrainingArguments,
        train_dataset: PairEmbeddingStore,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        config, about = model.config, train_dataset.manifest
        if not about["pairs"]:
            raise ValueError(
                f"{train_dataset.folder} holds no pair embeddings: no pair of its documents has a relation that its "
                "model knows and entities that it reads. Store those of labelled documents."
            )
        if config.embedding_size != about["width"]:
            raise ValueError(
                f"The generator has embedding_size={config.embedding_size}, but the embeddings of "
                f"{train_dataset.folder} are {about['width']} wide: make it with embedding_size={about['width']}."
            )
        if config.relations != about["relations"]:
            raise ValueError(
                f"The generator has other relations than the embeddings of {train_dataset.folder}, or another order: "
                "make it with the relations of the model that these are of."
            )
        _check_source(config.embeddings_of, train_dataset, "The generator")
        check_one_device(args)
        steps = math.ceil(len(train_dataset) / args.train_batch_size / args.world_size)
        steps = math.ceil(steps / args.gradient_accumulation_steps)
        args.check_epochs(args.max_steps / max(steps, 1) if args.max_steps > 0 else args.num_train_epochs)
        train_dataset.check_finite()
        config.embeddings_of = about["embeddings_of"]
        if config.embedding_scale == "deviation":
            config.embedding_scale = train_dataset.deviation()
        beyond = train_dataset.share_beyond(CLAMP * model.embedding_scale)
        if beyond > _FEW:
            logger.warning(
                f"{beyond:.1%} of the numbers in {train_dataset.folder} lie beyond {CLAMP * model.embedding_scale:g}, "
                "where the decoder's means end: what is generated will be smaller. The config's embedding_scale is "
                f"{model.embedding_scale:g}, and their deviation {train_dataset.deviation():g}: pass "
                'embedding_scale="deviation", or a larger number.'
            )
        model.denoiser.requires_grad_(False)
        self.generator = model
        self.learns_prior = False
        super().__init__(
            model=model,
            args=args,
            data_collator=_join,
            train_dataset=train_dataset,
            callbacks=[*(callbacks or []), _Average(self)],
        )
        # The loss is divided by the pairs of a step by the model itself.
        self.model_accepts_loss_kwargs = True

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """
        As `Trainer.train`.

        Raises:
            ValueError: If the checkpoint was trained on the embeddings of another model, or on another scale, or there
                is none to go on from.
        """
        folder = self._resume_from(resume_from_checkpoint)
        if folder is not None:
            found = VaeDiffConfig.from_pretrained(folder)
            _check_source(found.embeddings_of, cast(PairEmbeddingStore, self.train_dataset), folder)
            if not math.isclose(float(found.embedding_scale), self.generator.embedding_scale, rel_tol=1e-6):
                raise ValueError(
                    f"{folder} was trained with embedding_scale={found.embedding_scale}, and this generator has "
                    f"{self.generator.embedding_scale}: make it with that one, on the embeddings that it had."
                )
            self.generator.config.embedding_scale = found.embedding_scale
        return super().train(folder, *args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        count = torch.tensor([sum(len(batch["labels"]) for batch in batch_samples)], device=device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count)
        return count.sum().clamp(min=1)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """
        The loss of a batch, with the weights of the epoch.

        Args:
            model (`nn.Module`): The model, perhaps wrapped.
            inputs (`dict`): `embeddings` and `labels`.
            return_outputs (`bool`, *optional*, defaults to `False`): Whether to return the outputs as well.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Pairs of a step, of all micro-batches and processes, which the loss is a mean over.

        Returns:
            `torch.Tensor` or `tuple`: The loss, with the outputs if asked for.
        """
        self.learns_prior = (self.state.epoch or 0.0) >= self.args.autoencoder_epochs
        weight = self.args.kl_weight if self.learns_prior else self.args.first_kl_weight
        output = model(
            **inputs, kl_weight=weight, learn_prior=self.learns_prior, num_items_in_batch=num_items_in_batch
        )
        # Processes average their gradients, and their sums are divided by the pairs of all of them.
        scale = 1 if num_items_in_batch is None else self.accelerator.num_processes
        self._collect_parts(output.losses, scale)
        loss = output.loss * scale
        return (loss, output) if return_outputs else loss

    def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:
        """One optimizer with the rates of both parts."""
        if self.optimizer is None:
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.generator)
            groups = [
                {"params": list(self.generator.vae.parameters()), "lr": self.args.learning_rate},
                {"params": list(self.generator.learner.parameters()), "lr": self.args.prior_learning_rate},
            ]
            self.optimizer = kind(groups, **{"weight_decay": self.args.weight_decay, **settings})
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """A cosine for the autoencoder, a constant for the prior."""
        if self.lr_scheduler is None:
            least = self.args.min_learning_rate / self.args.learning_rate if self.args.learning_rate else 1.0

            def falls(step: int) -> float:
                share = min(1.0, step / max(1, num_training_steps))
                return least + (1 - least) * (1 + math.cos(math.pi * share)) / 2

            self.lr_scheduler = LambdaLR(optimizer or self.create_optimizer(), [falls, lambda step: 1.0])
        return self.lr_scheduler


def _check_source(embeddings_of: str | None, store: PairEmbeddingStore, who: str) -> None:
    if embeddings_of not in (None, store.manifest["embeddings_of"]):
        raise ValueError(
            f"{who} was trained on the pair embeddings of another model than those of {store.folder}: begin with a "
            "new one, or take the store that it had."
        )


def _join(documents: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([document[name] for document in documents]) for name in ("embeddings", "labels")}


__all__ = ["VaeDiffTrainer", "VaeDiffTrainingArguments"]
