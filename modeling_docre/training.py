"""`DocRETrainer`: the `transformers` Trainer for documents."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.utils import logging

from .distillation import Teacher, find_teacher
from .document_batches import DocumentDataLoader, training_batches
from .documents import Document
from .frozen_layers import FrozenLayers
from .head_pair_aware import PairAwareHead
from .loss_parts import last_checkpoint
from .modeling_docre import DocREForRelationExtraction
from .pair_augmentation import find_augmentation
from .parameter_groups import parameter_groups
from .processing_docre import DocREProcessor
from .remote_code import finish_folder
from .soft_labels import DocumentSoftLabels, SoftLabelStore
from .training_arguments import DocRETrainingArguments
from .training_augmentation import altered_texts, relations_to_augment
from .training_checks import (
    check_class,
    check_model,
    check_teacher,
    check_trainer,
    check_training_relations,
    warn_of_documents,
)
from .training_data import DocumentCollator, DocumentDataset, as_documents, label_log_odds, refuse_unlabelled
from .training_loss import LossTrainer
from .vaediff import VaeDiffModel

logger = logging.get_logger(__name__)


class DocRETrainer(LossTrainer):
    """
    The `transformers` Trainer for [`DocREForRelationExtraction`]. It differs where documents do: a batch has another
    number of pairs each time, losses are averaged over pairs, and evaluation scores relations.

    Args:
        model ([`DocREForRelationExtraction`], *optional*):
            The model to train; or pass `model_init`.
        args ([`DocRETrainingArguments`], *optional*):
            The settings.
        train_dataset (`list[Document]`, `list[dict]` or `datasets.Dataset`, *optional*):
            Labelled documents: [`Document`]s, dicts in DocRED's form, or a dataset of such rows.
        eval_dataset (as `train_dataset`, or a `dict` of them by name, *optional*):
            Labelled documents to evaluate on.
        processing_class ([`DocREProcessor`]):
            The processor of the model, which is saved along with it and shares its config from then on.
        model_init (`Callable`, *optional*):
            Makes a fresh model for each call of `train`.
        callbacks (`list[TrainerCallback]`, *optional*):
            More callbacks.
        teacher ([`Teacher`], *optional*):
            Trained models whose logits the model learns as well; the one that `args.teacher` names when left out.
        generator ([`VaeDiffModel`], *optional*):
            What generates extra pairs for `augmentation="vaediff"`; the one that `args.generator` names when left out.
        kwargs:
            Further arguments of `transformers.Trainer`.

    Raises:
        TypeError: If the model is of another class, or the documents come in a form that isn't one, such as a
            `DatasetDict`.
        ValueError: If the processor is missing or is another model's, a document has no labels, a training document
            has a relation that the model does not know, there are several GPUs but only one process, an argument would
            not be used, a teacher or a generator does not go with the model, or the store in `args.soft_labels` lacks
            documents.
    """

    model_class: Any = DocREForRelationExtraction

    def __init__(
        self,
        model: DocREForRelationExtraction | None = None,
        args: DocRETrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: DocREProcessor | None = None,
        model_init: Callable[..., DocREForRelationExtraction] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        teacher: Teacher | None = None,
        generator: VaeDiffModel | None = None,
        **kwargs: Any,
    ) -> None:
        if args is None:
            args = DocRETrainingArguments(output_dir="trainer_output")
        check_trainer(args, processing_class, kwargs)
        processing_class = cast(DocREProcessor, processing_class)
        if args.early_stopping_patience is not None:
            stopping = EarlyStoppingCallback(early_stopping_patience=args.early_stopping_patience)
            callbacks = [*(callbacks or []), stopping]
        # Trainer sets it with the first step only.
        self.current_gradient_accumulation_steps = args.gradient_accumulation_steps
        self._start_from_prior = False
        self._halve_weights = False
        self._frozen: FrozenLayers | None = None
        # Trainer's own __init__ sets these only after it has called `model_init`.
        self.args, self.processing_class = args, processing_class
        self._teacher = find_teacher(args, teacher)
        check_teacher(args, self._teacher)
        self._augmentation = find_augmentation(args, generator)
        self.passed = {
            "teacher": None if teacher is None else teacher.names,
            "generator": None if generator is None else generator.name_or_path or "unnamed",
        }
        if model is not None:
            self._adopt(model)
        evaluation = self._evaluation_documents(eval_dataset)
        if args.tune_threshold and evaluation is None:
            raise ValueError("tune_threshold=True needs labelled documents: pass eval_dataset=[...].")
        train = None if train_dataset is None else self._training_documents(train_dataset)
        super().__init__(
            model=model,
            args=_with_metric_of_first(args, evaluation),
            data_collator=kwargs.pop("data_collator", None) or DocumentCollator(processing_class),
            train_dataset=train,
            eval_dataset=evaluation,
            processing_class=processing_class,
            model_init=model_init,
            callbacks=callbacks,
            **kwargs,
        )
        # Trainer writes a setting of text generation into every config.
        if "use_cache" in vars(self.model.config):
            del self.model.config.use_cache
        # compute_loss scales by the number of pairs itself when it gets one.
        self.model_accepts_loss_kwargs = True

    # Documents and batches

    def _training_documents(self, data: Any) -> DocumentDataset:
        documents = data.documents if isinstance(data, DocumentDataset) else as_documents(data, "train_dataset")
        refuse_unlabelled(documents, "train_dataset", "training")
        processor = self.processing_class
        check_training_relations(documents, processor.config, "train_dataset")
        altered = altered_texts(processor.config, self.args, documents, processor.tokenizer.mask_token)
        if self.args.text_augmentation and self.args.process_index == 0:
            copies = len(altered.sources) if altered else 0
            logger.warning(f"Text augmentation: {copies} altered copies beside {len(documents)} training documents.")
        dataset = DocumentDataset(documents, processor, altered=altered)
        if self.args.soft_labels and processor.config.distillation_weight:
            store = SoftLabelStore(self.args.soft_labels)
            dataset.soft_labels = DocumentSoftLabels(store, documents, processor.config)
        return dataset

    def get_train_dataloader(self) -> DocumentDataLoader:
        """
        Returns:
            `DataLoader`: The batches of this process, from [`DocumentBatchSampler`].

        Raises:
            ValueError: If there are no training documents.
        """
        dataset = self.train_dataset
        if dataset is None or len(dataset) == 0:
            raise ValueError("There is nothing to train on: pass train_dataset=[...] with at least one document.")
        return training_batches(dataset, self.args, self.data_collator, self._train_batch_size)

    # Parameters

    def _adopt(self, model: DocREForRelationExtraction) -> None:
        """Checks a model and makes it the processor's, then freezes what the arguments say."""
        check_class(model, self.model_class)
        check_model(model, self.processing_class, self.args)
        if self._teacher is not None:
            self._teacher.check_student(model)
        if self._augmentation is not None:
            self._augmentation.check(model)
        # One config for both: a threshold tuned in training counts when decoding.
        self.processing_class.config = model.config
        freezing = "freeze_layers" if self.args.freeze_layers else "freeze_embeddings"
        if model.config.marker_style != "asterisk" and getattr(self.args, freezing):
            logger.warning(
                f"{freezing}={getattr(self.args, freezing)} freezes the embeddings of the markers "
                f"(marker_style={model.config.marker_style!r}) with the others: a new model's stay random. Marker "
                "style 'asterisk' uses a token that the encoder knows."
            )
        encoder = model.docre.encoder
        if self.args.freeze_embeddings:
            encoder.get_input_embeddings().weight.requires_grad_(False)
        self._frozen = FrozenLayers(encoder, self.args.freeze_layers) if self.args.freeze_layers else None

    def call_model_init(self, trial: Any = None) -> DocREForRelationExtraction:
        """
        Args:
            trial (`optuna.Trial` or `dict`, *optional*): The trial of a hyper-parameter search.

        Returns:
            [`DocREForRelationExtraction`]: A fresh model, frozen as the arguments say.
        """
        model = cast(DocREForRelationExtraction, super().call_model_init(trial))
        self._adopt(model)
        if self._augmentation is not None:
            self._augmentation.check_source(model, self.processing_class)
        return model

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """
        Groups parameters by learning rate (encoder, head, `module_learning_rates`) and by weight decay (none for
        biases and norms).

        Args:
            model (`nn.Module`, *optional*): The model to optimise, if it isn't the trainer's own.

        Returns:
            `torch.optim.Optimizer`: The optimizer that `args.optim` names.

        Raises:
            ValueError: If a key of `module_learning_rates` is part of no parameter's name.
        """
        if self.optimizer is not None:
            return self.optimizer
        model = self.model if model is None else model
        groups = parameter_groups(
            self.accelerator.unwrap_model(model), self.args, set(self.get_decay_parameter_names(model))
        )
        optimizer_cls, optimizer_kwargs = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
            self.args,
            model,  # type: ignore[arg-type]
        )
        self.optimizer = optimizer_cls(groups, **optimizer_kwargs)
        return self.optimizer

    def set_prior_bias(self) -> None:
        """
        Starts each relation's bias at its log-odds among the pairs of the training documents, and the biases of what
        else the head predicts at those of its labels.

        Raises:
            ValueError: If there are no training documents.
        """
        dataset = self.train_dataset
        if dataset is None:
            raise ValueError("The prior of each relation comes from training documents: pass train_dataset=[...].")
        collator = cast(DocumentCollator, self.data_collator)
        log_odds = label_log_odds(dataset, collator, self.model.config.num_classes)
        self.model.set_class_bias(log_odds.classes)
        if isinstance(self.model.head, PairAwareHead):
            self.model.head.set_bias(log_odds.related, log_odds.roles)

    # Training

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """
        Trains the model; as `Trainer.train`, with `prior_bias` before and `tune_threshold` after (of evidence too).

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint folder, or `True` for the last one in `args.output_dir`. A resumed run ends with the same
                numbers as one that was never interrupted.
            args:
                Further arguments of `Trainer.train`.
            kwargs:
                Further arguments of `Trainer.train`.

        Returns:
            `TrainOutput`: Steps, mean loss and metrics.

        Raises:
            ValueError: If `resume_from_checkpoint` is `True` and there is no checkpoint.
        """
        resume_from_checkpoint = self._resume_from(resume_from_checkpoint)
        self._start_from_prior = self.args.prior_bias and not resume_from_checkpoint
        # With `model_init`, the model is made inside.
        if self._augmentation is not None and getattr(self, "model_init", None) is None:
            self._augmentation.check_source(self.model, self.processing_class)
        try:
            output = super().train(resume_from_checkpoint, *args, **kwargs)
            output = output._replace(training_loss=output.metrics["train_loss"])
            if self.train_dataset is not None:
                self._report_left_out(self.train_dataset, "training", partly=True)
            if self._augmentation is not None:
                epochs = (self.state.epoch or 0.0) * self.model_step / max(self.state.global_step, 1)
                self._augmentation.report(epochs)
            if self.args.tune_threshold:
                output.metrics["train_threshold"] = self.tune_threshold()
                # None switches evidence off, and tuning is not to switch it on.
                if self.model.config.evidence_threshold is not None:
                    evidence_threshold = self.tune_evidence_threshold()
                    if evidence_threshold is not None:
                        output.metrics["train_evidence_threshold"] = evidence_threshold
        finally:
            if self._frozen is not None:
                self._frozen.close_cache()
        return output

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        # Here, because `train` may only just have made the model with `model_init`, or loaded a checkpoint.
        if self.train_dataset is not None and self.args.process_index == 0:
            warn_of_documents(self.train_dataset.documents, self.model.config)
        if self._start_from_prior:
            self.set_prior_bias()
            self._start_from_prior = False
        if self._frozen is not None and self.args.frozen_cache_dir is not None:
            self._frozen.open_cache(self.args.frozen_cache_dir, process=self.args.process_index)
        if self.model.config.era_copies and self.train_dataset is not None:
            self._choose_relations(self.train_dataset.documents)
        if self._augmentation is not None and self.train_dataset is not None:
            max_steps, batches = args[0], len(args[1])
            steps = max(1, -(-batches // self.args.gradient_accumulation_steps))
            self.args.check_warmup(max_steps / steps)
            self._augmentation.fill_bank(self.train_dataset.documents, self.model.config)
        return super()._prepare_for_training(*args, **kwargs)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # Of evaluations that find nothing, the last one is of the model that has learnt most.
        found = metrics.get(f"eval_{(self.args.metric_for_best_model or '').removeprefix('eval_')}")
        nothing = self.args.greater_is_better and self.state.best_metric == found == 0.0
        if nothing and self.args.save_strategy != "best":
            self.state.best_metric = None
        return super()._determine_best_metric(metrics=metrics, trial=trial)

    def _choose_relations(self, documents: list[Document]) -> None:
        """Puts the relations that are augmented into the config, unless it names them already."""
        config = self.model.config
        config.era_relations, limit = relations_to_augment(config, self.args, documents)
        if limit is not None and self.is_world_process_zero():
            few = f"with fewer than {limit} facts" if limit > 1 else "without a fact"
            logger.warning(
                f"Easy relation augmentation: {config.era_copies} copies of each pair with one of "
                f"{len(config.era_relations)} relations, of {len(config.relations)}: those {few} in the "
                "training documents."
            )

    def save_model(
        self, output_dir: str | None = None, _internal_call: bool = False, *, include_code: bool = False
    ) -> None:
        """
        Saves model and processor, so that `from_pretrained` and `pipeline` load them, and the model card.

        Args:
            output_dir (`str`, *optional*): The folder. Defaults to `args.output_dir`.
            _internal_call (`bool`, *optional*, defaults to `False`): Set by Trainer when it saves a checkpoint.
            include_code (`bool`, *optional*, defaults to `False`): As in the model's `save_pretrained`.
        """
        # Trainer's own calls name the folder of a checkpoint, except for the one before an upload.
        checkpoint = _internal_call and output_dir is not None
        self._halve_weights = self.args.half_precision_weights and not checkpoint
        super().save_model(output_dir, _internal_call)
        if include_code and self.args.should_save:
            finish_folder(str(output_dir or self.args.output_dir), include_code=True)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self._halve_weights:
            if state_dict is None:
                state_dict = self.accelerator.unwrap_model(self.model).state_dict()
            state_dict = {
                name: value.half() if value.is_floating_point() else value for name, value in state_dict.items()
            }
        super()._save(output_dir, state_dict)


def _with_metric_of_first(args: DocRETrainingArguments, evaluation: Any) -> DocRETrainingArguments:
    """Of several evaluation sets, whose metrics carry their names, the first decides which model is best."""
    metric = (args.metric_for_best_model or "").removeprefix("eval_")
    if not isinstance(evaluation, dict) or metric not in ("f1", "precision", "recall", "ign_f1", "loss"):
        return args
    args = copy.copy(args)
    args.metric_for_best_model = f"{next(iter(evaluation))}_{metric}"
    return args


__all__ = ["DocRETrainer", "DocRETrainingArguments", "last_checkpoint"]
