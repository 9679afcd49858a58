"""Extra pairs for a training: generated, or copied with noise (VaeDiff-DocRE, section 2.3.3 and table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from .augmentation import pairs_to_augment
from .configuration_checks import check_one_vector
from .configuration_docre import DocREConfig
from .documents import Document
from .method_loss import count_anchors
from .model_digest import digest_model
from .modeling_docre import DocREForRelationExtraction
from .processing_docre import DocREProcessor
from .training_arguments import DocRETrainingArguments
from .vaediff import VaeDiffModel

logger = logging.get_logger(__name__)


class PairAugmentation:
    """
    Extra pairs of a training, as its arguments say: `augmentation_copies` for each pair with a relation, with its
    relations, after `augmentation_warmup_epochs`.

    Args:
        args ([`DocRETrainingArguments`]): The settings that begin with `augmentation` and `generator`.
        generator ([`VaeDiffModel`], *optional*): What draws them, where they are generated.
    """

    def __init__(self, args: DocRETrainingArguments, generator: VaeDiffModel | None = None) -> None:
        self.args = args
        self.generator = None if generator is None else generator.to(args.device)  # type: ignore[arg-type]
        self._checked = False
        self._bank: Tensor | None = None
        self._rows: dict[bytes, int] = {}

    def check(self, model: DocREForRelationExtraction) -> None:
        """
        Check that a model has pair embeddings of the kind that is added.

        Args:
            model ([`DocREForRelationExtraction`]): The model.

        Raises:
            ValueError: If it has two vectors for a pair, other relations than the generator, or another width.
        """
        config = model.config
        check_one_vector(config)
        if self.generator is None:
            return
        about = self.generator.config
        if about.relations != config.relations:
            raise ValueError(
                f"The generator knows {len(about.relations)} relations, which are not the {len(config.relations)} of "
                "the model, or not in their order: train one on the pair embeddings of a model with these relations."
            )
        width = config.get_text_config().hidden_size
        if about.embedding_size != width:
            raise ValueError(
                f"The generator draws pair embeddings of {about.embedding_size} numbers, and those of the model have "
                f"{width}: train one on the pair embeddings of a model with this encoder."
            )

    def check_source(self, model: DocREForRelationExtraction, processor: DocREProcessor) -> None:
        """
        Check that the generator learned the pair embeddings of the model that is to be trained, or of the one that
        `generator_of` names. Once: a second training goes on from what the first made.

        Args:
            model ([`DocREForRelationExtraction`]): The model, before training.
            processor ([`DocREProcessor`]): Its processor.

        Raises:
            ValueError: If it did not.
        """
        if self.generator is None or self._checked:
            return
        self._checked = True
        known, source = self.generator.config.embeddings_of, self.args.generator_of
        if known is None:
            logger.warning("The generator does not say of which model its pair embeddings are: that is not checked.")
            return
        parts: tuple[Any, Any] = model, processor
        if source:
            parts = DocREForRelationExtraction.from_pretrained(source), DocREProcessor.from_pretrained(source)
        if known != digest_model(*parts):
            raise ValueError(
                "The generator was trained on the pair embeddings of another model, or with other settings, than "
                + (
                    f"generator_of={source!r}: name the one that they are of."
                    if source
                    else "the one that is to be trained. Start from that model as it is; or, to train a new one, as "
                    "published, or with other settings, say where that model is: generator_of=FOLDER."
                )
            )

    def report(self, epochs: float) -> None:
        """
        Say so where the model that is kept is from before the first extra pair: the best one, or stopped early.

        Args:
            epochs (`float`): Epochs that it was trained for.
        """
        if self.args.augmentation_copies and epochs <= self.args.augmentation_warmup_epochs:
            logger.warning(
                f"The model that is kept was trained for {epochs:g} epochs, of which all were without extra pairs "
                f"(augmentation_warmup_epochs={self.args.augmentation_warmup_epochs:g})."
            )

    def fill_bank(self, documents: Sequence[Document], config: DocREConfig) -> None:
        """
        Draw `augmentation_bank` embeddings for each set of relations that a pair of the documents has. They are the
        same in each process, and where a training goes on.

        Args:
            documents (sequence of [`Document`]): The training documents.
            config ([`DocREConfig`]): The model's settings.
        """
        if self.generator is None or not self.args.augmentation_bank or not self.args.augmentation_copies:
            return
        found = sorted({row for document in documents for row in _label_sets(document, config)})
        sets = torch.zeros(len(found), config.num_classes)
        for number, classes in enumerate(found):
            sets[number, list(classes)] = 1
        if self.args.process_index == 0:
            logger.warning(
                f"A bank of {self.args.augmentation_bank} generated pair embeddings for each of {len(found)} sets of "
                "relations is drawn before training."
            )
        seeded = torch.Generator().manual_seed(self.args.seed)
        drawn = self.generator.sample(sets, self.args.augmentation_bank, generator=seeded)
        self._bank = drawn.unflatten(0, (len(found), self.args.augmentation_bank))
        self._rows = {_key(row): number for number, row in enumerate(sets)}

    def has_begun(self, epoch: float | None) -> bool:
        """
        Whether extra pairs are added.

        Args:
            epoch (`float`, *optional*): Epochs that are over.
        """
        return self.args.augmentation_copies > 0 and (epoch or 0.0) >= self.args.augmentation_warmup_epochs

    def leaves_out(self, epoch: float | None) -> tuple[str, ...]:
        """
        Parts of the loss that wait until extra pairs are added: the contrastive one, as published.

        Args:
            epoch (`float`, *optional*): Epochs that are over.
        """
        waits = self.args.augmentation_copies > 0 and not self.has_begun(epoch)
        return ("contrastive",) if waits and not self.args.augmentation_warmup_contrastive else ()

    def count(self, labels: Tensor) -> int:
        """
        Count the extra pairs of a batch, without drawing anything.

        Args:
            labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot.
        """
        return self.args.augmentation_copies * int(count_anchors(labels))

    def inputs(self, labels: Tensor) -> dict[str, Any]:
        """
        Make what the model takes beside a batch.

        Args:
            labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Of the batch, multi-hot.

        Returns:
            `dict`: Arguments of [`DocREForRelationExtraction.forward`].
        """
        if self.generator is None:
            return {"noise_copies": self.args.augmentation_copies, "noise_scale": self.args.augmentation_noise}
        wanted = labels[pairs_to_augment(labels)].repeat_interleave(self.args.augmentation_copies, 0)
        return {"extra_pair_embeddings": self._draw(wanted), "extra_labels": wanted}

    def _draw(self, labels: Tensor) -> Tensor:
        if self._bank is None or not len(labels):
            return self.generator.sample(labels)  # type: ignore[union-attr]
        rows = torch.tensor([self._rows[_key(row)] for row in labels.cpu()])
        return self._bank[rows, torch.randint(self._bank.shape[1], (len(rows),))]


def find_augmentation(args: DocRETrainingArguments, generator: VaeDiffModel | None = None) -> PairAugmentation | None:
    """
    Make what arguments of training say about extra pairs.

    Args:
        args ([`DocRETrainingArguments`]): The settings.
        generator ([`VaeDiffModel`], *optional*): One that is loaded already.

    Returns:
        [`PairAugmentation`], or `None` where there are none.

    Raises:
        ValueError: If there is no generator, there are two, or it would not be used.
        TypeError: If `generator` is something else.
    """
    if generator is not None and not isinstance(generator, VaeDiffModel):
        raise TypeError(f"`generator` is a {type(generator).__name__}; pass VaeDiffModel.from_pretrained(FOLDER).")
    if args.augmentation != "vaediff":
        if generator is not None:
            raise ValueError(
                f'A generator would not be used with augmentation={args.augmentation!r}: pass augmentation="vaediff",'
                " or leave it out."
            )
        return PairAugmentation(args) if args.augmentation == "gaussian" else None
    if (generator is None) == (args.generator is None):
        raise ValueError(
            'augmentation="vaediff" needs one generator: pass generator=FOLDER in the arguments (training.generator '
            "in a recipe), where VaeDiffTrainer or a recipe with objective: generator saved it, or to the trainer one "
            "that is loaded."
        )
    return PairAugmentation(args, generator or VaeDiffModel.from_pretrained(str(args.generator)))


def _label_sets(document: Document, config: DocREConfig) -> set[tuple[int, ...]]:
    classes: dict[tuple[int, int], set[int]] = {}
    for relation in document.relations or ():
        classes.setdefault((relation.head, relation.tail), set()).add(config.class_of(relation.relation))
    return {tuple(sorted(found)) for found in classes.values()}


def _key(row: Tensor) -> bytes:
    return (row > 0).numpy().tobytes()


__all__ = ["PairAugmentation", "find_augmentation"]
