"""`DocREConfig`: the settings of every model."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from .configuration_checks import THRESHOLD_CLASS, check_relations, check_settings
from .methods import LOSSES, find_method
from .names import closest_relations, fold_name, nearest_name
from .remote_code import without_code_keys

# Encoders that count positions from `pad_token_id + 1`, so that their usable length is shorter by that much.
_OFFSET_POSITIONS = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
_DEFAULT_WINDOW = 512
# What transformers takes for a config beside the fields of its own.
_OF_TRANSFORMERS = frozenset(
    ("attn_implementation", "experts_implementation", "name_or_path", "num_labels", "output_attentions", "torch_dtype")
)


def encoder_window(encoder_config: PreTrainedConfig) -> int:
    """Return how many tokens the encoder reads at once, special tokens counted."""
    limit = getattr(encoder_config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return _DEFAULT_WINDOW
    if encoder_config.model_type in _OFFSET_POSITIONS:
        limit -= (encoder_config.pad_token_id or 0) + 1
    return limit


class DocREConfig(PreTrainedConfig):
    r"""Configuration of every document-level relation extraction model of this library.

    Relations, entity types, marker style and thresholds live here alone. Classes are `0` for the threshold class
    ("no relation") and `i + 1` for `relations[i]`; `id2label` and `label2id` are derived from `relations`.

    Args:
        encoder_config (`PreTrainedConfig` or `dict`, *optional*, defaults to a `BertConfig`):
            The configuration of the encoder, of any family that `AutoModel` builds.
        method (`str`, *optional*, defaults to `"atlop"`):
            Row of the table of methods that the other settings started from: a name alone, which changes none of them.
            [`DocREConfig.for_method`] takes the row's settings.
        head (`str`, *optional*, defaults to `"bilinear"`):
            Pair head: `"bilinear"` scores pairs one by one, `"axial"` (KD-DocRE), `"unet"` (DocuNet) and
            `"pair-aware"` (PAEE) in view of all pairs of the document.
        loss (`str`, *optional*, defaults to `"atl"`):
            Main loss: adaptive thresholding (`"atl"`), adaptive focal (`"afl"`), pairwise moving threshold (`"pmt"`),
            none-class ranking (`"ncrl"`), balanced softmax (`"balanced"`), adaptive softmax (`"adaptive"`) or binary
            cross-entropy (`"bce"`).
        loss_arguments (`dict`, *optional*): Keyword arguments of the loss function.
        contrastive_weight (`float`, *optional*, defaults to `0.0`):
            Weight of the supervised contrastive loss that is added to the main one; 0 leaves it out.
        contrastive_arguments (`dict`, *optional*):
            Keyword arguments of [`supervised_contrastive_loss`]: `temperature`, `form`, `reference`.
        moco_queue_size (`int`, *optional*, defaults to `500`):
            Embeddings in each relation's queue of [`DocREForContrastivePreTraining`].
        moco_size (`int`, *optional*, defaults to `256`): Width of these embeddings; the paper does not say.
        moco_momentum (`float`, *optional*, defaults to `0.99`): How much the copy that makes them stays as it is.
        moco_temperature (`float`, *optional*, defaults to `0.5`): Divides their cosines.
        moco_positives (`str`, *optional*, defaults to `"mean"`):
            Whether an anchor's costs over its positive keys are averaged or added (`"sum"`, as the paper writes it).
        era_copies (`int`, *optional*, defaults to `0`):
            Easy relation augmentation: rows that training adds to the main loss for each pair with one of
            `era_relations`, the same pair with a masked context; 0 adds none. With `head="bilinear"` alone.
        era_mask_probability (`float`, *optional*, defaults to `0.1`):
            Probability that such a row leaves a token out of its context.
        era_relations (`list[str]`, *optional*):
            Ids of the relations whose pairs are augmented; `None` is all, and has [`DocRETrainer`] put those with few
            training facts here (`era_max_facts`).
        distillation_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the distillation loss, which is added to the main one where a teacher's logits are given; 0
            leaves it out.
        distillation_loss (`str`, *optional*, defaults to `"mse"`):
            Distance from the teacher's logits: mean squared error (`"mse"`, KD-DocRE's), or divergence of the softmax
            over all classes (`"kl"`, its ablation).
        decision (`str`, *optional*, defaults to `"threshold-class"`):
            When a relation is predicted: its logit is above the threshold class's (`"threshold-class"`), above 0
            (`"zero"`), or its probability is above one global probability (`"probability"`).
        relations (`list[str]`, *optional*): Relation ids in class order, the threshold class left out.
        relation_names (`dict[str, str]`, *optional*): Relation id to words (`{"P17": "country"}`).
        entity_types (`list[str]`, *optional*): Known entity types. Type 0 is "unknown", type `i + 1` is the i-th.
        use_entity_types (`bool`, *optional*, defaults to `False`):
            Add a type embedding to each entity embedding and a learned bias per pair of types to the logits.
            Published methods leave it off.
        entity_type_dropout (`float`, *optional*, defaults to `0.0`):
            Probability that a training document hides all its entity types, so that the model also serves untyped
            entities.
        marker_style (`str`, *optional*, defaults to `"asterisk"`):
            `"asterisk"` puts `*` around mentions (published), `"typed"` `<e:TYPE>`/`</e:TYPE>`, `"tags"` `<e>`/`</e>`,
            `"unused"` the tokens `[unused1]`/`[unused51]`, `[unused3]`/`[unused53]`, ... of BERT's vocabulary by the
            place of the type in `entity_types`, and the next two for others (DocuNet).
        emb_size (`int`, *optional*, defaults to `768`): Width of the projected head and tail vectors.
        block_size (`int`, *optional*, defaults to `64`):
            Width of one block of the grouped bilinear (papers call it "k = 64 groups"; it is the block width).
        context_head_reduce (`str`, *optional*, defaults to `"mean"`):
            How attention heads are combined in localized context pooling: the mean (`"mean"`, ATLOP) or the sum
            (`"sum"`, KD-DocRE) of their products, or the product of their means (`"first"`, ERA).
        context_eps (`float`, *optional*, defaults to `1e-5`):
            Added to the denominator of the pooled attention (1e-5 in ATLOP, 1e-10 in KD-DocRE).
        axial_layers (`int`, *optional*, defaults to `6`): Layers of the axial head.
        axial_heads (`int`, *optional*, defaults to `8`): Attention heads of the axial head.
        axial_order (`str`, *optional*, defaults to `"parallel"`):
            Whether the axial head's two axes read the same cells (`"parallel"`, published) or the second what the
            first gave (`"sequential"`).
        axial_form (`str`, *optional*, defaults to `"code"`):
            Layers as in KD-DocRE's code, or as in its equation 7 (`"paper"`, with one layer and one head there).
        unet_channels (`int`, *optional*, defaults to `3`): Channels of the image that a U-Net or hard attention reads.
        unet_width (`int`, *optional*, defaults to `256`):
            Channels of the U-Net's first level, an even number; or of hard attention.
        unet_outputs (`int`, *optional*, defaults to `256`): Channels that it gives each pair.
        use_pair_grid (`bool`, *optional*, defaults to `True`):
            Whether the pair-aware head reads the contexts of all pairs as an image (PAEE's PAR).
        grid_network (`str`, *optional*, defaults to `"unet"`):
            With what: the U-Net above (`"unet"`), or a network of as many channels and several scales that looks at
            some cells alone from nearer (`"hard-attention"`, after TNet, which PAEE names).
        attended_share (`float`, *optional*, defaults to `0.25`):
            Share of the candidate cells that hard attention reads more closely, rounded up.
        grid_fill (`str`, *optional*, defaults to `"tile"`):
            What surrounds a document's own cells there up to `pad_to`: the same cells again (`"tile"`, PAEE's sliding
            window), or zeros (`"zeros"`). Not read with `mask_padding`, where nothing does.
        pair_type_size (`int`, *optional*, defaults to `16`): Width of the embedding of an entity's type there.
        use_potential_pairs (`bool`, *optional*, defaults to `True`):
            Whether it predicts which pairs have a relation at all, and tells the classifier (PAEE's PPP).
        potential_threshold (`float`, *optional*, defaults to `0.3`): Probability above which a pair is such a one.
        potential_feature (`str`, *optional*, defaults to `"tag"`):
            What the classifier is told: 0 or 1 (`"tag"`), or the `"probability"`.
        potential_weight (`float`, *optional*, defaults to `1.0`): Weight of the loss of that prediction.
        prune_threshold (`float`, *optional*, defaults to `0.0`):
            Probability above which pairs are classified at inference; others have no relation, and cost less time
            where nothing but the answer is wanted. 0 leaves out none; at `potential_threshold` many relations are
            lost. A student learns of all pairs.
        use_entity_encoder (`bool`, *optional*, defaults to `True`):
            Whether the pair-aware head lets entities and sentences see each other, and tells heads from tails (PAEE's
            EER).
        entity_encoder_layers (`int`, *optional*, defaults to `2`): Layers of that.
        entity_encoder_heads (`int`, *optional*, defaults to `8`): Its attention heads.
        role_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the loss of which relations an entity is head, and tail, of.
        pad_to (`int`, *optional*):
            Least size of the entity tables of the axial, the U-Net and the pair-aware head where padding takes part
            (`mask_padding=False`), a document with more entities having a larger one; `None` is no padding. 42 is
            published.
        mask_padding (`bool`, *optional*, defaults to `True`):
            Keep the padding of entity tables from having an influence. Published code lets it.
        include_diagonal_in_mean (`bool`, *optional*, defaults to `False`):
            Give the pair of an entity with itself logits of 0, and count it in the mean of the loss, as the published
            KD-DocRE and VaeDiff-DocRE do.
        max_relations_per_pair (`int`, *optional*, defaults to `4`): Cap on relations of one pair; `None` is no cap.
        threshold (`float`, *optional*):
            Tuned probability above which a relation is predicted. `None` is the decision's own rule.
        evidence_threshold (`float`, *optional*, defaults to `0.05`):
            Share of a pair's attention above which a sentence is evidence of its relations. The default is about what
            tuning finds for methods that do not train attention on evidence; DREEAM, which does, uses 0.2. `None`
            gives no evidence.
        pair_types (`list[list[str]]`, *optional*):
            Candidate pairs by `[head type, tail type]`; `None` scores all ordered pairs.
        max_length (`int`, *optional*):
            Keep this many tokens of a document, special tokens counted. `None` reads all of it; 1024 is published.
        window_size (`int`, *optional*): Tokens that the encoder reads at once; `None` is the encoder's own limit.
        window_mode (`str`, *optional*, defaults to `"cover"`):
            `"cover"` uses as many overlapping windows as leave no token uncovered; `"reference"` at most two, the
            published arithmetic, which leaves the middle of a longer document unread: up to three of 1,024 tokens.
        window_overlap (`int`, *optional*, defaults to `128`):
            Tokens that neighbouring windows share at least; limited to half of a window.
        start_tokens (`int`, *optional*, defaults to `1`): Special tokens put before a window.
        end_tokens (`int`, *optional*, defaults to `1`):
            Special tokens put after a window (2 in published RoBERTa runs).

    Raises:
        ValueError: when a setting is out of its range; the message names the setting and what it may be.
    """

    model_type = "docre"
    sub_configs: ClassVar[dict[str, Any]] = {"encoder_config": AutoConfig}

    encoder_config: dict[str, Any] | PreTrainedConfig | None = None
    method: str = "atlop"
    head: str = "bilinear"
    loss: str = "atl"
    loss_arguments: dict[str, Any] = field(default_factory=dict)
    contrastive_weight: float = 0.0
    contrastive_arguments: dict[str, Any] = field(default_factory=dict)
    moco_queue_size: int = 500
    moco_size: int = 256
    moco_momentum: float = 0.99
    moco_temperature: float = 0.5
    moco_positives: str = "mean"
    era_copies: int = 0
    era_mask_probability: float = 0.1
    era_relations: list[str] | None = None
    distillation_weight: float = 1.0
    distillation_loss: str = "mse"
    decision: str = "threshold-class"
    relations: list[str] = field(default_factory=list)
    relation_names: dict[str, str] = field(default_factory=dict)
    entity_types: list[str] = field(default_factory=list)
    use_entity_types: bool = False
    entity_type_dropout: float = 0.0
    marker_style: str = "asterisk"
    emb_size: int = 768
    block_size: int = 64
    context_head_reduce: str = "mean"
    context_eps: float = 1e-5
    axial_layers: int = 6
    axial_heads: int = 8
    axial_order: str = "parallel"
    axial_form: str = "code"
    unet_channels: int = 3
    unet_width: int = 256
    unet_outputs: int = 256
    use_pair_grid: bool = True
    grid_network: str = "unet"
    attended_share: float = 0.25
    grid_fill: str = "tile"
    pair_type_size: int = 16
    use_potential_pairs: bool = True
    potential_threshold: float = 0.3
    potential_feature: str = "tag"
    potential_weight: float = 1.0
    prune_threshold: float = 0.0
    use_entity_encoder: bool = True
    entity_encoder_layers: int = 2
    entity_encoder_heads: int = 8
    role_weight: float = 1.0
    pad_to: int | None = None
    mask_padding: bool = True
    include_diagonal_in_mean: bool = False
    max_relations_per_pair: int | None = 4
    threshold: float | None = None
    evidence_threshold: float | None = 0.05
    pair_types: list[list[str]] | None = None
    max_length: int | None = None
    window_size: int | None = None
    window_mode: str = "cover"
    window_overlap: int = 128
    start_tokens: int = 1
    end_tokens: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the nested encoder configuration, derive the label maps, check every setting."""
        if self.encoder_config is None:
            self.encoder_config = AutoConfig.for_model("bert")
        elif isinstance(self.encoder_config, Mapping):
            encoder = dict(self.encoder_config)
            self.encoder_config = AutoConfig.for_model(encoder.pop("model_type", "bert"), **encoder)
        if self.window_size is None:
            self.window_size = encoder_window(self.encoder_config)
        check_settings(self, DocREConfig.__annotations__)
        self.relations = list(self.relations)
        self.id2label = dict(enumerate([THRESHOLD_CLASS, *self.relations]))
        self.label2id = {label: index for index, label in self.id2label.items()}
        kwargs.pop("num_labels", None)
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build a config from a dict; `kwargs` override its entries and are checked like them."""
        # The base class sets them on the finished config, past the checks and the label maps.
        own = DocREConfig.__annotations__.keys() - {"sub_configs", "encoder_config"}
        config_dict = without_code_keys(config_dict)
        return super().from_dict({**config_dict, **{key: kwargs.pop(key) for key in own & kwargs.keys()}}, **kwargs)

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """Return the encoder's configuration, where transformers looks for sizes."""
        return self.encoder_config.get_text_config(*args, **kwargs)  # type: ignore[union-attr]

    @property
    def encoder(self) -> PreTrainedConfig:
        """The nested encoder configuration, built."""
        return self.encoder_config  # type: ignore[return-value]

    @property
    def num_classes(self) -> int:
        """Number of classes, the threshold class included."""
        return len(self.relations) + 1

    @property
    def type_ids(self) -> dict[str, int]:
        """Entity type to its id; 0 is left to unknown types."""
        return {name: index + 1 for index, name in enumerate(self.entity_types)}

    @property
    def reads_entity_types(self) -> bool:
        """Whether the model reads the types of entities, as embeddings or as markers."""
        return self.embeds_entity_types or self.marker_style in ("typed", "unused")

    @property
    def embeds_entity_types(self) -> bool:
        """Whether types are an input beside the text."""
        return self.use_entity_types or (self.head == "pair-aware" and self.use_pair_grid)

    def relation_label(self, relation: str) -> str:
        """Return the words for a relation id (`"country"` for `"P17"`), or the id where it has none."""
        return self.relation_names.get(relation, relation)

    def relation_id(self, name: str) -> str:
        """Return the id of a relation that is given by its id or its words; case, spaces, `_` and `-` don't matter.

        Raises:
            ValueError: when the model does not know the relation, or several go by these words.
        """
        if name in self.relations:
            return name
        words = {relation: self.relation_label(relation) for relation in self.relations}
        found = [relation for relation in words if words[relation] == name]
        found = found or [key for key in words if fold_name(str(name)) in (fold_name(key), fold_name(words[key]))]
        if len(found) > 1:
            raise ValueError(f"{name!r} is the name of several relations: pass an id, {self._list(found, ' or ')}.")
        return found[0] if found else self.relations[self.class_of(name) - 1]

    @property
    def era_classes(self) -> list[int] | None:
        """Classes of `era_relations`; `None` is all."""
        return None if self.era_relations is None else [self.class_of(name) for name in self.era_relations]

    def class_of(self, relation: str) -> int:
        """Return the class of a relation id.

        Raises:
            ValueError: when the model does not know the relation; those that may have been meant are suggested.
        """
        # `label2id` alone would take the name of the threshold class for a relation.
        class_id = self.label2id.get(relation, 0)  # type: ignore[union-attr]
        if class_id == 0:
            raise ValueError(f"{relation!r} is not a relation of this model{self.suggest_relation(relation)}")
        return int(class_id)

    def suggest_relation(self, relation: str) -> str:
        """Return the end of a message about a relation that the model does not know."""
        number, most = len(self.relations), 5
        near = closest_relations(str(relation), {key: self.relation_label(key) for key in self.relations})
        everything = f"model.config.{'relation_names' if self.relation_names else 'relations'} has all {number}."
        if near:
            return f"; did you mean {self._list(near, ' or ')}?{f' {everything}' if number > most else ''}"
        if number > most:
            return f": it knows {number}, such as {self._list(self.relations[:most])}; {everything}"
        return f": it knows {number}{': ' if number else ''}{self._list(self.relations)}."

    def _list(self, relations: Sequence[str], last: str = ", ") -> str:
        """Name relations with their words."""
        labels = [self.relation_label(relation) for relation in relations]
        named = [
            repr(relation) if label == relation else f"{relation!r} ({label})"
            for relation, label in zip(relations, labels, strict=True)
        ]
        return last.join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)

    def check_decision(self) -> None:
        """Check that the loss trains what the decision reads; to be called where a loss is computed.

        Raises:
            ValueError: when it does not.
        """
        if self.decision not in LOSSES[self.loss]:
            decisions = " or ".join(f'decision="{name}"' for name in LOSSES[self.loss])
            losses = ", ".join(repr(name) for name, fits in LOSSES.items() if self.decision in fits)
            raise ValueError(
                f"loss={self.loss!r} does not train what decision={self.decision!r} reads: pass {decisions}, or one "
                f"of the losses {losses}."
            )

    @classmethod
    def _check_names(cls, settings: Mapping[str, Any]) -> None:
        # Not for configs that are read from a file, which may be of another version.
        known = {one.name for one in dataclasses.fields(cls)} | _OF_TRANSFORMERS
        for name in settings:
            if name not in known:
                hint = nearest_name(name, sorted(known)) or " help(DocREConfig) lists them."
                raise ValueError(f"{name!r} is not a setting of DocREConfig.{hint}")

    def unread_tokens(self, length: int) -> range:
        """Tokens between the windows of a document of so many, special tokens counted, which nothing reads."""
        if self.window_mode != "reference" or self.window_size is None or length <= self.window_size:
            return range(0)
        # Where windows do not end with the document, special tokens take the place of its own.
        first = self.window_size - self.end_tokens
        return range(first, max(first, length - self.window_size + self.start_tokens))

    @classmethod
    def for_method(
        cls, method: str, relations: Sequence[str] | Mapping[str, str] | None = None, **settings: Any
    ) -> DocREConfig:
        """Fill a config from a row of the table of methods; `settings` override any column or field.

        Args:
            method (`str`): Name of a row of `METHODS`, such as `"atlop"`.
            relations (`Sequence[str]` or `Mapping[str, str]`, *optional*):
                Relation ids, or ids with the words for them (`{"P17": "country"}`).
            settings: Any field of [`DocREConfig`], or what every config of transformers takes.

        Raises:
            ValueError: when there is no such method or setting, or a setting is out of its range.

        Example:

        ```python
        >>> from modeling_docre import DocREConfig
        >>> config = DocREConfig.for_method("atlop", relations={"P17": "country"}, loss="pmt")
        >>> config.num_classes, config.loss, config.decision
        (2, 'pmt', 'threshold-class')

        ```
        """
        cls._check_names(settings)
        row = find_method(method)
        fields: dict[str, Any] = {"head": row.head, "loss": row.loss, **copy.deepcopy(dict(row.settings))}
        decisions = LOSSES.get(str(settings.get("loss", row.loss)), ())
        # A loss of another kind brings its own decision along.
        fields["decision"] = row.decision if row.decision in decisions or not decisions else decisions[0]
        if relations is not None:
            check_relations(relations)
            fields["relations"] = list(relations)
            if isinstance(relations, Mapping):
                fields["relation_names"] = dict(relations)
        arguments = settings.get("contrastive_arguments")
        if isinstance(arguments, Mapping):
            # The row's form of the loss stays, unless another is asked for.
            settings["contrastive_arguments"] = {**fields.get("contrastive_arguments", {}), **arguments}
        return cls(method=method, **{**fields, **settings})


__all__ = ["THRESHOLD_CLASS", "DocREConfig", "encoder_window"]
