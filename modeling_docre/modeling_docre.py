"""`DocREForRelationExtraction`: encoder, entity states and a pair head put together."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .augmentation import noisy_copies, pairs_to_augment
from .configuration_checks import check_one_vector, check_potential_pairs, check_pruning
from .configuration_docre import DocREConfig
from .encoders import copy_fusion, copy_weights, load_encoder
from .encoding import all_pairs, check_entities
from .evidence import sentence_attention
from .head_axial import AxialHead
from .head_bilinear import BilinearHead, PairFactors
from .head_pair_aware import PairAwareHead, with_unrelated
from .head_unet import UNetHead
from .markers import load_tokenizer
from .method_loss import RowGatherer, check_loss_arguments, method_losses
from .model_outputs import DocREModelOutput, DocRERelationOutput
from .modeling_base import DocREModel, DocREPreTrainedModel, augmented_embeddings
from .pair_aware_loss import pair_aware_losses
from .sentence_features import SentenceFeatures, sentence_features

HEAD_CLASSES: dict[str, type[nn.Module]] = {
    "bilinear": BilinearHead,
    "axial": AxialHead,
    "unet": UNetHead,
    "pair-aware": PairAwareHead,
}


class DocREForRelationExtraction(DocREPreTrainedModel):
    """Relations between the entities of a document: any method of the table of methods.

    Start a new model with [`~DocREForRelationExtraction.from_encoder`], load one with `from_pretrained`.

    Args:
        config ([`DocREConfig`]): The configuration.
    """

    # The loss is divided by `num_items_in_batch` here, so Trainer must not divide it again.
    accepts_loss_kwargs = True

    def __init__(self, config: DocREConfig) -> None:
        super().__init__(config)
        self.docre = DocREModel(config)
        self.head: Any = HEAD_CLASSES[config.head](config)
        self.type_pair_bias: nn.Embedding | None = None
        if config.use_entity_types:
            self.type_pair_bias = nn.Embedding((len(config.entity_types) + 1) ** 2, config.num_classes)
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        encoder: str | os.PathLike[str] | PreTrainedModel,
        method: str = "atlop",
        relations: Sequence[str] | Mapping[str, str] | None = None,
        *,
        tokenizer: Any = None,
        **settings: Any,
    ) -> DocREForRelationExtraction:
        """Start a new model around a pretrained encoder.

        Args:
            encoder (`str`, `os.PathLike` or `PreTrainedModel`):
                Folder or Hub id of the encoder, or the encoder itself, which is copied. Of a model with a head, one of
                this library included, what is below the head is taken; of one that [`DocREForContrastivePreTraining`]
                trained, the layers too that join entities with their context. Embeddings of entity types start anew.
            method (`str`, *optional*, defaults to `"atlop"`): Row of the table of methods.
            relations (`Sequence[str]` or `Mapping[str, str]`):
                Relation ids, or ids with the words for them (`{"P17": "country"}`).
            tokenizer (`PreTrainedTokenizerBase`, *optional*):
                The encoder's tokenizer when `encoder` is a model; marker tokens are added to it and the encoder's
                word embeddings grow with it. Read from `encoder` when that is a name.
            settings: Any field of [`DocREConfig`].

        Returns:
            [`DocREForRelationExtraction`] with a random pair head.

        Raises:
            ValueError: when `relations` is missing or empty, or a setting is none or has a value that it can't have.
            TypeError: when a config is passed.

        Example:

        ```python
        model = DocREForRelationExtraction.from_encoder(
            "google-bert/bert-base-cased", method="atlop", relations={"P17": "country"}
        )
        processor = DocREProcessor.from_encoder("google-bert/bert-base-cased", config=model.config)
        ```
        """
        if isinstance(method, DocREConfig) or "config" in settings:
            raise TypeError(
                "from_encoder makes the config itself, with the encoder's inside: pass the name of a method and what "
                'differs from its row, such as from_encoder(ENCODER, "kd-docre", relations=[...], axial_layers=2).'
            )
        if not relations:
            shown = encoder if isinstance(encoder, str) else "ENCODER"
            raise ValueError(
                "Which relations should the model know? Pass their ids, or ids with words:\n"
                f'    {cls.__name__}.from_encoder("{shown}", relations=["P17", "P131"])\n'
                f'    {cls.__name__}.from_encoder("{shown}", relations={{"P17": "country"}})'
            )
        if not isinstance(encoder, PreTrainedModel):
            encoder = str(encoder)
            tokenizer = tokenizer or encoder
        loaded, fusion = load_encoder(encoder)
        config = DocREConfig.for_method(method, relations, encoder_config=copy.deepcopy(loaded.config), **settings)
        config.check_decision()
        check_loss_arguments(config)
        check_potential_pairs(config)
        if os.path.isdir(config.encoder.name_or_path or ""):
            # A folder of this machine means nothing to whoever loads the checkpoint.
            config.encoder._name_or_path = ""
        if tokenizer is not None:
            vocabulary = len(load_tokenizer(tokenizer, config))
            if vocabulary > loaded.get_input_embeddings().num_embeddings:
                loaded.resize_token_embeddings(vocabulary)
                config.encoder.vocab_size = loaded.config.vocab_size
        elif config.marker_style != "asterisk":
            raise ValueError(
                f"marker_style={config.marker_style!r} adds marker tokens to the vocabulary: pass the encoder's "
                "tokenizer too, tokenizer=AutoTokenizer.from_pretrained(...)."
            )
        model = cls(config)
        copy_weights(loaded, model.docre.encoder)
        if fusion is not None:
            copy_fusion(fusion, model.head)
        return model

    def set_class_bias(self, values: Tensor) -> None:
        """Set the classifier's bias, `(num_classes,)`, such as the labels' log-odds before training."""
        with torch.no_grad():
            self.head.classifier.bias.copy_(values)

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's word embeddings."""
        return self.docre.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the encoder's word embeddings."""
        self.docre.set_input_embeddings(value)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        mentions: Tensor | None = None,
        pairs: Tensor | None = None,
        num_entities: Tensor | None = None,
        labels: Tensor | None = None,
        entity_types: Tensor | None = None,
        sentence_ids: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        num_augmented_in_batch: Tensor | int | None = None,
        num_anchors_in_batch: Tensor | int | None = None,
        num_extra_in_batch: Tensor | int | None = None,
        num_entities_in_batch: Tensor | int | None = None,
        gather_rows: RowGatherer | None = None,
        teacher_logits: Tensor | None = None,
        extra_pair_embeddings: Tensor | None = None,
        extra_labels: Tensor | None = None,
        noise_copies: int = 0,
        noise_scale: float = 0.1,
        output_pair_embeddings: bool = False,
        output_entity_embeddings: bool = False,
        output_sentence_attention: bool = False,
        prune_threshold: float | None = None,
        return_dict: bool | None = None,
    ) -> DocRERelationOutput | tuple[Any, ...]:
        """Score pairs of entities, and compute the method's loss when `labels` are given.

        Args:
            input_ids (`torch.Tensor` of shape `(batch, tokens)`): Token ids, of any length, padded on the right.
            attention_mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): 1 for tokens, 0 for padding.
            mentions (`torch.Tensor` of shape `(num_mentions, 3)`, *optional*):
                Document in batch, entity in document, token of the opening marker (special tokens counted). Mentions
                beyond the document's tokens are ignored.
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`, *optional*):
                Document in batch, head entity, tail entity, in any order; all ordered pairs of different entities,
                row-major, when left out.
            labels (`torch.Tensor` of shape `(num_pairs, num_classes)`, *optional*):
                Multi-hot, column 0 is 1 exactly where the pair has no relation; never changed in place.
            num_entities (`torch.Tensor` of shape `(batch,)`, *optional*):
                Entities per document; 1 + the highest entity in `mentions` when left out.
            entity_types (`torch.Tensor` of shape `(batch, entities)`, *optional*):
                Type ids, 0 unknown; read with `use_entity_types`, and in the pair-aware head's grid.
            sentence_ids (`torch.Tensor` of shape `(batch, tokens)`, *optional*):
                Sentence of each token, -1 outside; read for `sentence_attention`, and by the pair-aware head.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Pairs over all micro-batches and processes that make one step, and with `include_diagonal_in_mean` one
                more for each entity: the sum of the loss over them is divided by it. The mean over those of this call
                when left out.
            num_augmented_in_batch (`int` or `torch.Tensor`, *optional*):
                Rows that augmentation adds to them, as [`count_augmented`] counts them. Not read without
                `num_items_in_batch`. See [`method_losses`].
            num_anchors_in_batch (`int` or `torch.Tensor`, *optional*):
                Those of them with a relation, as [`count_anchors`] counts them: what a contrastive loss of form
                `"vaediff"` is a mean over. Not read without `num_items_in_batch`. See [`method_losses`].
            num_extra_in_batch (`int` or `torch.Tensor`, *optional*):
                Extra pairs of them, noisy copies included; those with a relation count in `num_anchors_in_batch` too.
                Not read without `num_items_in_batch`. See [`method_losses`].
            num_entities_in_batch (`int` or `torch.Tensor`, *optional*):
                Entities of them, for the pair-aware head. See [`pair_aware_losses`].
            gather_rows (`Callable`, *optional*):
                [`processes.gather_rows`], where the contrastive loss is to compare the pairs of all processes.
            teacher_logits (`torch.Tensor` of shape `(num_pairs, num_classes)`, *optional*):
                A teacher's scores of the same pairs and relations, in any precision: adds distillation to the loss.
            extra_pair_embeddings (`torch.Tensor` of shape `(num_extra, hidden_size)`, *optional*):
                What stands for further pairs, such as [`VaeDiffModel.sample`] draws: they are classified and enter the
                loss, and nothing else. Of the axial head alone, whose pair embeddings are one vector each.
            extra_labels (`torch.Tensor` of shape `(num_extra, num_classes)`, *optional*): Theirs, as `labels`.
            noise_copies (`int`, *optional*, defaults to `0`):
                Further such pairs: so many copies of each pair with a relation, with noise. See [`noisy_copies`].
            noise_scale (`float`, *optional*, defaults to `0.1`): Size of the noise.
            output_pair_embeddings (`bool`, *optional*, defaults to `False`): Return `pair_embeddings`.
            output_entity_embeddings (`bool`, *optional*, defaults to `False`): Return `entity_embeddings`.
            output_sentence_attention (`bool`, *optional*, defaults to `False`):
                Return `sentence_attention`, without a gradient.
            prune_threshold (`float`, *optional*): Instead of the config's, 0 for all pairs; not read in training.
            return_dict (`bool`, *optional*): Return a tuple when `False`.

        Returns:
            [`DocRERelationOutput`].

        Raises:
            ValueError: when `mentions` or `pairs` name an entity that is not there, sentence attention is wanted of
                tokens without `sentence_ids`, `teacher_logits` or extra pairs come without `labels`, extra pairs do
                not go with the head or have another width, `prune_threshold` is no probability or nothing predicts
                one, or the config's loss does not train what its decision reads or does not take one of its arguments.
        """
        read_with_labels = {
            "teacher_logits": teacher_logits is not None,
            "extra_pair_embeddings": extra_pair_embeddings is not None,
            "noise_copies": noise_copies > 0,
        }
        if labels is None and any(read_with_labels.values()):
            name = next(name for name, given in read_with_labels.items() if given)
            raise ValueError(f"{name} enters the loss alone, which needs `labels` too: pass both, or neither.")
        prune_threshold = self.config.prune_threshold if prune_threshold is None else prune_threshold
        if not self.training:
            check_pruning(self.config, prune_threshold)
        given = self._check_extra(extra_pair_embeddings, extra_labels, noise_copies)
        if sentence_ids is None and (output_sentence_attention or self.config.head == "pair-aware"):
            reader = "output_sentence_attention=True" if output_sentence_attention else 'head="pair-aware"'
            raise ValueError(f"{reader} needs `sentence_ids` (batch, tokens), which the processor's collate gives.")
        if sentence_ids is not None and sentence_ids.shape != input_ids.shape:
            raise ValueError(
                f"sentence_ids have shape {tuple(sentence_ids.shape)}, and input_ids {tuple(input_ids.shape)}: pass "
                "the sentence of each token."
            )
        drops_types = self.config.embeds_entity_types and self.config.entity_type_dropout > 0
        if self.training and entity_types is not None and drops_types:
            hidden = torch.rand(len(entity_types), 1, device=entity_types.device) < self.config.entity_type_dropout
            entity_types = entity_types.masked_fill(hidden, 0)
        states = self.docre(input_ids, attention_mask, mentions, num_entities, entity_types)
        if pairs is None:
            pairs = all_pairs(states.num_entities)
        pairs = pairs.long()
        check_entities("pairs", pairs, states.num_entities)
        inputs = (
            states.last_hidden_state,
            states.entity_embeddings,
            states.entity_attention,
            states.num_entities,
            pairs,
        )
        side = kept = classified = None
        if isinstance(self.head, PairAwareHead):
            features = self._sentence_features(
                states.num_entities, input_ids, attention_mask, mentions, entity_types, sentence_ids
            )
            side = self.head.represent(*inputs, features)
            kept = None if self.training else self.head.potential_rows(side, prune_threshold)
            # A loss, and who asks for the embeddings, wants all of them.
            classified = kept if labels is None and not output_pair_embeddings else None
            embeddings = self.head.factors(side, pairs, classified)
        else:
            embeddings = self.head.pair_embeddings(*inputs)
        of_rows = pairs if classified is None else pairs[classified]
        logits = self._classify(embeddings, of_rows, entity_types, states.num_entities)
        if teacher_logits is not None and self.config.include_diagonal_in_mean:
            teacher_logits = teacher_logits.masked_fill((pairs[:, 1] == pairs[:, 2])[:, None], 0.0)
        losses = None
        if labels is not None:
            losses = method_losses(
                self.config,
                logits,
                labels,
                embeddings,
                pairs,
                states.num_entities,
                training=self.training,
                num_items_in_batch=num_items_in_batch,
                num_augmented_in_batch=num_augmented_in_batch,
                num_anchors_in_batch=num_anchors_in_batch,
                num_extra_in_batch=num_extra_in_batch,
                gather_rows=gather_rows,
                augmented=self._augment(states, pairs, labels, entity_types),
                extra=self._extra(
                    embeddings, pairs, labels, entity_types, states.num_entities, given, (noise_copies, noise_scale)
                ),
                teacher_logits=teacher_logits,
            )
            if side is not None:
                losses |= pair_aware_losses(
                    self.config,
                    side,
                    labels,
                    pairs,
                    states.num_entities,
                    num_items_in_batch=num_items_in_batch,
                    num_entities_in_batch=num_entities_in_batch,
                )
        if kept is not None:
            logits = with_unrelated(logits if classified is not None else logits[kept], kept, len(pairs))
        output = DocRERelationOutput(
            loss=None if losses is None else torch.stack(list(losses.values())).sum(),
            logits=logits,
            pairs=pairs,
            entities_read=states.entities_read,
            losses=losses,
            pair_embeddings=self._as_tensor(embeddings) if output_pair_embeddings else None,
            entity_embeddings=states.entity_embeddings if output_entity_embeddings else None,
            potential_pairs=None if side is None or side.potential is None else torch.sigmoid(side.potential.float()),
            pruned=None if kept is None else torch.ones_like(pairs[:, 0], dtype=torch.bool).index_fill(0, kept, False),
            sentence_attention=(
                self._sentence_attention(states, sentence_ids, pairs) if output_sentence_attention else None
            ),
        )
        return output.to_tuple() if return_dict is False else output

    def _sentence_features(
        self,
        num_entities: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        mentions: Tensor | None,
        entity_types: Tensor | None,
        sentence_ids: Any,
    ) -> SentenceFeatures:
        mentions = input_ids.new_zeros(0, 3) if mentions is None else mentions
        lengths = (torch.ones_like(input_ids) if attention_mask is None else attention_mask).long().sum(1)
        types = self.docre.entity_type_table(entity_types, num_entities)
        unread = self.config.unread_tokens if self.config.window_mode == "reference" else None
        return sentence_features(mentions.long(), types, sentence_ids, num_entities, lengths, unread)

    def _classify(
        self,
        embeddings: Tensor | PairFactors,
        pairs: Tensor | None,
        entity_types: Tensor | None,
        num_entities: Tensor,
    ) -> Tensor:
        logits = self.head.classify(embeddings)
        if pairs is None:
            # Of no document: the types of both entities are unknown.
            return logits if self.type_pair_bias is None else logits + self.type_pair_bias.weight[0]
        if self.type_pair_bias is not None:
            types = self.docre.entity_type_table(entity_types, num_entities)
            head_type, tail_type = types[pairs[:, 0], pairs[:, 1]], types[pairs[:, 0], pairs[:, 2]]
            logits = logits + self.type_pair_bias(head_type * (len(self.config.entity_types) + 1) + tail_type)
        if self.config.include_diagonal_in_mean:
            logits = logits.masked_fill((pairs[:, 1] == pairs[:, 2])[:, None], 0.0)
        return logits

    def _augment(
        self, states: Any, pairs: Tensor, labels: Tensor, entity_types: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Logits and labels of the rows that easy relation augmentation adds (ERA, section 3.4), where there are."""
        copies = self.config.era_copies
        rows = pairs_to_augment(labels, self.config.era_classes) if self.training and copies else pairs[:0, 0]
        if not len(rows):
            return None
        embeddings = augmented_embeddings(self.config, self.head, states, pairs[rows])
        rows = rows.repeat_interleave(copies)
        return self._classify(embeddings, pairs[rows], entity_types, states.num_entities), labels[rows]

    def _check_extra(
        self, embeddings: Tensor | None, labels: Tensor | None, noise_copies: int
    ) -> tuple[Tensor, Tensor] | None:
        if (embeddings is None) != (labels is None):
            raise ValueError("Extra pairs need both extra_pair_embeddings and extra_labels: pass both, or neither.")
        if embeddings is not None or noise_copies:
            check_one_vector(self.config)
        if embeddings is None or labels is None:
            return None
        width = self.config.get_text_config().hidden_size
        wanted = (len(embeddings), width), (len(embeddings), self.config.num_classes)
        if (embeddings.shape, labels.shape) != wanted:
            raise ValueError(
                f"extra_pair_embeddings and extra_labels have shapes {tuple(embeddings.shape)} and "
                f"{tuple(labels.shape)}; the model takes {wanted[0]} and {wanted[1]}."
            )
        return embeddings, labels

    def _extra(
        self,
        embeddings: Tensor | PairFactors,
        pairs: Tensor,
        labels: Tensor,
        entity_types: Tensor | None,
        num_entities: Tensor,
        given: tuple[Tensor, Tensor] | None,
        noise: tuple[int, float],
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Embeddings, logits and labels of the pairs that are given, and of noisy copies, where there are."""
        if not isinstance(embeddings, Tensor):
            return None
        found = []
        if given is not None:
            # In the precision of the pairs, with which they are compared.
            extra = given[0].to(embeddings)
            found.append((extra, self._classify(extra, None, None, num_entities), given[1].to(labels)))
        copies, scale = noise
        if copies:
            noisy, rows = noisy_copies(embeddings, labels, copies, scale=scale)
            found.append((noisy, self._classify(noisy, pairs[rows], entity_types, num_entities), labels[rows]))
        joined = tuple(torch.cat(parts) for parts in zip(*found, strict=True))
        return joined if joined and len(joined[0]) else None  # type: ignore[return-value]

    @torch.no_grad()
    def _sentence_attention(self, states: DocREModelOutput, sentence_ids: Tensor | None, pairs: Tensor) -> Tensor:
        config = self.config
        return sentence_attention(
            states.entity_attention,  # type: ignore[arg-type]
            sentence_ids,  # type: ignore[arg-type]
            pairs,
            reduce=config.context_head_reduce,
            eps=config.context_eps,
        )

    def _as_tensor(self, embeddings: Tensor | PairFactors) -> Tensor:
        return embeddings.outer(self.config.block_size) if isinstance(embeddings, PairFactors) else embeddings


__all__ = ["DocREForRelationExtraction", "DocRERelationOutput"]
