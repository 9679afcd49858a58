"""The settings of [`DocRETrainer`]."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

SECRETS = ("hub_token", "push_to_hub_token")
"""Settings that no file may hold."""

FOLDERS = (
    *("output_dir", "frozen_cache_dir", "resume_from_checkpoint", "teacher", "soft_labels", "generator"),
    "generator_of",
)
"""Settings that are places of this machine, however they are written."""

TWO_TEACHERS = "A student has one teacher, whose logits are computed along with training or read from a store"


class PortableArguments(TrainingArguments):
    """`TrainingArguments` that are pickled without what is of this machine or its user alone."""

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled, as into `training_args.bin`, which goes to the Hub: no token, and of folders the name."""
        state = {name: without_folders(value, always=name in FOLDERS) for name, value in vars(self).items()}
        return state | {name: None for name in SECRETS if name in state}

    def __copy__(self) -> PortableArguments:
        # A copy in this process keeps everything.
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> PortableArguments:
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied


@dataclass
class DocRETrainingArguments(PortableArguments):
    """
    `TrainingArguments` with what document-level relation extraction adds. Some inherited defaults differ:
    `remove_unused_columns` is off (the columns of a document aren't the arguments of the model),
    `per_device_train_batch_size` is 4 and `warmup_steps` 0.06 (of all steps), as published for ATLOP and its
    successors, `metric_for_best_model` is `"f1"` (of several evaluation sets that of the first), nothing is reported
    to a tracker, and the state of callbacks is restored on resume (a resumed run must stop early where an
    uninterrupted one would).

    Args:
        head_learning_rate (`float`, *optional*):
            Peak learning rate of everything that is not the pretrained encoder: a head that starts from random numbers
            takes larger steps. Defaults to `learning_rate`.
        module_learning_rates (`dict[str, float]`, *optional*):
            Peak learning rate of the parameters whose name contains the key, before the two rates above: published
            recipes train the axial transformer at the encoder's rate (KD-DocRE), the U-Net at its own (DocuNet).
        head_weight_decay (`float`, *optional*):
            Weight decay of the head. Defaults to `weight_decay`.
        max_pairs_per_batch (`int`, *optional*):
            The most pairs in a batch, besides `per_device_train_batch_size` documents: memory grows with pairs, and
            those with the square of the entities. A document with more is a batch of its own.
        normalise (`str`, *optional*, defaults to `"global"`):
            `"global"` divides summed losses by the number of pairs over all micro-batches and processes, so that
            accumulation and several processes equal one large batch; but what a contrastive loss compares, and the
            statistics of the U-Net head, are those of a micro-batch. `"micro-batch"` averages per micro-batch, as the
            published training scripts do.
        freeze_layers (`int`, *optional*, defaults to `0`):
            The number of lower encoder layers that stay as they are, embeddings included, with dropout off.
        freeze_embeddings (`bool`, *optional*, defaults to `False`):
            Whether the word embeddings stay as they are: most of a small encoder's parameters, and few documents reach
            few of them.
        frozen_cache_dir (`str`, *optional*):
            Folder in which the outputs of the frozen layers are kept, so that they run once per document and not once
            per epoch. Needs `freeze_layers`.
        teacher (`str` or `list[str]`, *optional*):
            Folder or Hub id of a trained model, or several for an ensemble, whose logits the student learns as well,
            computed along with each batch: distillation, of `config.distillation_weight` and `distillation_loss`.
        soft_labels (`str`, *optional*):
            A store of such logits that `docre distill` wrote, instead of `teacher`.
        prior_bias (`bool`, *optional*, defaults to `False`):
            Whether to start each relation's bias at the log-odds with which it occurs among the training pairs, and
            with PAEE's head those of potential pairs and of entities' roles likewise. Nearly all pairs have no
            relation, and without it the first updates do nothing but learn that.
        tune_threshold (`bool`, *optional*, defaults to `False`):
            Whether to choose the probability above which a relation is predicted by F1 on the evaluation documents
            after training, and to store it in `config.threshold`; then, where evaluation documents have gold evidence,
            `config.evidence_threshold` likewise. Of several evaluation sets the first counts.
        half_precision_weights (`bool`, *optional*, defaults to `False`):
            Whether `save_model` stores weights in float16, half the size; they load as float32. Checkpoints of a run
            that may go on stay exact.
        early_stopping_patience (`int`, *optional*):
            Stop after this many evaluations without a better `metric_for_best_model`.
        era_max_facts (`int`, *optional*):
            Relations with fewer facts than this in the training documents are augmented: put into
            `config.era_relations` where `config.era_copies` is above 0, and those whose documents `text_augmentation`
            copies. When left out, 500 where the config names none, and else those that it names.
        era_scale_facts (`bool`, *optional*, defaults to `False`):
            Whether that number is one of DocRED, and counts times the ratio of training facts here to its 38,180.
        text_augmentation (`str`, *optional*):
            `"deletion"` or `"mask"` adds altered copies of the training documents that hold a fact of a relation with
            few: in each epoch others, whose words outside of mentions are deleted or masked at random. What ERA's
            paper compares itself with.
        text_augmentation_probability (`float`, *optional*, defaults to `0.1`):
            Probability that a word outside of mentions is.
        text_augmentation_copies (`int`, *optional*, defaults to `1`):
            Altered copies of each of these documents in an epoch.
        augmentation (`str`, *optional*, defaults to `"none"`):
            `"vaediff"` adds generated pairs to each batch (VaeDiff-DocRE, section 2.3.3), `"gaussian"` copies of its
            pairs with noise, what the paper compares itself with. For models with one vector for a pair: axial.
        augmentation_copies (`int`, *optional*, defaults to `2`):
            Extra pairs for each one with a relation, and with its relations. 0 trains as `"none"` does.
        augmentation_warmup_epochs (`float`, *optional*, defaults to `5.0`): First epochs, which have none.
        augmentation_warmup_contrastive (`bool`, *optional*, defaults to `False`):
            Whether the contrastive loss counts in these, as in the paper (equation 29). The authors' code leaves it
            out.
        augmentation_noise (`float`, *optional*, defaults to `0.1`):
            Size of the noise, in standard deviations of each dimension over the pairs of a batch that have a relation.
        augmentation_bank (`int`, *optional*, defaults to `0`):
            So many embeddings are generated before training for each set of relations that a training pair has, and
            drawn from again and again, which costs little. 0 generates new ones in each step.
        generator (`str`, *optional*):
            Folder or Hub id of the [`VaeDiffModel`] that generates them.
        generator_of (`str`, *optional*):
            Folder or Hub id of the model whose pair embeddings the generator learned from, where a new model is
            trained, as published. When left out, training must start from that model.
    """

    per_device_train_batch_size: int = field(default=4, metadata={"help": "Documents in a training batch."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Documents have no model arguments to keep."})
    report_to: str | list[str] | None = field(default="none", metadata={"help": "Trackers to report to."})
    metric_for_best_model: str | None = field(default="f1", metadata={"help": "What decides which model is best."})
    warmup_steps: float = field(default=0.06, metadata={"help": "Warm-up in steps, or below 1 as share of all steps."})
    logging_steps: float = field(default=50, metadata={"help": "Log every so many steps."})
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Whether a resumed run restores, for example, the patience of early stopping."}
    )
    head_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate outside the encoder."})
    module_learning_rates: dict[str, float] | None = field(
        default=None, metadata={"help": "Learning rate of parameters whose name contains the key."}
    )
    head_weight_decay: float | None = field(default=None, metadata={"help": "Weight decay outside the encoder."})
    max_pairs_per_batch: int | None = field(default=None, metadata={"help": "The most pairs in a training batch."})
    normalise: str = field(default="global", metadata={"help": "global or micro-batch."})
    freeze_layers: int = field(default=0, metadata={"help": "Lower encoder layers that are not trained."})
    freeze_embeddings: bool = field(default=False, metadata={"help": "Whether word embeddings are not trained."})
    frozen_cache_dir: str | None = field(default=None, metadata={"help": "Where outputs of frozen layers are kept."})
    teacher: str | list[str] | None = field(default=None, metadata={"help": "Models whose logits are learnt as well."})
    soft_labels: str | None = field(default=None, metadata={"help": "Store of such logits, from `docre distill`."})
    prior_bias: bool = field(default=False, metadata={"help": "Start biases at the relations' log-odds."})
    tune_threshold: bool = field(default=False, metadata={"help": "Choose thresholds by F1 after training."})
    half_precision_weights: bool = field(default=False, metadata={"help": "Whether save_model stores float16."})
    early_stopping_patience: int | None = field(default=None, metadata={"help": "Evaluations without improvement."})
    era_max_facts: int | None = field(default=None, metadata={"help": "Augment relations with fewer training facts."})
    era_scale_facts: bool = field(default=False, metadata={"help": "Whether era_max_facts is a number of DocRED."})
    text_augmentation: str | None = field(default=None, metadata={"help": "deletion or mask."})
    text_augmentation_probability: float = field(default=0.1, metadata={"help": "That of a word to be altered."})
    text_augmentation_copies: int = field(default=1, metadata={"help": "Altered copies of a document in an epoch."})
    augmentation: str = field(default="none", metadata={"help": "none, vaediff or gaussian: extra pairs."})
    augmentation_copies: int = field(default=2, metadata={"help": "Extra pairs for each one with a relation."})
    augmentation_warmup_epochs: float = field(default=5.0, metadata={"help": "Epochs without extra pairs."})
    augmentation_warmup_contrastive: bool = field(
        default=False, metadata={"help": "Whether the contrastive loss counts in these."}
    )
    augmentation_noise: float = field(default=0.1, metadata={"help": "Size of the noise, in standard deviations."})
    augmentation_bank: int = field(default=0, metadata={"help": "Embeddings generated beforehand per relation set."})
    generator: str | None = field(default=None, metadata={"help": "What generates extra pairs."})
    generator_of: str | None = field(default=None, metadata={"help": "Whose embeddings the generator learned."})

    def __post_init__(self) -> None:
        # transformers refuses bfloat16 on a CPU unless it is told that the CPU is meant, and there is no other choice.
        if self.bf16 and not torch.accelerator.is_available():
            self.use_cpu = True
        super().__post_init__()
        if self.normalise not in ("global", "micro-batch"):
            raise ValueError(f"normalise={self.normalise!r} is not known: pass 'global' or 'micro-batch'.")
        if self.freeze_layers < 0:
            raise ValueError(f"freeze_layers={self.freeze_layers}: pass the number of lower layers to freeze, or 0.")
        if self.frozen_cache_dir is not None and self.freeze_layers == 0:
            raise ValueError("frozen_cache_dir keeps the outputs of frozen layers: pass freeze_layers=N too.")
        if self.frozen_cache_dir is not None and self.torch_compile:
            raise ValueError("frozen_cache_dir looks at each batch, which can't be compiled: leave torch_compile out.")
        if self.tune_threshold and (self.bf16_full_eval or self.fp16_full_eval):
            raise ValueError(
                "bf16_full_eval and fp16_full_eval round the model itself, and tune_threshold evaluates it before it "
                "is saved: pass bf16=True, which computes in bfloat16 and keeps the weights, or leave one of them out."
            )
        self._refuse_unused()
        self._check_text_augmentation()
        self._check_augmentation()
        if self.teacher and self.soft_labels:
            raise ValueError(f"{TWO_TEACHERS}: pass teacher or soft_labels, not both.")
        for name in ("max_pairs_per_batch", "early_stopping_patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: pass a positive number, or None for no limit.")
        if self.train_sampling_strategy not in ("random", "sequential", "group_by_length"):
            raise ValueError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} does not know about pairs: pass 'random', "
                "'sequential' or 'group_by_length', with max_pairs_per_batch to limit a batch."
            )
        # Both would cut a batch by rows, `pairs` apart from `input_ids`.
        config: Any = self.accelerator_config
        config.dispatch_batches = False
        config.split_batches = False

    def _check_text_augmentation(self) -> None:
        if self.era_max_facts is not None and self.era_max_facts < 1:
            raise ValueError(f"era_max_facts={self.era_max_facts} is no relation's: pass 1 or more, or leave it out.")
        if self.text_augmentation not in (None, "deletion", "mask"):
            raise ValueError(
                f"text_augmentation={self.text_augmentation!r} is not known: pass 'deletion', 'mask' or None."
            )
        if not 0.0 < self.text_augmentation_probability < 1.0 or self.text_augmentation_copies < 1:
            raise ValueError(
                f"text_augmentation_probability={self.text_augmentation_probability} and text_augmentation_copies="
                f"{self.text_augmentation_copies}: pass a probability between 0 and 1, and 1 copy or more."
            )
        names = ("text_augmentation_probability", "text_augmentation_copies")
        changed = [name for name in names if getattr(self, name) != getattr(type(self), name)]
        if self.text_augmentation is None and changed:
            raise ValueError(
                f"{' and '.join(f'{name}={getattr(self, name)}' for name in changed)} would alter nothing: pass "
                "text_augmentation, 'deletion' or 'mask', or leave that out."
            )

    def _check_augmentation(self) -> None:
        if self.augmentation not in ("none", "vaediff", "gaussian"):
            raise ValueError(
                f"augmentation={self.augmentation!r} is not known: pass 'vaediff', 'gaussian' or 'none'; "
                "text_augmentation alters texts."
            )
        defaults = {item.name: item.default for item in fields(self)}
        for name in (name for name in defaults if name.startswith("augmentation_")):
            if getattr(self, name) is None:
                setattr(self, name, defaults[name])
        for name in ("generator", "generator_of"):
            if not isinstance(getattr(self, name), str | os.PathLike | None):
                raise ValueError(f"{name}={getattr(self, name)!r} is not one folder or Hub id; pass one, as a string.")
        for name in ("copies", "warmup_epochs", "noise", "bank"):
            if not 0 <= getattr(self, f"augmentation_{name}") < math.inf:
                raise ValueError(f"augmentation_{name}={getattr(self, f'augmentation_{name}')}: pass 0 or more.")
        idle = {
            "none": ("augmentation_", "generator"),
            "gaussian": ("augmentation_bank", "generator"),
            "vaediff": ("augmentation_noise",),
        }[self.augmentation]
        names = [item.name for item in fields(self) if item.name.startswith(idle)]
        changed = [name for name in names if getattr(self, name) != getattr(type(self), name)]
        if changed:
            raise ValueError(
                f"{' and '.join(changed)} would do nothing with augmentation={self.augmentation!r}: pass another, "
                "'vaediff' or 'gaussian', or leave out what does nothing."
            )
        if self.max_steps <= 0:
            self.check_warmup(self.num_train_epochs)

    def check_warmup(self, epochs: float) -> None:
        """
        Checks that a training of so many epochs adds the extra pairs that it is to add.

        Args:
            epochs (`float`): Epochs.

        Raises:
            ValueError: If it does not.
        """
        adds = self.augmentation != "none" and self.augmentation_copies > 0
        if adds and self.augmentation_warmup_epochs >= epochs:
            raise ValueError(
                f"augmentation_warmup_epochs={self.augmentation_warmup_epochs:g} of {epochs:g} epochs leave none to "
                "augment: train for longer, or make these fewer."
            )

    def _refuse_unused(self) -> None:
        """Refuses settings of Trainer that would do nothing here."""
        unused = {
            "label_smoothing_factor": "the model computes its own loss, which no setting smooths",
            "include_for_metrics": "evaluation scores relations itself",
            "prediction_loss_only": "evaluation always scores relations",
            "batch_eval_metrics": "evaluation scores relations itself",
        }
        for name, reason in unused.items():
            if getattr(self, name, None):
                raise ValueError(f"{name}={getattr(self, name)!r} would not be used: {reason}. Leave it out.")


def without_folders(value: Any, *, always: bool = False) -> Any:
    """A setting in which a place of this machine is only its last name; `always` for a field that is a place."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(without_folders(item, always=always) for item in value)
    if isinstance(value, str | os.PathLike) and (always or os.path.isabs(value)):
        return Path(value).name or "."
    return value


__all__ = ["SECRETS", "DocRETrainingArguments", "PortableArguments", "without_folders"]
