"""The pair-aware and entity-enhanced pair head (PAEE): which pairs may be related, and entities as heads and tails."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import at_least_float32
from .configuration_docre import DocREConfig
from .entity_table import EntityTable, TableHead, square
from .hard_attention import HardAttentionNetwork
from .head_bilinear import GroupedBilinear, PairFactors, project
from .head_unet import UNet, image_size
from .sentence_features import SentenceFeatures

# Sentences that have a position of their own; those beyond share the last.
_SENTENCES = 256


class PairAwareStates(NamedTuple):
    """What the head makes of documents, before it looks at pairs.

    Attributes:
        heads (`torch.Tensor` of shape `(batch, entities, width)`): Entities as heads (equation 7).
        tails (`torch.Tensor` of shape `(batch, entities, width)`): Entities as tails.
        features (`torch.Tensor` of shape `(num_pairs, features)`): Of each pair (equations 4 and 5).
        potential (`torch.Tensor` of shape `(num_pairs,)`, *optional*): Logits of being related at all (equation 5).
        roles (`torch.Tensor` of shape `(batch, entities, 2, num_relations)`, *optional*):
            Logits of being the head, and the tail, of some triple of each relation (equation 7).
    """

    heads: Tensor
    tails: Tensor
    features: Tensor
    potential: Tensor | None
    roles: Tensor | None


class EntityEncoder(nn.Module):
    """The representation-enhanced encoder: entities and sentences of a document see each other (equation 6).

    A sentence is the maximum over its tokens, with an embedding of its position; entities have none. Two transformer
    layers of eight heads, with the norm behind, as in the paper on transformers: this paper gives no size. Dropout is
    the encoder's `hidden_dropout_prob`, and 0.1 where its config has none of that name.

    Args:
        config ([`DocREConfig`]): `entity_encoder_layers` and `entity_encoder_heads` are read.
    """

    def __init__(self, config: DocREConfig) -> None:
        super().__init__()
        hidden = config.get_text_config().hidden_size
        self.positions = nn.Embedding(_SENTENCES, hidden)
        dropout = getattr(config.get_text_config(), "hidden_dropout_prob", 0.1)
        layer = nn.TransformerEncoderLayer(hidden, config.entity_encoder_heads, 4 * hidden, dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, config.entity_encoder_layers, enable_nested_tensor=False)

    def forward(self, entities: Tensor, num_entities: Tensor, hidden_states: Tensor, sentence_ids: Tensor) -> Tensor:
        """Return entities `(batch, entities, hidden)` that have seen the document."""
        if not len(entities):
            return entities
        sentences, there = self.pool_sentences(hidden_states, sentence_ids)
        real = torch.arange(entities.shape[1], device=entities.device) < num_entities[:, None]
        seen = torch.cat([real, there], 1)
        # A document with nothing to attend to attends to zeros that nobody reads.
        seen[:, :1] |= ~seen.any(1, keepdim=True)
        joined = torch.cat([entities, sentences.to(entities.dtype)], 1).to(self.positions.weight.dtype)
        return self.layers(joined, src_key_padding_mask=~seen)[:, : entities.shape[1]]

    def pool_sentences(self, hidden_states: Tensor, sentence_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return sentences `(batch, sentences, hidden)` with their positions, and which have a token."""
        batch, _, hidden = hidden_states.shape
        number = max(1, int(sentence_ids.max()) + 1 if sentence_ids.numel() else 1)
        # Tokens outside of sentences go to a row that is cut off.
        rows = torch.where(sentence_ids < 0, number, sentence_ids)[..., None].expand(-1, -1, hidden)
        pooled = hidden_states.new_full((batch, number + 1, hidden), -torch.inf)
        pooled = pooled.scatter_reduce(1, rows, hidden_states, "amax")[:, :number]
        there = (pooled > -torch.inf).any(2)
        position = torch.arange(number, device=pooled.device).clamp(max=_SENTENCES - 1)
        return pooled.masked_fill(~there[..., None], 0.0) + self.positions(position), there


