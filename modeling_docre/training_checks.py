"""What the trainer refuses before it starts: arguments that would do nothing, or the wrong thing without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from transformers.utils import logging

from .configuration_checks import check_potential_pairs
from .configuration_docre import DocREConfig
from .documents import Document, DocumentError
from .method_loss import check_loss_arguments
from .modeling_base import DocREPreTrainedModel
from .modeling_contrastive import DocREForContrastivePreTraining
from .modeling_docre import DocREForRelationExtraction
from .processing_docre import DocREProcessor
from .training_arguments import DocRETrainingArguments
from .training_data import DocumentCollator

logger = logging.get_logger(__name__)

# Arguments of Trainer that assume rows of logits, with what to do instead.
REFUSED = {
    "compute_metrics": "evaluation scores relations itself; for other figures take "
    "trainer.predict(documents).predictions, the relations of each document",
    "preprocess_logits_for_metrics": "evaluation keeps relations, not logits; call the model for those",
    "compute_loss_func": "the model computes its own loss, which DocREConfig(loss=..., loss_arguments=...) chooses; "
    "for another, override DocRETrainer.compute_loss",
}

# What makes other features or labels of the same document.
SHARED_SETTINGS = ("relations", "entity_types", "marker_style")


def check_trainer(args: Any, processor: Any, others: Mapping[str, Any]) -> None:
    """
    Checks what was passed to [`DocRETrainer`], documents and model aside.

    Args:
        args ([`DocRETrainingArguments`]): The settings.
        processor ([`DocREProcessor`]): The processor.
        others (`Mapping[str, Any]`): Further arguments, as they go to `transformers.Trainer`.

    Raises:
        TypeError: If the settings or the collator are of another class.
        ValueError: If the processor is missing, there are several GPUs but only one process, or an argument would not
            be used.
    """
    if not isinstance(args, DocRETrainingArguments):
        raise TypeError(f"`args` is a {type(args).__name__}; pass DocRETrainingArguments(output_dir=...).")
    if processor is None:
        raise ValueError(
            "`processing_class` is missing. With a new model pass "
            "processing_class=DocREProcessor.from_encoder(encoder, config=model.config), with a saved one "
            "processing_class=DocREProcessor.from_pretrained(path)."
        )
    check_one_device(args)
    for name, instead in REFUSED.items():
        if others.get(name) is not None:
            raise ValueError(f"`{name}` would not be used: {instead}.")
    collator = others.get("data_collator")
    if collator is not None and not isinstance(collator, DocumentCollator):
        raise TypeError(
            "`data_collator` must note which documents are in a batch: leave it out, or pass an instance of a "
            "subclass of modeling_docre.training_data.DocumentCollator."
        )


def check_one_device(args: Any) -> None:
    """
    Checks that a process has one device.

    Args:
        args (`TrainingArguments`): `n_gpu` is read.

    Raises:
        ValueError: If there are several.
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"There are {args.n_gpu} GPUs and one process. A batch of documents can't be sliced by rows as "
            f"nn.DataParallel does; start one process per GPU: `torchrun --nproc_per_node {args.n_gpu} SCRIPT.py`,"
            " or let the program see one GPU only: `CUDA_VISIBLE_DEVICES=0 python SCRIPT.py`."
        )


def check_class(model: Any, model_class: type) -> None:
    """
    Checks that a model of this library is one for the trainer.

    Args:
        model: The model.
        model_class (`type`): What the trainer trains.

    Raises:
        TypeError: If it is for another one.
    """
    if isinstance(model, DocREPreTrainedModel) and not isinstance(model, model_class):
        trainers = {
            DocREForContrastivePreTraining: ", or train this one with ContrastivePreTrainer",
            DocREForRelationExtraction: ", or train this one with DocRETrainer",
        }
        other = trainers.get(type(model), "")
        raise TypeError(f"`model` is a {type(model).__name__}; pass {model_class.__name__}.from_encoder(...){other}.")


