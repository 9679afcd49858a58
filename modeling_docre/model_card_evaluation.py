"""What a model card says of training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch

from .configuration_docre import DocREConfig
from .model_card_facts import count, duration, percent, plain, table
from .training_data import describe_left_out
from .training_record import Evaluation, RecordingTrainer

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


def is_current(trainer: RecordingTrainer, item: Evaluation) -> bool:
    """Whether the figures are of the model as it is now, weights and thresholds."""
    config = trainer.model.config
    thresholds = (config.threshold, config.evidence_threshold)
    return item.step == trainer.model_step and (item.threshold, item.evidence_threshold) == thresholds


def evaluation_table(evaluations: Sequence[Evaluation]) -> str:
    """The figures on each set of documents, or nothing."""
    if not evaluations:
        return ""
    shown = [metric for metric in METRICS if any(metric in item.metrics for item in evaluations)]
    rows = [
        [
            item.name,
            len(item.documents),
            sum(gold for gold, *_ in item.relations.values()),
            *(percent(item.metrics.get(metric)) for metric in shown),
        ]
        for item in evaluations
    ]
    return table(["Documents", "Number", "Facts", *(METRICS[metric] for metric in shown)], rows)


def evaluation_notes(
    trainer: RecordingTrainer, evaluations: Sequence[Evaluation], data_sets: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What the figures are of: how relations are compared, the data, the thresholds, and reservations."""
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
    for item, data in zip(evaluations, data_sets, strict=False):
        parts = [data["dataset_name"]]
        parts += [f"data set {data['dataset_type']}"] if data["dataset_type"] != data["dataset_name"] else []
        parts += [f"{name} {data[f'dataset_{name}']}" for name in ("split", "revision") if f"dataset_{name}" in data]
        notes.append(f"The {plain(item.name)} documents: {plain(', '.join(parts))}.")
    if trainer.regimes.get("eval"):
        notes.append(f"Left out of the evaluation documents by lot: {plain(trainer.regimes['eval'])}.")
    if trainer.model.config.threshold is None:
        notes.append("Threshold: the decision's own rule; none was tuned.")
    else:
        notes.append(_threshold(trainer, evaluations, "threshold", "F1"))
    if trainer.model.config.evidence_threshold is not None:
        notes.append(_threshold(trainer, evaluations, "evidence_threshold", "evidence sentence F1"))
    return notes + [note for item in evaluations for note in _reservations(trainer, item)]


def _threshold(trainer: RecordingTrainer, evaluations: Sequence[Evaluation], name: str, figure: str) -> str:
    f1 = trainer.tuned_f1(name)
    text = f"{name.replace('_', ' ').capitalize()}: {getattr(trainer.model.config, name):.4g}"
    if f1 is None:
        return f"{text}, as the configuration had it; not tuned in this training."
    sets = [item.name for item in evaluations if trainer.tuned_on(name, item)]
    documents = f"the {plain(' and '.join(sets))} documents" if sets else "labelled documents"
    return f"{text}, chosen by {figure} on {documents}, where it gives {percent(f1)}."


def _reservations(trainer: RecordingTrainer, item: Evaluation) -> list[str]:
    """What a reader of the figures must know not to take them for more than they are."""
    args, name = trainer.args, plain(item.name)
    texts = []
    if item.step != trainer.model_step:
        texts.append(
            f"The figures on the {name} documents are of training step {item.step}; the model is that of step "
            f"{trainer.model_step}."
        )
    elif not is_current(trainer, item):
        texts.append(f"The figures on the {name} documents were measured with other thresholds than these.")
    missed = int(item.metrics.get("gold_not_scored", 0))
    if missed:
        texts.append(f"{count(missed, 'gold fact')} of the {name} documents are of pairs that are not scored: missed.")
    chosen = [choice for choice in ("threshold", "evidence_threshold") if trainer.tuned_on(choice, item)]
    if item.prefix == _first_prefix(trainer) and (args.load_best_model_at_end or args.early_stopping_patience):
        chosen.insert(0, "checkpoint")
    if chosen:
        what = " and ".join(f"the {choice.replace('_', ' ')}" for choice in chosen).capitalize()
        were = "was" if len(chosen) == 1 else "were"
        texts.append(f"{what} {were} chosen on the {name} documents, which flatters the figures.")
    return texts