class PairGrid(nn.Module):
    """The pair-aware grid: contexts of all pairs, with types and whether they share a sentence, as an image that a
    network of several scales reads (equations 3 and 4).

    The two matrices of these equations have nothing between them, and are one here. The paper's network, TNet, is made
    for image classification, and not described; DocuNet's U-Net takes its place, with its three channels, or
    [`HardAttentionNetwork`], which is nearer to TNet.

    Rows and columns are entities by first appearance. Up to `pad_to` of them, the grid of a document is repeated (the
    sliding window), or with `grid_fill="zeros"` surrounded by zeros.

    Args:
        config ([`DocREConfig`]):
            `grid_network`, `attended_share`, `grid_fill`, `mask_padding` and the settings that begin with `unet_` and
            `pair_type_` are read.
    """

    def __init__(self, config: DocREConfig) -> None:
        super().__init__()
        self.tiles, self.mask_padding = config.grid_fill == "tile", config.mask_padding
        self.types = nn.Embedding(len(config.entity_types) + 1, config.pair_type_size)
        hidden = config.get_text_config().hidden_size
        self.channels = nn.Linear(hidden + 2 * config.pair_type_size + 1, config.unet_channels)
        sizes = (config.unet_channels, config.unet_width, config.unet_outputs)
        self.network: UNet | HardAttentionNetwork
        if config.grid_network == "unet":
            self.network = UNet(*sizes)
        else:
            self.network = HardAttentionNetwork(*sizes, config.attended_share)

    def of_tokens(self, hidden_states: Tensor) -> Tensor:
        """Return the channels of each token `(batch, tokens, channels)`, of which a context is a weighted mean."""
        return functional.linear(
            at_least_float32(hidden_states), at_least_float32(self.channels.weight[:, : hidden_states.shape[-1]])
        )

    def pair_features(self, features: SentenceFeatures, cells: Tensor) -> Tensor:
        """Return types and whether a sentence is shared, of cells `(num_cells, 2 * pair_type_size + 1)`."""
        document, head, tail = cells.unbind(1)
        types = self.types(features.entity_types)
        shared = features.shared[document, head, tail].to(types.dtype)
        return torch.cat([types[document, head], types[document, tail], shared[:, None]], 1)

    def forward(
        self, contexts: Tensor, features: SentenceFeatures, table: EntityTable, num_entities: Tensor, size: int
    ) -> Tensor:
        """Return what the network gives each pair of places `(batch, size, size, outputs)`.

        Args:
            contexts (`torch.Tensor` of shape `(num_cells, channels)`): Of the cells of `table`, by [`of_tokens`].
            features ([`SentenceFeatures`]): Of the documents.
            table ([`EntityTable`]): The cells, of entities in the order of the caller.
            num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document.
            size (`int`): Rows and columns.
        """
        more = self.pair_features(features, table.cells)
        width = self.channels.in_features - more.shape[1]
        with torch.autocast(contexts.device.type, enabled=False):
            weight, bias = at_least_float32(self.channels.weight[:, width:]), at_least_float32(self.channels.bias)
            values = table.fill(contexts + functional.linear(at_least_float32(more), weight, bias))
        # Which entity stands at each row.
        order = features.places.argsort(1)
        size = image_size(size, masked=self.mask_padding)
        place = torch.arange(size, device=values.device)
        if order.shape[1]:
            batch = torch.arange(len(order), device=values.device)[:, None]
            rows = order[batch, place % num_entities[:, None].clamp(min=1)]
            images = values[batch[..., None], rows[:, :, None], rows[:, None, :]]
        else:
            # Attached: where processes share gradients, each has one for every parameter.
            images = values.new_zeros(len(order), size, size, values.shape[-1]) + 0.0 * values.sum()
        if self.mask_padding or not self.tiles:
            images = images * square(place < num_entities[:, None])[..., None]
        images = images.permute(0, 3, 1, 2).to(self.channels.weight.dtype)
        if isinstance(self.network, HardAttentionNetwork):
            return self.network(images, num_entities, masked=self.mask_padding).permute(0, 2, 3, 1)
        return self.network(images, num_entities if self.mask_padding else None).permute(0, 2, 3, 1)


