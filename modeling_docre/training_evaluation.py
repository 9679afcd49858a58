"""The half of [`DocRETrainer`] that evaluates: results per document, scored as relations."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput
from transformers.utils import logging

from .document_batches import DocumentDataLoader, evaluation_batches
from .document_results import (
    DocumentResult,
    choose_threshold,
    document_results,
    has_evidence,
    reference,
    score_documents,
    tune_evidence,
)
from .documents import Document
from .modeling_docre import DocREForRelationExtraction
from .processing_docre import DocREProcessor
from .training_arguments import DocRETrainingArguments
from .training_data import DocumentDataset, as_documents, describe_left_out, refuse_unlabelled

logger = logging.get_logger(__name__)


class EvaluatingTrainer(Trainer):
    """A `transformers` Trainer that evaluates documents. [`DocRETrainer`] is the one to use."""

    args: DocRETrainingArguments
    model: DocREForRelationExtraction  # type: ignore[assignment]
    processing_class: DocREProcessor
    train_dataset: DocumentDataset | None
    _train_facts: list[dict[str, Any]] | None = None

    # Documents and batches

    def _documents(self, data: Any, argument: str, purpose: str | None) -> DocumentDataset:
        if isinstance(data, DocumentDataset):
            return data
        documents = as_documents(data, argument)
        if purpose is not None:
            if not documents:
                raise ValueError(f"`{argument}` holds no document, and {purpose} needs some.")
            refuse_unlabelled(documents, argument, purpose)
        # A relation that the model does not know costs recall here, and is counted.
        return DocumentDataset(documents, self.processing_class, keep=purpose is not None, strict=False)

    def _evaluation_documents(self, data: Any) -> DocumentDataset | dict[str, DocumentDataset] | None:
        if data is None:
            return None
        if type(data) is dict and not ("sents" in data or "text" in data):
            if not data:
                raise ValueError("`eval_dataset` is an empty dict: pass {name: [documents]}, or leave it out.")
            return {
                name: self._documents(part, f"eval_dataset[{name!r}]", "evaluation") for name, part in data.items()
            }
        return self._documents(data, "eval_dataset", "evaluation")

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DocumentDataLoader:
        """
        Args:
            eval_dataset (`str` or documents, *optional*):
                The name of one of several evaluation sets, or labelled documents. Defaults to the trainer's.

        Returns:
            `DataLoader`: The batches of this process, long documents first.

        Raises:
            ValueError: If there are no documents, or one has no labels.
        """
        if isinstance(eval_dataset, str) and isinstance(self.eval_dataset, dict):
            eval_dataset = self.eval_dataset[eval_dataset]
        if eval_dataset is None:
            eval_dataset = self.eval_dataset
        if eval_dataset is None:
            raise ValueError("There is nothing to evaluate on: pass eval_dataset=[...].")
        documents = self._documents(eval_dataset, "eval_dataset", "evaluation")
        return evaluation_batches(documents, self.args, self.data_collator)

    def get_test_dataloader(self, test_dataset: Any) -> DocumentDataLoader:
        """
        Args:
            test_dataset (documents): Documents, with labels or without.

        Returns:
            `DataLoader`: The batches of this process, long documents first.
        """
        documents = self._documents(test_dataset, "test_dataset", None)
        return evaluation_batches(documents, self.args, self.data_collator)

    # Evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """
        Scores the relations of labelled documents.

        Args:
            eval_dataset (documents, or a `dict` of them by name, *optional*):
                What to evaluate on. Defaults to the trainer's own.
            ignore_keys (`list[str]`, *optional*):
                Taken for compatibility.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`):
                The start of each name.

        Returns:
            `dict[str, float]`: `eval_f1`, `eval_precision`, `eval_recall`; `eval_ign_f1`, which leaves out facts that
            the training documents name, where there are any; `eval_evidence_sentence_f1` (and `_precision`,
            `_recall`), over the sentences of correctly predicted facts that have gold evidence, where there are any;
            `eval_loss`, the mean over all pairs; and `eval_gold_not_scored`, the number of gold facts whose pair was
            no candidate, if there are any.
        """
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self._evaluation_documents(eval_dataset)
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """
        Finds the relations of documents.

        Args:
            test_dataset (documents):
                Documents, with labels or without.
            ignore_keys (`list[str]`, *optional*):
                Taken for compatibility.
            metric_key_prefix (`str`, *optional*, defaults to `"test"`):
                The start of the metrics' names.

        Returns:
            `PredictionOutput`: `predictions`, a list of [`Relation`]s with scores for each document, in order;
            `label_ids` is `None`; `metrics` has the scores of `evaluate` if all documents have labels.
        """
        return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def evaluation_loop(  # type: ignore[override]
        self,
        dataloader: DocumentDataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """
        Runs over all documents and keeps results per document, since rows of pairs don't line up between batches.

        Args:
            dataloader (`DataLoader`): Batches of a [`DocumentDataset`].
            description (`str`): What the log calls it.
            prediction_loss_only (`bool`, *optional*): Taken for compatibility.
            ignore_keys (`list[str]`, *optional*): Taken for compatibility.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): The start of the metrics' names.

        Returns:
            `EvalLoopOutput`: `predictions` is a list of relations per document.
        """
        documents: list[Document] = dataloader.dataset.documents  # type: ignore[attr-defined]
        results, loss = self._run_documents(dataloader, description)
        predictions = [list(result.relations) for result in results]
        metrics: dict[str, float] = {}
        if documents and all(document.relations is not None for document in documents):
            evidence = self.model.config.evidence_threshold is not None
            metrics = score_documents(documents, results, self._training_facts(), evidence=evidence)
        if loss is not None:
            metrics["loss"] = loss
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        # The type promises arrays; relations of documents of any size are not one.
        return EvalLoopOutput(
            predictions=predictions,  # type: ignore[arg-type]
            label_ids=None,
            metrics=metrics,
            num_samples=len(documents),
        )

    def _run_documents(
        self, dataloader: DocumentDataLoader, description: str, *, candidates: bool = False, attention: bool = False
    ) -> tuple[list[DocumentResult], float | None]:
        """Returns the results of all documents, from all processes, in order, and the mean loss over pairs."""
        model = self._wrap_model(self.model, training=False)
        if len(self.accelerator._models) == 0 and model is self.model:
            model = self.accelerator.prepare_model(model, evaluation_mode=True)
        if not self.is_in_train and (self.args.fp16_full_eval or self.args.bf16_full_eval):
            dtype = torch.float16 if self.args.fp16_full_eval else torch.bfloat16
            model = model.to(dtype=dtype, device=self.args.device)
        model.eval()
        self.callback_handler.eval_dataloader = dataloader
        dataset: DocumentDataset = dataloader.dataset  # type: ignore[assignment]
        logger.info(f"***** Running {description}: {len(dataset)} documents *****")
        config = self.model.config
        wants_evidence = attention or config.evidence_threshold is not None
        results: list[DocumentResult] = []
        loss_sum, loss_pairs = 0.0, 0
        for batch in dataloader:
            index = batch.pop("document_index").tolist()
            dataset.count(index, batch.pop("left_out"))
            with torch.no_grad(), self.compute_loss_context_manager():
                outputs = model(**self._prepare_inputs(batch), output_sentence_attention=wants_evidence)
            results.extend(
                document_results(outputs, index, dataset.documents, config, candidates=candidates, attention=attention)
            )
            if outputs.loss is not None and len(outputs.pairs):
                loss_sum += outputs.loss.item() * len(outputs.pairs)
                loss_pairs += len(outputs.pairs)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        self._report_left_out(dataset, description.lower(), partly=True)
        by_index = {result.index: result for result in self._gather_objects(results)}
        sums = self._gather_objects([(loss_sum, loss_pairs)])
        total_pairs = sum(pairs for _, pairs in sums)
        loss = sum(part for part, _ in sums) / total_pairs if total_pairs else None
        return [by_index[i] for i in sorted(by_index)], loss

    def _training_facts(self) -> list[dict[str, Any]]:
        if self._train_facts is None:
            documents = [] if self.train_dataset is None else self.train_dataset.documents
            self._train_facts = [reference(document, str(index)) for index, document in enumerate(documents)]
        return self._train_facts

    def tune_threshold(self, eval_dataset: Any = None) -> float:
        """
        Chooses the probability above which a relation is predicted by F1, and stores it in `config.threshold`.

        Scores on the same documents are a little flattered by it afterwards, by no more than one number can do.

        Args:
            eval_dataset (documents, *optional*):
                Labelled documents to choose on. Defaults to the trainer's own; of several sets, the first.

        Returns:
            `float`: The threshold.

        Raises:
            ValueError: If there are no labelled documents to choose on.
        """
        dataloader = self._dataloader_to_tune_on(eval_dataset)
        documents, results = self._results_to_tune_on(dataloader, "threshold", candidates=True)
        threshold, f1 = choose_threshold(documents, results)
        self.model.config.threshold = threshold
        self.log({"threshold": threshold, "threshold_f1": f1})
        return threshold

    def tune_evidence_threshold(self, eval_dataset: Any = None) -> float | None:
        """
        Chooses the share of a pair's attention above which a sentence is evidence, by F1 over the sentences of
        correctly predicted relations that have gold evidence, and stores it in `config.evidence_threshold`.

        Args:
            eval_dataset (documents, *optional*):
                Labelled documents to choose on. Defaults to the trainer's own; of several sets, the first.

        Returns:
            `float` or `None`: The threshold; `None`, and the config stays, if no such relation is there, or none that
            looks at its evidence.

        Raises:
            ValueError: If there are no labelled documents to choose on.
        """
        dataloader = self._dataloader_to_tune_on(eval_dataset)
        if not has_evidence(dataloader.dataset.documents):  # type: ignore[attr-defined]
            return None
        documents, results = self._results_to_tune_on(dataloader, "evidence_threshold", attention=True)
        chosen = tune_evidence(documents, results)
        if chosen is None:
            logger.warning(
                "No correctly predicted relation has gold evidence that it looks at: evidence_threshold stays "
                f"{self.model.config.evidence_threshold}."
            )
            return None
        threshold, f1 = chosen
        self.model.config.evidence_threshold = threshold
        self.log({"evidence_threshold": threshold, "evidence_threshold_f1": f1})
        return threshold

    def _dataloader_to_tune_on(self, eval_dataset: Any) -> DocumentDataLoader:
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(data, dict) and eval_dataset is None:
            data = next(iter(data.values()), None)
        if data is None:
            raise ValueError("Tuning a threshold needs labelled documents: pass eval_dataset=[...].")
        return self.get_eval_dataloader(data)

    def _results_to_tune_on(
        self, dataloader: DocumentDataLoader, threshold: str, **keep: bool
    ) -> tuple[list[Document], list[DocumentResult]]:
        documents: list[Document] = dataloader.dataset.documents  # type: ignore[attr-defined]
        results, _ = self._run_documents(dataloader, threshold.replace("_", " ").capitalize(), **keep)
        # Closes the progress bar, which `evaluate` would do otherwise.
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, {})
        return documents, results

    # Processes and reports

    def _report_left_out(self, dataset: DocumentDataset, purpose: str, *, partly: bool = False) -> None:
        """Says once what was dropped from the documents, when all of them have been read or no more will be."""
        if dataset.reported or (
            sum(self._gather_objects([len(dataset.left_out)])) < len(dataset.documents) and not partly
        ):
            return
        dataset.reported = True
        left_out: dict[int, dict[str, int]] = {}
        for part in self._gather_objects([dataset.left_out]):
            left_out.update(part)
        causes = describe_left_out(left_out)
        if causes and self.is_world_process_zero():
            logger.warning(f"Of {len(left_out)} {purpose} documents: {causes}.")

    def _gather_objects(self, items: list[Any]) -> list[Any]:
        if self.args.world_size == 1:
            return items
        gathered: list[list[Any]] = [[] for _ in range(self.args.world_size)]
        torch.distributed.all_gather_object(gathered, items)
        return [item for part in gathered for item in part]


__all__ = ["EvaluatingTrainer"]
