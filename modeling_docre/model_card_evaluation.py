"""What a model card says of training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .configuration_docre import DocREConfig
from .documents import Document
from .model_card_text import count, duration, percent, plain, table
from .training_data import describe_left_out
from .training_record import Evaluation, RecordingTrainer, logged_evaluations

METRICS = {
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "ign_f1": "Ign F1",
    "evidence_sentence_f1": "Evidence sentence F1",
}
"""What a card lists of an evaluation, and how it is called."""

ENOUGH_FACTS = 10
"""Gold facts from which on a relation's own figures say something."""

MAX_CURVE = 12
"""Rows of the table of evaluations during training."""


def is_current(trainer: RecordingTrainer, item: Evaluation) -> bool:
    """Whether the figures are of the model as it is now, weights and thresholds."""
    config = trainer.model.config
    if item.documents is None:
        same = not any("threshold_f1" in entry for entry in trainer.state.log_history)
    else:
        same = (item.threshold, item.evidence_threshold) == (config.threshold, config.evidence_threshold)
    return same and item.step == trainer.model_step


def evaluation_table(evaluations: Sequence[Evaluation]) -> str:
    """The figures on each set of documents, or nothing."""
    if not evaluations:
        return ""
    shown = [metric for metric in METRICS if any(metric in item.metrics for item in evaluations)]
    rows = [
        [item.name, item.documents or "", item.facts or "", *(percent(item.metrics.get(metric)) for metric in shown)]
        for item in evaluations
    ]
    header = ["Documents", "Number", "Facts", *(METRICS[metric] for metric in shown)]
    return table(header, rows)


def evaluation_notes(trainer: RecordingTrainer, evaluations: Sequence[Evaluation]) -> list[str]:
    """What the figures are of: how relations are compared, the data, the thresholds, and reservations."""
    config = trainer.model.config
    notes = [
        "Figures in percent. Mentions and entities are given as in the gold data; a relation is right if head, tail "
        "and relation are, by the rules of the official DocRED scorer."
    ]
    metrics = {name for item in evaluations for name in item.metrics}
    if "ign_f1" in metrics:
        notes.append("Ign F1 leaves out correct facts that the training documents name too.")
    if "evidence_sentence_f1" in metrics:
        notes.append(
            "Evidence sentence F1 counts the sentences of correct relations that have gold evidence; it is not the "
            "official evidence F1."
        )
    notes += _data(trainer, evaluations)
    notes.append(_threshold(trainer))
    if config.evidence_threshold is not None:
        notes.append(_evidence_threshold(trainer))
    for item in evaluations:
        notes += _reservations(trainer, item)
    return notes


def _data(trainer: RecordingTrainer, evaluations: Sequence[Evaluation]) -> list[str]:
    texts = []
    for item in evaluations:
        origin = trainer._origins.get(item.prefix)
        if origin is not None:
            parts = [f"data set {origin.dataset}"]
            parts += [f"configuration {origin.config}"] if origin.config else []
            parts += [f"split {origin.split}"] if origin.split else []
            texts.append(
                f"The {plain(item.name)} documents: {plain(', '.join([*parts, f'revision {origin.revision}']))}."
            )
    return texts


def _threshold(trainer: RecordingTrainer) -> str:
    threshold = trainer.model.config.threshold
    if threshold is None:
        return "Threshold: the decision's own rule; none was tuned."
    return f"Threshold: {threshold:.4g}, {_chosen(trainer, 'threshold', threshold, 'F1')}."


def _evidence_threshold(trainer: RecordingTrainer) -> str:
    threshold = trainer.model.config.evidence_threshold or 0.0
    chosen = _chosen(trainer, "evidence_threshold", threshold, "evidence sentence F1")
    return f"Evidence threshold: {threshold:.4g}, {chosen}."


def _chosen(trainer: RecordingTrainer, name: str, threshold: float, figure: str) -> str:
    tuned = [entry for entry in trainer.state.log_history if entry.get(name) == threshold and f"{name}_f1" in entry]
    if not tuned:
        return "as the configuration had it; not tuned in this training"
    documents = "evaluation documents" if trainer.args.tune_threshold else "labelled documents"
    return f"chosen by {figure} on the {documents}, where it gives {percent(tuned[-1][f'{name}_f1'])}"


def _reservations(trainer: RecordingTrainer, item: Evaluation) -> list[str]:
    """What a reader of the figures must know not to take them for more than they are."""
    args, name = trainer.args, plain(item.name)
    texts = []
    if item.step != trainer.model_step:
        texts.append(
            f"The figures on the {name} documents are of training step {item.step}; the model is that of step "
            f"{trainer.model_step}, which has not been evaluated."
        )
    elif not is_current(trainer, item):
        texts.append(f"The figures on the {name} documents were measured with other thresholds than these.")
    missed = int(item.metrics.get("gold_not_scored", 0))
    if missed:
        texts.append(f"{count(missed, 'gold fact')} of the {name} documents are of pairs that are not scored: missed.")
    choices = ["the checkpoint"] * bool(args.load_best_model_at_end or args.early_stopping_patience)
    choices += ["the thresholds"] * args.tune_threshold
    first = next(iter(trainer.eval_dataset), "") if isinstance(trainer.eval_dataset, dict) else ""
    if choices and item.prefix == (f"eval_{first}" if first else "eval"):
        were = "was" if choices == ["the checkpoint"] else "were"
        chosen = " and ".join(choices).capitalize()
        texts.append(f"{chosen} {were} chosen on these documents, which flatters the figures.")
    return texts