def check_teacher(args: DocRETrainingArguments, teacher: Any) -> None:
    """
    Checks that a teacher can answer for all that the student reads.

    Args:
        args ([`DocRETrainingArguments`]): The settings.
        teacher ([`Teacher`], *optional*): The teacher, if there is one.

    Raises:
        ValueError: If it can't.
    """
    if args.text_augmentation and (teacher is not None or args.soft_labels):
        raise ValueError(
            "text_augmentation alters documents that a teacher has not read: leave it out, or learn without "
            f"{'soft_labels' if args.soft_labels else 'teacher'}."
        )


def check_model(model: DocREForRelationExtraction, processor: DocREProcessor, args: DocRETrainingArguments) -> None:
    """
    Checks that a model goes with its processor, and its loss with the settings.

    Args:
        model ([`DocREForRelationExtraction`]): The model.
        processor ([`DocREProcessor`]): The processor.
        args ([`DocRETrainingArguments`]): The settings.

    Raises:
        ValueError: If it doesn't, the loss does not train what the decision reads or what tells of potential pairs, or
            does not take one of its arguments.
    """
    config = model.config
    for name in SHARED_SETTINGS:
        ours, theirs = getattr(config, name), getattr(processor.config, name)
        if list(ours) != list(theirs):
            raise ValueError(
                f"The processor has {name}={_short(theirs)}, the model {_short(ours)}: labels and markers would mean "
                "something else to each. Build the processor from the model's config: "
                "DocREProcessor.from_encoder(ENCODER, config=model.config)."
            )
    if (args.era_max_facts is not None or args.era_scale_facts) and not (config.era_copies or args.text_augmentation):
        logger.warning(
            "era_max_facts and era_scale_facts choose relations to augment, and nothing is augmented: the config has "
            "era_copies=0, and there is no text_augmentation."
        )
    config.check_decision()
    check_loss_arguments(config)
    check_potential_pairs(config)
    if config.loss_arguments.get("reference_broadcast") and args.normalise != "micro-batch":
        raise ValueError(
            "loss_arguments has reference_broadcast=True, which mixes all pairs of a batch and can't be summed over "
            'several: pass DocRETrainingArguments(normalise="micro-batch").'
        )


def check_training_relations(documents: Sequence[Document], config: DocREConfig, argument: str) -> None:
    """
    Checks that the model knows every relation of the training documents: a fact that it can't learn would be taught as
    none.

    Args:
        documents (`Sequence[Document]`): The documents.
        config ([`DocREConfig`]): The model's settings.
        argument (`str`): The name under which the caller passed them.

    Raises:
        DocumentError: If it doesn't.
    """
    known = set(config.relations)
    for index, document in enumerate(documents):
        for relation in document.relations or ():
            if relation.relation not in known:
                try:
                    config.class_of(relation.relation)
                except ValueError as error:
                    raise DocumentError(
                        f"`{argument}[{index}]` ({document.title!r}): {error} Make the model with this relation among "
                        "its `relations`, or leave the fact out."
                    ) from None


def warn_of_documents(documents: Sequence[Document], config: DocREConfig) -> None:
    """
    Warns of training documents that teach less than they seem to.

    Args:
        documents (`Sequence[Document]`): The documents, labelled.
        config ([`DocREConfig`]): The model's settings.
    """
    if documents and not any(document.relations for document in documents):
        logger.warning(f"None of the {len(documents)} training documents has a fact: their labels teach no relation.")
    if not config.reads_entity_types:
        return
    types = Counter(entity.type for document in documents for entity in document.entities if entity.type)
    unknown = sorted(types.keys() - set(config.entity_types))
    if unknown:
        logger.warning(
            f"The model does not know {len(unknown)} of {len(types)} entity types of the training documents: it takes "
            f"{sum(types[one] for one in unknown)} of {types.total()} entities with a type for untyped. A new model "
            f"learns all, from_encoder(..., entity_types={[*config.entity_types, *unknown]!r}); one that is trained "
            "cannot get more."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


__all__ = [
    "check_class",
    "check_model",
    "check_one_device",
    "check_teacher",
    "check_trainer",
    "check_training_relations",
    "warn_of_documents",
]