class PairAwareHead(TableHead):
    """Pair head of PAEE.

    Args:
        config ([`DocREConfig`]):
            `use_pair_grid`, `use_potential_pairs`, `use_entity_encoder`, `potential_feature`, what [`PairGrid`] and
            [`EntityEncoder`] read, `emb_size`, `block_size`, `context_head_reduce` and `context_eps`;
            `potential_threshold` each time anew.
    """

    def __init__(self, config: DocREConfig) -> None:
        hidden, relations = config.get_text_config().hidden_size, len(config.relations)
        finds_pairs = config.use_pair_grid and config.use_potential_pairs
        features = config.unet_outputs + finds_pairs if config.use_pair_grid else 0
        width = hidden + relations if config.use_entity_encoder else hidden
        super().__init__(config, features, entity_width=width)
        self.has_batch_norm = config.use_pair_grid and config.grid_network == "unet"
        self.grid = PairGrid(config) if config.use_pair_grid else None
        self.encoder = EntityEncoder(config) if config.use_entity_encoder else None
        self.roles = nn.Linear(hidden, 2 * relations) if config.use_entity_encoder else None
        self.potential = None
        if finds_pairs:
            self.potential = nn.Linear(config.unet_outputs + 2 * config.pair_type_size + 1, 1)
        self.config = config
        self.classifier = GroupedBilinear(config.emb_size, config.num_classes, config.block_size)

    @torch.no_grad()
    def set_bias(self, related: Tensor, roles: Tensor) -> None:
        """Set the biases of what is predicted beside the relations, such as to the labels' log-odds before training.

        Args:
            related (`torch.Tensor` of shape `()`): Of pairs that may be related.
            roles (`torch.Tensor` of shape `(2, num_relations)`): Of entities as heads and as tails.
        """
        if self.potential is not None:
            self.potential.bias.fill_(related)
        if self.roles is not None:
            self.roles.bias.copy_(roles.flatten())

    def pair_embeddings(
        self,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
    ) -> PairFactors:
        """Represent each pair of documents of which nothing else is known; see [`PairHead.pair_embeddings`].

        Entities then have no types, appear in their order, and in no sentence. [`PairAwareHead.represent`] takes what
        is known.
        """
        batch, entities, tokens = len(hidden_states), entity_embeddings.shape[1], hidden_states.shape[1]
        numbers = num_entities.new_zeros(batch, entities)
        features = SentenceFeatures(
            numbers,
            numbers + torch.arange(entities, device=numbers.device),
            numbers.new_zeros(batch, entities, entities, dtype=torch.bool),
            numbers.new_full((batch, tokens), -1),
        )
        inputs = (hidden_states, entity_embeddings, entity_attention, num_entities, pairs)
        return self.factors(self.represent(*inputs, features), pairs)

    def represent(
        self,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
        features: SentenceFeatures,
    ) -> PairAwareStates:
        """Read the documents.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, hidden)`): Last hidden states.
            entity_embeddings (`torch.Tensor` of shape `(batch, entities, hidden)`): Pooled entities.
            entity_attention (`torch.Tensor` of shape `(batch, entities, attention_heads, tokens)`): Their attention.
            num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document.
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail; in any order.
            features ([`SentenceFeatures`]): Of the documents.
        """
        heads = tails = entity_embeddings
        roles = None
        if self.encoder is not None and self.roles is not None:
            entities = self.encoder(entity_embeddings, num_entities, hidden_states, features.sentence_ids)
            roles = self.roles(entities).unflatten(2, (2, -1))
            heads, tails = (torch.cat([entities, torch.sigmoid(role)], 2) for role in roles.unbind(2))
        of_pairs = hidden_states.new_zeros(len(pairs), 0)
        potential = None
        if self.grid is not None:
            inputs = (hidden_states, entity_embeddings, entity_attention, num_entities, pairs)
            of_pairs = self.by_size(*inputs, features=features)
            if self.potential is not None:
                known = torch.cat([of_pairs, self.grid.pair_features(features, pairs)], 1)
                potential = self.potential(known)[:, 0]
                chance = torch.sigmoid(at_least_float32(potential))
                if self.config.potential_feature == "tag":
                    chance = (chance > self.config.potential_threshold).float().detach()
                of_pairs = torch.cat([of_pairs, chance[:, None].to(of_pairs.dtype)], 1)
        return PairAwareStates(heads, tails, of_pairs, potential, roles)

    def from_tables(  # type: ignore[override]
        self,
        size: int,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
        features: SentenceFeatures,
    ) -> Tensor:
        """Return the grid's features of each pair, `(num_pairs, unet_outputs)`; see [`TableHead.from_tables`]."""
        grid = self.grid
        if grid is None:
            raise RuntimeError("There is no grid: use_pair_grid is off.")
        table = EntityTable.of(num_entities, entity_embeddings.shape[1], masked=True)
        with torch.autocast(hidden_states.device.type, enabled=False):
            contexts = self.context(grid.of_tokens(hidden_states), entity_attention, table.cells)
        read = grid(contexts, features, table, num_entities, size)
        document, head, tail = pairs.unbind(1)
        return read[document, features.places[document, head], features.places[document, tail]]

    def potential_rows(self, states: PairAwareStates, threshold: float) -> Tensor | None:
        """Rows of the pairs above a probability, which are classified; `None` means all, as with a threshold of 0."""
        if states.potential is None or threshold <= 0.0:
            return None
        return (torch.sigmoid(at_least_float32(states.potential)) > threshold).nonzero().flatten()

    def factors(self, states: PairAwareStates, pairs: Tensor, rows: Tensor | None = None) -> PairFactors:
        """Join both entities of pairs with the pairs' features (equation 8).

        Args:
            states ([`PairAwareStates`]): From [`PairAwareHead.represent`].
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`): The pairs that were read.
            rows (`torch.Tensor` of shape `(num_rows,)`, *optional*): Some of them; all when left out.

        Returns:
            [`PairFactors`], both `(num_rows, emb_size)`.
        """
        features = states.features if rows is None else states.features[rows]
        document, head, tail = (pairs if rows is None else pairs[rows]).unbind(1)
        return PairFactors(
            project(self.head_projection, states.heads, features, document, head),
            project(self.tail_projection, states.tails, features, document, tail),
        )


def with_unrelated(logits: Tensor, rows: Tensor, number: int) -> Tensor:
    """Put logits in their rows among those of pairs without relation, whose relations no threshold lets in.

    Args:
        logits (`torch.Tensor` of shape `(num_rows, num_classes)`): Of the pairs that may be related.
        rows (`torch.Tensor` of shape `(num_rows,)`): Which these are.
        number (`int`): Of all pairs.

    Returns:
        `torch.Tensor` of shape `(number, num_classes)`.
    """
    table = logits.new_full((number, logits.shape[1]), -1e4)
    table[:, 0] = 0.0
    return table.index_copy(0, rows, logits)


__all__ = ["EntityEncoder", "PairAwareHead", "PairAwareStates", "PairGrid", "with_unrelated"]