def _first_prefix(trainer: RecordingTrainer) -> str:
    sets = trainer.eval_dataset
    return f"eval_{next(iter(sets))}" if isinstance(sets, dict) else "eval"


def evaluated_relations(config: DocREConfig, evaluations: Sequence[Evaluation]) -> str:
    """The figures of each relation that has enough gold facts, on the first set of documents that has one."""
    for item in evaluations:
        enough = {name: figures for name, figures in item.relations.items() if figures[0] >= ENOUGH_FACTS}
        if enough:
            worded = any(config.relation_label(relation) != relation for relation in enough)
            rows = [
                (relation, *[config.relation_label(relation)] * worded, gold, *map(percent, figures))
                for relation, (gold, *figures) in enough.items()
            ]
            left = len(item.relations) - len(enough)
            note = f"Relations with {ENOUGH_FACTS} or more gold facts in the {plain(item.name)} documents"
            note += f" ({count(left, 'relation')} with fewer not listed):" if left else ":"
            header = ("Relation", *["Words"] * worded, "Gold facts", "F1", "Precision", "Recall")
            return f"{note}\n\n{table(header, rows)}"
    return ""


# Training


def training_facts(trainer: RecordingTrainer, facts: int) -> list[tuple[str, str]]:
    """What was trained on, for how long, and where."""
    args, state, dataset = trainer.args, trainer.state, trainer.train_dataset
    if not state.global_step:
        return [("Unknown", "this trainer has not trained the model")]
    rows = []
    if dataset is not None:
        rows.append(("Data", f"{count(len(dataset.documents), 'document')}, {count(facts, 'fact')}"))
        if trainer.regimes.get("train"):
            rows.append(("Left out by lot", plain(trainer.regimes["train"])))
        if trainer.pseudo_labels:
            rows.append(("Self-training", f"{count(trainer.pseudo_labels, 'pseudo-label')} beside these facts"))
        left_out = describe_left_out(dataset.left_out)
        if left_out:
            rows.append(("Left out or unknown in them", plain(left_out)))
    epochs = f" ({state.epoch:.4g} epochs)" if state.epoch else ""
    rows.append(("Steps", f"{state.global_step:,}{epochs}"))
    if trainer.model_step != state.global_step:
        best = plain(args.metric_for_best_model)
        rows.append(("Checkpoint", f"that of step {trainer.model_step:,}, the best by {best}"))
    runtime = next((entry["train_runtime"] for entry in state.log_history if "train_runtime" in entry), None)
    if runtime is not None:
        rows.append(("Duration", duration(runtime) + (", since the run was resumed" if trainer._resumed else "")))
    processes = f", {args.world_size} processes" if args.world_size > 1 else ""
    rows.append(("Device", plain(_device(args.device)) + processes))
    return rows


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def training_curve(trainer: RecordingTrainer) -> str:
    """The evaluations during training, of several sets the first, where there were two or more."""
    log, prefix = trainer.state.log_history, _first_prefix(trainer)
    items = [entry for entry in takewhile(lambda entry: "train_runtime" not in entry, log) if f"{prefix}_f1" in entry]
    if len(items) < 2:
        return ""
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    rows = []
    for item in items:
        step = max((step for step in losses if step <= item["step"]), default=-1)
        shown = (item.get("epoch"), losses.get(step), item.get(f"{prefix}_loss"))
        epoch, loss, evaluation_loss = ("" if value is None else f"{value:.4g}" for value in shown)
        figures = (percent(item.get(f"{prefix}_{name}")) for name in ("f1", "precision", "recall"))
        rows.append([epoch, item["step"], loss, evaluation_loss, *figures])
    header = ("Epoch", "Step", "Training loss", "Evaluation loss", "F1", "Precision", "Recall")
    name = f" on the {plain(prefix.removeprefix('eval_'))} documents" if prefix != "eval" else ""
    return f"Evaluations during training{name}:\n\n{table(header, rows)}"


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
