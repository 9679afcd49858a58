"""The model card that [`DocRETrainer`] writes: nothing but what it knows or was told, and no place on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING
from transformers.utils import logging

from . import __version__
from .metrics.docred.scoring import relation_counts
from .model_card_evaluation import (
    ENOUGH_FACTS,
    METRICS,
    evaluated_relations,
    evaluation_notes,
    evaluation_table,
    is_current,
    training_curve,
    training_facts,
)
from .model_card_facts import HEADS, LOSSES, citations, count, hyper_parameters, percent, plain, table, versions
from .remote_code import CARD_TAGS as TAGS
from .remote_code import LIBRARY, as_list
from .training_record import Evaluation, RecordingTrainer

logger = logging.get_logger(__name__)

GENERATED = "generated_from_trainer"

DECISIONS = {
    "threshold-class": "its logit is above the threshold class's (a probability of 0.5)",
    "zero": "its logit is above 0 (a probability of 0.5)",
    "probability": "its probability is above 0.5",
}


def write_model_card(trainer: RecordingTrainer, folder: Path, **said: Any) -> None:
    """
    Writes `README.md`, unless there is one that a person wrote.

    Args:
        trainer ([`DocRETrainer`]): What the card is about.
        folder (`Path`): The folder of the model.
        said: As for [`DocRETrainer.create_model_card`].
    """
    from huggingface_hub import ModelCard

    path = folder / "README.md"
    earlier = _generated_tags(path) if path.exists() else []
    if earlier is None:
        logger.warning(
            f"{path} stays as it is: its tags lack {GENERATED}, so a person wrote or changed it. Move it away to "
            "have a model card written."
        )
        return
    model_id = trainer.hub_model_id or folder.resolve().name
    said["model_name"] = said.get("model_name") or model_id.split("/")[-1]
    # An encoder's family is a tag of its card, and another one may have been trained into this folder before.
    kept = [tag for tag in earlier if tag not in CONFIG_MAPPING]
    said["tags"] = [*as_list(said.get("tags")), *as_list(trainer.model.model_tags), *kept]
    evaluations = trainer.reported_evaluations()
    data_sets = _data_sets(evaluations, said)
    data = _card_data(trainer, evaluations, data_sets, said)
    content = _content(trainer, evaluations, data_sets, {**said, "model_id": _string(model_id)})
    folder.mkdir(parents=True, exist_ok=True)
    card = ModelCard.from_template(data, template_path=str(Path(__file__).with_name(trainer.card_template)), **content)
    path.write_text(str(card).rstrip() + "\n", encoding="utf-8")


def _generated_tags(path: Path) -> list[str] | None:
    """The tags of a card that a trainer wrote; `None` for another one."""
    import yaml
    from huggingface_hub import ModelCard

    try:
        tags = as_list(ModelCard.load(path, ignore_metadata_errors=True).data.tags)
    except (ValueError, TypeError, yaml.YAMLError):
        return None
    return tags if GENERATED in tags else None


# Front matter


def _card_data(
    trainer: RecordingTrainer,
    evaluations: Sequence[Evaluation],
    data_sets: list[dict[str, Any]],
    said: Mapping[str, Any],
) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    tasks = as_list(said.get("tasks"))
    results = [
        EvalResult(
            task_type=tasks[0] if tasks else "relation-extraction",
            task_name="Document-level relation extraction",
            metric_type=metric,
            metric_name=title,
            metric_value=round(evaluation.metrics[metric], 4),
            **data,
        )
        for evaluation, data in zip(evaluations, data_sets, strict=False)
        if is_current(trainer, evaluation)
        for metric, title in METRICS.items()
        if metric in evaluation.metrics
    ]
    tags = [*TAGS, trainer.model.config.encoder.model_type, GENERATED, *said["tags"]]
    return ModelCardData(
        language=as_list(said.get("language")) or None,
        license=said.get("license"),
        library_name=LIBRARY,
        pipeline_tag=trainer.pipeline_tag,
        tags=list(dict.fromkeys(tags)),
        datasets=list(dict.fromkeys(as_list(said.get("dataset_tags")))) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        base_model=said.get("finetuned_from") or trainer._start_model or trainer._encoder,
        model_name=said["model_name"],
        eval_results=results or None,
    )


def _data_sets(evaluations: Sequence[Evaluation], said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `EvalResult` needs to know of the data of each evaluation; nothing where nobody said one for each."""
    number = len(evaluations)
    keys = {name: as_list(said.get(name)) for name in ("dataset_args", "dataset_split", "dataset_revision")}
    ids, names = as_list(said.get("dataset_tags")), as_list(said.get("dataset"))
    if len(ids) != number:
        if ids and number:
            logger.warning(
                f"model-index has no figures: dataset_tags has {count(len(ids), 'id')}, and the model was evaluated "
                f"on {count(number, 'set')} of documents. Pass one for each: {', '.join(e.name for e in evaluations)}."
            )
        return []
    return [
        {
            "dataset_type": ids[i],
            "dataset_name": names[i] if len(names) == number else ids[i],
            **{name: values[i] for name, values in keys.items() if len(values) == number},
        }
        for i in range(number)
    ]