def evaluated_relations(config: DocREConfig, evaluations: Sequence[Evaluation]) -> tuple[str, str]:
    """The figures of each relation that has enough gold facts, on the first set of documents that has one; and what
    to write above.
    """
    for item in evaluations:
        enough = {name: counts for name, counts in item.relations.items() if counts[0] >= ENOUGH_FACTS}
        if enough:
            worded = any(config.relation_label(relation) != relation for relation in enough)
            rows = [
                (relation, *[config.relation_label(relation)] * worded, gold, *map(percent, _figures(gold, *others)))
                for relation, (gold, *others) in enough.items()
            ]
            left = sum(0 < gold < ENOUGH_FACTS for gold, _, _ in item.relations.values())
            note = f"Relations with {ENOUGH_FACTS} or more gold facts in the {plain(item.name)} documents"
            note += f" ({count(left, 'relation')} with fewer not listed):" if left else ":"
            header = ("Relation", *["Words"] * worded, "Gold facts", "F1", "Precision", "Recall")
            return table(header, rows), note
    return "", ""


def _figures(gold: int, predicted: int, correct: int) -> tuple[float, float, float]:
    precision, recall = correct / max(predicted, 1), correct / max(gold, 1)
    return 2 * correct / max(predicted + gold, 1), precision, recall


# Training


def training_facts(trainer: RecordingTrainer, documents: Sequence[Document], facts: int) -> list[tuple[str, str]]:
    """What was trained on, for how long, and where."""
    args, state, rows = trainer.args, trainer.state, []
    dataset, origin = trainer.train_dataset, trainer._origins.get("train")
    if not state.global_step:
        return [("Unknown", "this trainer has not trained the model")]
    if dataset is not None:
        text = f"{count(len(documents), 'document')}, {count(facts, 'fact')}"
        if origin is not None:
            text += plain(
                f" ({origin.dataset}{f', {origin.split}' if origin.split else ''}, revision {origin.revision})"
            )
        rows.append(("Data", text))
        left_out = describe_left_out(dataset.left_out)
        if left_out:
            rows.append(("Left out of them", plain(left_out)))
    epochs = f" ({state.epoch:.4g} epochs)" if state.epoch else ""
    rows.append(("Steps", f"{state.global_step:,}{epochs}"))
    if trainer.model_step != state.global_step:
        rows.append(
            ("Checkpoint", f"that of step {trainer.model_step:,}, the best by {plain(args.metric_for_best_model)}")
        )
    runtime = next((entry["train_runtime"] for entry in state.log_history if "train_runtime" in entry), None)
    if runtime is not None:
        rows.append(("Duration", duration(runtime) + (", since the run was resumed" if trainer._resumed else "")))
    processes = f", {args.world_size} processes" if args.world_size > 1 else ""
    rows.append(("Device", plain(_device(args.device)) + processes))
    return rows


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def training_curve(trainer: RecordingTrainer) -> tuple[str, str]:
    """The evaluations during training, all or some evenly chosen, and a word on that."""
    log, state = trainer.state.log_history, trainer.state
    logged = logged_evaluations(log)
    items = [item for item in logged if item.prefix == logged[0].prefix]
    if len(items) < 2:
        return "", ""
    chosen = items
    if len(items) > MAX_CURVE:
        last = len(items) - 1
        places = {round(number * last / (MAX_CURVE - 1)) for number in range(MAX_CURVE)}
        places |= {number for number, item in enumerate(items) if item.step == state.best_global_step}
        chosen = [items[place] for place in sorted(places)]
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    epochs = {entry["step"]: entry["epoch"] for entry in log if "epoch" in entry}
    rows = []
    for item in chosen:
        step = max((step for step in losses if step <= item.step), default=None)
        rows.append(
            [
                f"{epochs[item.step]:.4g}" if item.step in epochs else "",
                item.step,
                "" if step is None else f"{losses[step]:.4g}",
                f"{item.metrics['loss']:.4g}" if "loss" in item.metrics else "",
                *(percent(item.metrics.get(name)) for name in ("f1", "precision", "recall")),
            ]
        )
    header = ("Epoch", "Step", "Training loss", "Evaluation loss", "F1", "Precision", "Recall")
    name = "" if items[0].name == "evaluation" else f" on the {plain(items[0].name)} documents"
    part = f" ({len(chosen)} of {len(items)})" if len(chosen) < len(items) else ""
    return table(header, rows), name + part


__all__ = [
    "ENOUGH_FACTS",
    "METRICS",
    "evaluated_relations",
    "evaluation_notes",
    "evaluation_table",
    "is_current",
    "training_curve",
    "training_facts",
]
