"""What the trainers share: a loss that is logged by its parts, and checkpoints to go on from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .processes import Processes


def last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """
    The newest checkpoint that was written to its end: a killed run may leave half of one behind.

    Args:
        folder (`str` or `os.PathLike`): An `output_dir`.

    Returns:
        `str` or `None`: The folder of the checkpoint.
    """
    found = {}
    for state in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}"):
        # The state is what the trainer writes last.
        try:
            found[json.loads(state.read_text(encoding="utf-8"))["global_step"]] = str(state.parent)
        except (ValueError, KeyError):
            continue
    return found[max(found)] if found else None


class _AtTheBeginning(TrainerCallback):
    """Calls a function when training begins, after the Trainer has set its own sums to 0."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.act()


class LossPartsTrainer(Trainer):
    """A `transformers` Trainer that logs the parts of its loss, and that goes on adding up where it is resumed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._loss_parts: dict[str, torch.Tensor] = {}
        self._steps_logged = 0
        self._resumed_from: str | None = None
        self._loss_before = 0.0
        super().__init__(*args, **kwargs)
        self.add_callback(_AtTheBeginning(self._begin_losses))

    def _resume_from(self, wanted: str | bool | None) -> str | None:
        """The checkpoint to go on from; the last whole one for `True`."""
        if wanted is True:
            wanted = last_checkpoint(str(self.args.output_dir))
            if wanted is None:
                raise ValueError(
                    f"There is no complete checkpoint in {self.args.output_dir}; leave resume_from_checkpoint out to "
                    "start at the beginning."
                )
        self._resumed_from = str(wanted) if wanted else None
        return self._resumed_from

    # What a checkpoint has of losses that are not logged yet

    def _begin_losses(self) -> None:
        """Begins to add up; goes on where the checkpoint was written, if there is one."""
        self._loss_parts, self._steps_logged, self._loss_before = {}, self.state.global_step, 0.0
        file = None if self._resumed_from is None else self._losses_file(self._resumed_from)
        if file is None or not file.is_file():
            return
        kept = json.loads(file.read_text(encoding="utf-8"))
        self._tr_loss += kept["sum"]
        self._loss_before, self._globalstep_last_logged = kept["logged"], kept["last_logged"]
        self._loss_parts = {
            name: torch.tensor(value, device=self.args.device) for name, value in kept["parts"].items()
        }
        self._steps_logged = kept["last_logged"]

    def _save_rng_state(self, output_dir: str) -> None:
        # Each process comes here.
        super()._save_rng_state(output_dir)
        content = {
            "sum": self._tr_loss.item(),
            "logged": self._loss_before + self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "parts": {name: value.item() for name, value in self._loss_parts.items()},
        }
        self._losses_file(output_dir).write_text(json.dumps(content), encoding="utf-8")

    def _losses_file(self, folder: str) -> Path:
        return Path(folder) / f"losses_{self.args.process_index}.json"

    # Logs

    def _collect_parts(self, losses: Mapping[str, torch.Tensor] | None, share: float) -> None:
        """Adds up the parts of a micro-batch's loss, times what it counts in the mean over steps and processes."""
        for name, value in (losses or {}).items():
            value = value.detach().float() * share
            self._loss_parts[name] = self._loss_parts[name] + value if name in self._loss_parts else value

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """
        Logs; the training loss along with its parts, which are means per step since they were last logged.

        Args:
            logs (`dict[str, float]`): The values.
            start_time (`float`, *optional*): The start of training.
        """
        if "train_loss" in logs:
            # Of all steps, also those before a resume.
            logs["train_loss"] = (self._loss_before + self._total_loss_scalar) / max(self.state.global_step, 1)
        if "loss" in logs and "learning_rate" in logs:
            steps = max(self.state.global_step - self._steps_logged, 1)
            parts = {name: value.item() / steps for name, value in self._loss_parts.items()}
            for name, value in self._mean_over_processes(parts).items():
                logs[f"loss_{name}"] = value
            self._loss_parts, self._steps_logged = {}, self.state.global_step
        super().log(logs, start_time)

    def _mean_over_processes(self, values: dict[str, float]) -> dict[str, float]:
        everywhere = Processes(self.args.process_index, self.args.world_size).collect(values)
        names = dict.fromkeys(name for part in everywhere for name in part)
        return {name: sum(part.get(name, 0.0) for part in everywhere) / len(everywhere) for name in names}


__all__ = ["LossPartsTrainer", "last_checkpoint"]