# Content


def _content(
    trainer: RecordingTrainer,
    evaluations: Sequence[Evaluation],
    data_sets: list[dict[str, Any]],
    said: Mapping[str, Any],
) -> dict[str, Any]:
    config, trained = trainer.model.config, trainer.train_dataset is not None and trainer.state.global_step > 0
    counts = relation_counts(trainer._training_facts()) if trained else {}
    worded = any(config.relation_label(relation) != relation for relation in config.relations)
    start, origin = as_list(said.get("finetuned_from") or trainer._start_model), ""
    if start:
        origin = f", trained further from {plain(', '.join(start))},"
    elif trainer._encoder:
        origin = f" around the encoder of {plain(trainer._encoder)}"
    return {
        **{function.__name__: function for function in (count, percent, plain)},
        "name": said["model_name"],
        "model_id": said["model_id"],
        "config": config,
        "origin": origin,
        "current": [item for item in evaluations if is_current(trainer, item)],
        "encoder_id": trainer._encoder,
        "encoder": config.get_text_config(),
        "head": HEADS[config.head][0],
        "loss": LOSSES[config.loss][0],
        "decision": DECISIONS[config.decision],
        "parameters": trainer.model.num_parameters(),
        "encoder_parameters": trainer.model.docre.encoder.num_parameters(),
        "half_precision": trainer.args.half_precision_weights,
        "license": said.get("license"),
        "relations": table(
            ["Relation", *["Words"] * worded, *["Training facts"] * trained],
            [
                (relation, *[config.relation_label(relation)] * worded, *[counts.get(relation, 0)] * trained)
                for relation in config.relations
            ],
        ),
        "documents": len(trainer.train_dataset.documents) if trained and trainer.train_dataset is not None else 0,
        "rare": sum(counts.get(relation, 0) < ENOUGH_FACTS for relation in config.relations),
        "enough_facts": ENOUGH_FACTS,
        "evaluation": evaluation_table(evaluations),
        "evaluation_notes": evaluation_notes(trainer, evaluations, data_sets),
        "evaluated_relations": evaluated_relations(config, evaluations),
        "training": training_facts(trainer, sum(counts.values())),
        "hyper_parameters": table(("Hyper-parameter", "Value"), hyper_parameters(trainer.args, trainer.passed))
        if trained
        else "",
        "curve": training_curve(trainer),
        "versions": versions(),
        "citations": citations(config, __version__),
    }


def _string(text: str) -> str:
    """The text as Python writes it, in double quotes where that is possible without escapes."""
    quoted = repr(text)
    return f'"{quoted[1:-1]}"' if quoted[0] == "'" and '"' not in quoted and "\\'" not in quoted else quoted


__all__ = ["write_model_card"]
