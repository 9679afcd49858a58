"""The model card that [`DocRETrainer`] writes: nothing but what the trainer knows, and no place on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils import logging

from . import __version__
from .configuration_docre import DocREConfig
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
from .model_card_facts import (
    HEADS,
    LOSSES,
    Example,
    citations,
    example_markup,
    fact_counts,
    hyper_parameters,
    relation_examples,
    versions,
)
from .model_card_text import count, fence, percent, plain, table
from .training_record import Evaluation, RecordingTrainer

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

logger = logging.get_logger(__name__)

GENERATED = "generated_from_trainer"
TAGS = (
    "docre",
    "document-level-relation-extraction",
    "relation-extraction",
    "information-extraction",
    "knowledge-graph",
)
TEMPLATE = Path(__file__).with_name("model_card_template.md")

NO_TRAINING_DOCUMENTS = "A nurse named [Ines]() works in [Lisbon](), where [she](Ines) studied."

DECISIONS = {
    "threshold-class": "a relation is predicted where its logit is above the threshold class's (a probability of 0.5)",
    "zero": "a relation is predicted where its logit is above 0 (a probability of 0.5)",
    "probability": "a relation is predicted where its probability is above 0.5",
}


def write_model_card(trainer: RecordingTrainer, folder: Path, **settings: Any) -> None:
    """
    Writes `README.md`, unless there is one that a person wrote.

    Args:
        trainer ([`DocRETrainer`]): What the card is about.
        folder (`Path`): The folder of the model.
        settings: As for [`DocRETrainer.create_model_card`].
    """
    from huggingface_hub import ModelCard

    path = folder / "README.md"
    tags = _strings(settings.pop("tags", None))
    if path.exists():
        earlier = _generated_tags(path)
        if earlier is None:
            logger.warning(
                f"{path} stays as it is: its tags lack {GENERATED}, so a person wrote or changed it. Move it away to "
                "have a model card written."
            )
            return
        tags += earlier
    name = settings.pop("model_name", None) or (trainer.hub_model_id or folder.resolve().name).split("/")[-1]
    data = _card_data(trainer, name, tags, **settings)
    content = _content(trainer, name, trainer.hub_model_id or folder.resolve().name, data.base_model)
    folder.mkdir(parents=True, exist_ok=True)
    card = ModelCard.from_template(data, template_path=str(TEMPLATE), **content)
    path.write_text(str(card).rstrip() + "\n", encoding="utf-8")


def _generated_tags(path: Path) -> list[str] | None:
    """The tags of a card that a trainer wrote; `None` for another one."""
    import yaml
    from huggingface_hub import ModelCard

    try:
        tags = _strings(ModelCard.load(path, ignore_metadata_errors=True).data.tags)
    except (ValueError, TypeError, yaml.YAMLError):
        return None
    return tags if GENERATED in tags else None


def _strings(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else [str(item) for item in value or ()]


# Front matter


def _card_data(
    trainer: RecordingTrainer,
    name: str,
    tags: Sequence[str],
    *,
    language: str | list[str] | None = None,
    license: str | None = None,
    finetuned_from: str | None = None,
    tasks: str | list[str] | None = None,
    dataset_tags: str | list[str] | None = None,
    dataset: str | list[str] | None = None,
    dataset_args: str | list[str] | None = None,
) -> Any:
    from huggingface_hub import ModelCardData

    datasets = _strings(dataset_tags) or [origin.dataset for origin in trainer._origins.values()]
    results = [
        result
        for evaluation in trainer.reported_evaluations()
        if is_current(trainer, evaluation)
        for result in _results(
            trainer, evaluation, _strings(tasks), _strings(dataset_tags), _strings(dataset), dataset_args
        )
    ]
    return ModelCardData(
        language=_strings(language) or None,
        license=license,
        library_name="modeling-docre",
        pipeline_tag="token-classification",
        tags=[*TAGS, trainer.model.config.encoder.model_type, GENERATED, *tags],
        datasets=list(dict.fromkeys(datasets)) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        base_model=finetuned_from or trainer._base_model,
        model_name=name,
        eval_results=results or None,
    )


def _results(
    trainer: RecordingTrainer,
    evaluation: Evaluation,
    tasks: Sequence[str],
    ids: Sequence[str],
    names: Sequence[str],
    args: Any,
) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    origin = trainer._origins.get(evaluation.prefix)
    known = ids[0] if ids else origin.dataset if origin else None
    where: dict[str, Any] = {"dataset_split": None if evaluation.prefix == "eval" else evaluation.name}
    if origin is not None:
        where = {
            "dataset_config": origin.config,
            "dataset_split": origin.split,
            # The commit says nothing of another repository.
            "dataset_revision": origin.revision if known == origin.dataset else None,
        }
    return [
        EvalResult(
            task_type=tasks[0] if tasks else "relation-extraction",
            task_name="Document-level relation extraction",
            dataset_type=known or "unknown",
            dataset_name=names[0] if names else known or "unknown",
            dataset_args=args,
            metric_type=metric,
            metric_name=title,
            metric_value=round(evaluation.metrics[metric], 4),
            **where,
        )
        for metric, title in METRICS.items()
        if metric in evaluation.metrics
    ]


# Content


def _content(trainer: RecordingTrainer, name: str, model_id: str, base_model: Any) -> dict[str, Any]:
    config = trainer.model.config
    trained = trainer.train_dataset is not None and trainer.state.global_step > 0
    documents = trainer.train_dataset.documents if trainer.train_dataset is not None and trained else []
    counts = fact_counts(documents)
    evaluations = trainer.reported_evaluations()
    base = ", ".join(map(plain, _strings(base_model)))
    usage = _usage(model_id, example_markup(documents, config.entity_types))
    curve, curve_note = training_curve(trainer)
    by_relation, by_relation_note = evaluated_relations(config, evaluations)
    return {
        "name": plain(name),
        "summary": _summary(config, base, [item for item in evaluations if is_current(trainer, item)]),
        "usage": usage,
        "usage_fence": fence(usage),
        "further": _further(model_id),
        "details": _details(trainer, base),
        "relations": _relations(config, counts, relation_examples(documents), bool(documents)),
        "limits": _limits(config, counts, len(documents)),
        "evaluation": evaluation_table(evaluations),
        "evaluation_notes": evaluation_notes(trainer, evaluations),
        "evaluated_relations": by_relation,
        "evaluated_relations_note": by_relation_note,
        "training": training_facts(trainer, documents, counts.total()),
        "hyper_parameters": table(("Hyper-parameter", "Value"), hyper_parameters(trainer.args)) if trained else "",
        "curve": curve,
        "curve_note": curve_note,
        "versions": [(plain(label), plain(version)) for label, version in versions()],
        "citations": citations(config, __version__),
    }


def _summary(config: DocREConfig, base: str, evaluations: Sequence[Evaluation]) -> str:
    evidence = " and the sentences that show it" if config.evidence_threshold is not None else ""
    made = f" around the encoder of {base}" if base else ""
    text = (
        "Document-level relation extraction: a document with its entities goes in, the relations between them come "
        f"out, across sentences, each with a probability{evidence}. A model of the method `{config.method}`{made} "
        f"that knows {count(len(config.relations), 'relation')}."
    )
    for item in evaluations:
        text += f" F1 on the {plain(item.name)} documents: **{percent(item.metrics['f1'])}**."
    return text


def _usage(model_id: str, markup: str | None) -> str:
    return "\n".join(
        (
            "from transformers import pipeline",
            "from modeling_docre import Document",
            f'extract = pipeline("docre", model={_string(model_id)})',
            f"document = Document.from_markup({_string(markup or NO_TRAINING_DOCUMENTS)})",
            'print(extract(document)["relations"])',
        )
    )


def _further(model_id: str) -> str:
    return "\n".join(
        (
            "from modeling_docre import DocREForRelationExtraction, DocREProcessor",
            "from modeling_docre import DocRETrainer, DocRETrainingArguments",
            f"model = DocREForRelationExtraction.from_pretrained({_string(model_id)})",
            f"processor = DocREProcessor.from_pretrained({_string(model_id)})",
            'arguments = DocRETrainingArguments("runs/further", num_train_epochs=3)',
            "trainer = DocRETrainer(model, arguments, train_dataset=documents, processing_class=processor)",
            "trainer.train()",
        )
    )


def _string(text: str) -> str:
    """The text as Python writes it, in double quotes where that is possible without escapes."""
    quoted = repr(text)
    return f'"{quoted[1:-1]}"' if quoted[0] == "'" and '"' not in quoted and "\\'" not in quoted else quoted


def _details(trainer: RecordingTrainer, base: str) -> list[tuple[str, str]]:
    config, encoder = trainer.model.config, trainer.model.config.get_text_config()
    parameters, encoder_parameters = trainer.model.num_parameters(), trainer.model.docre.encoder.num_parameters()
    family = plain(config.encoder.model_type)
    shape = f"{encoder.num_hidden_layers} layers, {encoder.hidden_size} wide"
    arguments = ", ".join(f"{key}={value}" for key, value in config.loss_arguments.items())
    rows = [
        ("Method", f"`{config.method}`"),
        ("Encoder", f"{base}, {family}, {shape}" if base else f"{family}, {shape}"),
        ("Pair head", f"{HEADS[config.head][0]}, width {config.emb_size}, blocks of {config.block_size}"),
        ("Loss", LOSSES[config.loss][0] + (f", with {plain(arguments)}" if arguments else "")),
        ("Decision", _decision(config)),
        ("Evidence", _evidence(config)),
        ("Length", _length(config)),
        ("Relations", f"{len(config.relations):,}, listed below"),
        ("Entity types", _types(config)),
    ]
    if config.pair_types:
        pairs = ", ".join(f"{head} → {tail}" for head, tail in config.pair_types)
        rows.append(("Candidate pairs", f"only those of types {plain(pairs)}"))
    rows.append(("Parameters", f"{_size(parameters)}, of which {_size(encoder_parameters)} are the encoder's"))
    if trainer.args.half_precision_weights:
        rows.append(("Storage", "float16, loaded as float32"))
    if trainer._card_settings.get("license"):
        rows.append(("Licence", plain(trainer._card_settings["license"])))
    return rows


def _size(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} million" if parameters >= 1_000_000 else f"{parameters:,}"


def _decision(config: DocREConfig) -> str:
    text = DECISIONS[config.decision]
    if config.threshold is not None:
        text = f"a relation is predicted where its probability is above {config.threshold:.4g}"
    most = config.max_relations_per_pair
    return text if most in (None, -1) else f"{text}; at most {count(most or 0, 'relation')} of a pair"


def _evidence(config: DocREConfig) -> str:
    if config.evidence_threshold is None:
        return "none is given"
    return f"sentences that hold more than {config.evidence_threshold:.4g} of a pair's attention"


def _length(config: DocREConfig) -> str:
    text = f"the encoder reads {config.window_size} tokens at once; longer documents are read in "
    if config.window_mode == "cover":
        text += f"windows that overlap by {config.window_overlap} tokens or more and leave nothing out"
    else:
        text += "at most two windows, as published, which leaves tokens of some documents unread"
    if config.max_length is not None:
        text = f"the first {config.max_length} tokens of a document are read, the rest is not; {text}"
    return text


def _types(config: DocREConfig) -> str:
    if not config.use_entity_types:
        return "not used"
    return f"{', '.join(map(plain, config.entity_types))}; they are optional, and others count as unknown"


def _relations(config: DocREConfig, counts: Mapping[str, int], examples: Mapping[str, Example], trained: bool) -> str:
    worded = any(config.relation_label(relation) != relation for relation in config.relations)
    header = ["Relation", *["Words"] * worded, *["Training facts", "Example from the training documents"] * trained]
    rows = []
    for relation in config.relations:
        row = [plain(relation)]
        if worded:
            row.append(plain(config.relation_label(relation)))
        if trained:
            row += [str(counts.get(relation, 0)), _example(examples.get(relation))]
        rows.append(row)
    return table(header, rows, escaped=True)


def _example(example: Example | None) -> str:
    if example is None:
        return ""
    text = f"{plain(example.head)} → {plain(example.tail)}"
    return f"{text}: “{plain(example.sentence)}”" if example.sentence else text


def _limits(config: DocREConfig, counts: Mapping[str, int], documents: int) -> list[str]:
    texts = ["It relates entities that are given, and finds none by itself. Wrong entities give wrong relations."]
    rare = sum(counts.get(relation, 0) < ENOUGH_FACTS for relation in config.relations)
    if documents:
        texts.append(
            f"It learned from {count(documents, 'document')}: other subjects, styles and languages than theirs will "
            "fare worse, and what they leave out or get wrong, it learned too."
        )
    if documents and rare:
        texts.append(
            f"{count(rare, 'relation')} of {len(config.relations)} had fewer than {ENOUGH_FACTS} facts to learn "
            "from; expect such relations to be found rarely."
        )
    texts.append("Scores are the model's own probabilities. They have not been calibrated.")
    texts.append("Facts that a text denies, supposes or reports from hearsay may come out like those that it states.")
    return texts


__all__ = ["write_model_card"]
