"""From token ids to hidden states, entity states and pair contexts.

The only place that knows windows: a document longer than the encoder's limit runs as overlapping windows in one call
and is stitched together again, hidden states and attention rows alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from .attention import AttentionRows, at_least_float32

# Above this many numbers the (pairs x tokens) attention product is built in slices and recomputed in backward.
_CONTEXT_BUDGET = 1 << 24


@dataclass(frozen=True)
class WindowPlan:
    """How documents are cut into windows; made by [`plan_windows`].

    Attributes:
        document (`torch.Tensor` of shape `(windows,)`): Document of each window.
        source (`torch.Tensor` of shape `(windows, window_tokens)`): Token of the document that fills each slot.
        mask (`torch.Tensor` of shape `(windows, window_tokens)`): True for slots that are not padding.
        owned (`torch.Tensor` of shape `(windows, window_tokens)`):
            True where the slot stands for the token that fills it; false for padding and for copies of the special
            tokens that surround a window.
    """

    document: Tensor
    source: Tensor
    mask: Tensor
    owned: Tensor


def plan_windows(
    lengths: Tensor, size: int, *, overlap: int = 128, start_tokens: int = 1, end_tokens: int = 1, mode: str = "cover"
) -> WindowPlan:
    """Cut documents into windows of at most `size` tokens.

    The first window starts with the document, the last ends with it, those between are spaced evenly. A window that
    does not start with the document gets copies of the document's first token before it, one that does not end with
    it copies of the last token after it.

    Args:
        lengths (`torch.Tensor` of shape `(batch,)`): Tokens per document, special tokens counted.
        size (`int`): Tokens per window at most.
        overlap (`int`, *optional*, defaults to `128`):
            Tokens that neighbouring windows share at least; limited to half of a window.
        start_tokens (`int`, *optional*, defaults to `1`): Copies before a window.
        end_tokens (`int`, *optional*, defaults to `1`): Copies after a window.
        mode (`str`, *optional*, defaults to `"cover"`):
            `"cover"` leaves no token out; `"reference"` uses two windows at most and leaves the middle of longer
            documents unread, as the published code of ATLOP and its successors does.

    Returns:
        [`WindowPlan`].
    """
    room = size - start_tokens - end_tokens
    step = room - min(overlap, room // 2)
    excess = (lengths - size).clamp(min=0)
    count = torch.where(excess > 0, 1 + (excess + step - 1) // step, 1)
    if mode == "reference":
        count = count.clamp(max=2)
    document = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), count)
    first_of_document = count.cumsum(0) - count
    number = torch.arange(len(document), device=lengths.device) - first_of_document[document]
    last = count[document] - 1
    start = number * excess[document] // last.clamp(min=1)
    length = lengths[document]
    tokens = int(length.clamp(max=size).max()) if len(length) else 0
    slot = torch.arange(tokens, device=lengths.device)[None, :]
    filled = length.clamp(max=size)[:, None]
    copies_start = (number > 0)[:, None] & (slot < start_tokens)
    copies_end = (number < last)[:, None] & (slot >= filled - end_tokens)
    mask = slot < filled
    source = (start[:, None] + slot).minimum(length[:, None] - 1)
    source = torch.where(copies_start, 0, torch.where(copies_end, length[:, None] - 1, source))
    return WindowPlan(document, source, mask, mask & ~copies_start & ~copies_end)


@dataclass(frozen=True)
class Encoded:
    """A batch of encoded documents.

    Attributes:
        hidden_states (`torch.Tensor` of shape `(batch, tokens, hidden)`): Last hidden states; 0 where no window reads.
        mention_rows (`torch.Tensor` of shape `(num_mentions, attention_heads, tokens)`):
            Last-layer attention of each mention's opening marker; 0 for mentions out of reach.
        mention_reached (`torch.Tensor` of shape `(num_mentions,)`): False for mentions beyond the document's tokens.
    """

    hidden_states: Tensor
    mention_rows: Tensor
    mention_reached: Tensor


def encode(
    encoder: PreTrainedModel,
    rows: AttentionRows,
    input_ids: Tensor,
    attention_mask: Tensor,
    mentions: Tensor,
    *,
    window_size: int,
    window_overlap: int = 128,
    window_mode: str = "cover",
    start_tokens: int = 1,
    end_tokens: int = 1,
) -> Encoded:
    """Encode documents of any length, in one call of the encoder (PAEE, equation 1).

    Args:
        encoder (`PreTrainedModel`): The encoder.
        rows ([`AttentionRows`]): What reads the attention rows of that encoder.
        input_ids (`torch.Tensor` of shape `(batch, tokens)`): Token ids, padded on the right.
        attention_mask (`torch.Tensor` of shape `(batch, tokens)`): 1 for tokens, 0 for padding.
        mentions (`torch.Tensor` of shape `(num_mentions, 3)`): Document, entity, token of the opening marker.
        window_size (`int`): Tokens per window at most.
        window_overlap (`int`, *optional*, defaults to `128`): See [`plan_windows`].
        window_mode (`str`, *optional*, defaults to `"cover"`): See [`plan_windows`].
        start_tokens (`int`, *optional*, defaults to `1`): See [`plan_windows`].
        end_tokens (`int`, *optional*, defaults to `1`): See [`plan_windows`].

    Returns:
        [`Encoded`].
    """
    batch, tokens = input_ids.shape
    lengths = attention_mask.sum(1).long()
    document, token = mentions[:, 0], mentions[:, 2]
    reached = (token >= 0) & (token < lengths[document])
    if tokens <= window_size:
        slots = torch.arange(tokens, device=input_ids.device).expand(batch, -1)
        mask = attention_mask.bool()
        plan = WindowPlan(torch.arange(batch, device=input_ids.device), slots, mask, mask)
        window_ids, window_mask = input_ids, attention_mask
    else:
        plan = plan_windows(
            lengths,
            window_size,
            overlap=window_overlap,
            start_tokens=start_tokens,
            end_tokens=end_tokens,
            mode=window_mode,
        )
        window_ids = input_ids[plan.document[:, None], plan.source]
        window_mask = plan.mask.to(attention_mask.dtype)

    window_of, mention_of, slot_of = _mentions_in_windows(plan, document, token)
    positions, rank = _rows_per_window(window_of, slot_of, len(plan.document))
    hidden, window_rows = rows(encoder, window_ids, window_mask, positions)
    found = window_rows[window_of, :, rank]  # (incidences, attention_heads, window_tokens)
    if tokens <= window_size:
        mention_rows = found.new_zeros(len(mentions), found.shape[1], tokens).index_copy(0, mention_of, found)
        return Encoded(hidden, mention_rows, reached)

    hidden_states = _stitch_hidden(hidden, plan, batch, tokens)
    owned = found * plan.owned[window_of, None, :]
    target = (mention_of[:, None, None] * tokens + plan.source[window_of, None, :]).expand_as(owned)
    heads = torch.arange(found.shape[1], device=found.device)[None, :, None] * (len(mentions) * tokens)
    flat = found.new_zeros(found.shape[1] * len(mentions) * tokens)
    flat = flat.index_add(0, (target + heads).reshape(-1), owned.reshape(-1))
    mention_rows = flat.view(found.shape[1], len(mentions), tokens).transpose(0, 1)
    mention_rows = mention_rows / (mention_rows.sum(-1, keepdim=True) + 1e-10)
    return Encoded(hidden_states, mention_rows, reached)


def _mentions_in_windows(plan: WindowPlan, document: Tensor, token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which window holds which mention, and in which slot: three flat index tensors, ordered by window."""
    own = plan.owned.int()
    begin_slot = own.argmax(1)
    begin = plan.source.gather(1, begin_slot[:, None]).squeeze(1) if plan.source.shape[1] else begin_slot
    end = begin + own.sum(1)
    inside = (plan.document[:, None] == document) & (token >= begin[:, None]) & (token < end[:, None])
    window_of, mention_of = inside.nonzero(as_tuple=True)
    slot_of = token[mention_of] - begin[window_of] + begin_slot[window_of]
    return window_of, mention_of, slot_of


def _rows_per_window(window_of: Tensor, slot_of: Tensor, windows: int) -> tuple[Tensor, Tensor]:
    """Pad the wanted slots to a table `(windows, rows)`; `rank` is the column of each of them."""
    count = torch.bincount(window_of, minlength=windows)
    first = count.cumsum(0) - count
    rank = torch.arange(len(window_of), device=window_of.device) - first[window_of]
    most = int(count.max()) if len(window_of) else 0
    positions = slot_of.new_zeros(windows, max(most, 1))
    positions[window_of, rank] = slot_of
    return positions, rank


def _stitch_hidden(hidden: Tensor, plan: WindowPlan, batch: int, tokens: int) -> Tensor:
    target = (plan.document[:, None] * tokens + plan.source)[plan.owned]
    total = hidden.new_zeros(batch * tokens, hidden.shape[-1]).index_add(0, target, hidden[plan.owned])
    covering = hidden.new_zeros(batch * tokens).index_add(0, target, hidden.new_ones(len(target)))
    return (total / covering.clamp(min=1)[:, None]).view(batch, tokens, -1)


def pool_entities(encoded: Encoded, mentions: Tensor, num_entities: int) -> tuple[Tensor, Tensor]:
    """Entity embeddings and entity attention from the opening markers of their mentions.

    The embedding is the elementwise logsumexp over mention vectors (ATLOP; PAEE, equation 2), the attention
    the mean over mentions. An entity without a mention in reach has a zero embedding and zero attention.

    Args:
        encoded ([`Encoded`]): The encoded documents.
        mentions (`torch.Tensor` of shape `(num_mentions, 3)`): Document, entity, token of the opening marker.
        num_entities (`int`): Entities per document in the padded output.

    Returns:
        Embeddings `(batch, entities, hidden)` and attention `(batch, entities, attention_heads, tokens)`, both float32
        (float64 for a float64 encoder).
    """
    batch, tokens, width = encoded.hidden_states.shape
    document, entity, token = mentions[encoded.mention_reached].unbind(1)
    slot = document * num_entities + entity
    vectors = at_least_float32(encoded.hidden_states[document, token])
    cells = batch * num_entities
    index = slot[:, None].expand(-1, width)
    top = vectors.detach().new_full((cells, width), float("-inf"))
    top = top.scatter_reduce(0, index, vectors.detach(), "amax")
    top = torch.where(top.isinf(), 0.0, top)
    count = vectors.new_zeros(cells).index_add(0, slot, vectors.new_ones(len(slot)))
    total = vectors.new_zeros(cells, width).index_add(0, slot, (vectors - top[slot]).exp())
    seen = (count > 0)[:, None]
    embeddings = torch.where(seen, torch.where(seen, total, 1.0).log() + top, 0.0)
    rows = at_least_float32(encoded.mention_rows[encoded.mention_reached])
    attention = rows.new_zeros(cells, *rows.shape[1:]).index_add(0, slot, rows)
    attention = attention / count.clamp(min=1)[:, None, None]
    return embeddings.view(batch, num_entities, width), attention.view(batch, num_entities, rows.shape[1], tokens)


def run_again(function: Callable[..., Any], *inputs: Any) -> Any:
    """Run a function without chance in it; where gradients are on, once more in backward instead of keeping what it
    computes on the way.

    Args:
        function (`Callable`): What to run.
        inputs: Its arguments.

    Returns:
        What the function returns.
    """
    if torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return function(*inputs)


def localized_context(
    hidden_states: Tensor, entity_attention: Tensor, cells: Tensor, *, reduce: str = "mean", eps: float = 1e-5
) -> Tensor:
    """Context vector of each cell: hidden states weighted by where head and tail both look (ATLOP, section 3.2).

    How attention heads are reduced: their products are averaged (`"mean"`, ATLOP) or added (`"sum"`, KD-DocRE), or the
    heads themselves are averaged before the product (`"first"`, ERA, section 3.3).

    Args:
        hidden_states (`torch.Tensor` of shape `(batch, tokens, hidden)`): Last hidden states.
        entity_attention (`torch.Tensor` of shape `(batch, entities, attention_heads, tokens)`):
            From [`pool_entities`].
        cells (`torch.Tensor` of shape `(num_cells, 3)`): Document, head, tail; diagonal cells are as good as others.
        reduce (`str`, *optional*, defaults to `"mean"`): `"mean"`, `"sum"` or `"first"`.
        eps (`float`, *optional*, defaults to `1e-5`): Added to the sum that normalises the weights.

    Returns:
        `torch.Tensor` of shape `(num_cells, hidden)`.
    """
    entity_attention, scale = _reduce_heads(entity_attention, reduce)
    batch, entities, attention_heads, tokens = entity_attention.shape
    document, head, tail = cells.unbind(1)
    of_heads = of_tails = entity_attention
    if 4 * len(cells) < batch * entities * entities:
        # Few candidates: the table below needs the entities among them only.
        of_heads, head = _entities_among(entity_attention, document, head)
        of_tails, tail = _entities_among(entity_attention, document, tail)
    rows, columns = of_heads.shape[1], of_tails.shape[1]
    heads_by_token = of_heads.permute(0, 3, 1, 2).reshape(batch * tokens, rows, attention_heads)
    tails_by_token = of_tails.permute(0, 3, 2, 1).reshape(batch * tokens, attention_heads, columns)

    def rows_of_table(first: int, last: int, *tensors: Tensor) -> Tensor:
        heads_by_token, tails_by_token, hidden_states = tensors
        with torch.autocast(hidden_states.device.type, enabled=False):
            product = heads_by_token[:, first:last] @ tails_by_token * scale
            weights = product.view(batch, tokens, (last - first) * columns).transpose(1, 2)
            context = weights @ at_least_float32(hidden_states) / (weights.sum(-1, keepdim=True) + eps)
        return context.view(batch, last - first, columns, hidden_states.shape[-1])

    step = max(1, _CONTEXT_BUDGET // max(1, batch * columns * tokens))
    tensors = (heads_by_token, tails_by_token, hidden_states)
    if step >= rows:
        table = rows_of_table(0, rows, *tensors)
    else:
        parts = []
        for first in range(0, rows, step):
            limits = (first, min(first + step, rows))
            parts.append(run_again(rows_of_table, *limits, *tensors))
        table = torch.cat(parts, 1)
    return table[document, head, tail]


def masked_context(
    hidden_states: Tensor,
    entity_attention: Tensor,
    cells: Tensor,
    keep: Tensor,
    *,
    reduce: str = "mean",
    eps: float = 1e-5,
) -> Tensor:
    """Context vectors of each cell with some of the tokens left out (ERA, equations 5 and 6).

    As [`localized_context`], whose weights it takes: those of the tokens that a copy keeps, divided by the sum of all.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch, tokens, hidden)`): Last hidden states.
        entity_attention (`torch.Tensor` of shape `(batch, entities, attention_heads, tokens)`):
            From [`pool_entities`].
        cells (`torch.Tensor` of shape `(num_cells, 3)`): Document, head, tail.
        keep (`torch.Tensor` of shape `(num_cells, copies, tokens)`): True for the tokens that a copy keeps.
        reduce (`str`, *optional*, defaults to `"mean"`): As for [`localized_context`].
        eps (`float`, *optional*, defaults to `1e-5`): As for [`localized_context`].

    Returns:
        `torch.Tensor` of shape `(num_cells, copies, hidden)`.
    """
    entity_attention, scale = _reduce_heads(entity_attention, reduce)
    batch, _, attention_heads, tokens = entity_attention.shape
    copies = keep.shape[1]
    if not len(cells):
        return at_least_float32(hidden_states.new_zeros(0, copies, hidden_states.shape[-1]))
    # A line for each document, as long as the most cells of one.
    document, order = cells[:, 0].sort(stable=True)
    lines, rank = _rows_per_window(document, order, batch)

    def part(first: int, last: int, *tensors: Tensor) -> Tensor:
        hidden_states, attention = tensors
        index = lines[:, first:last]
        head, tail = cells[index, 1], cells[index, 2]
        line = torch.arange(batch, device=index.device)[:, None]
        with torch.autocast(hidden_states.device.type, enabled=False):
            weights = (attention[line, head] * attention[line, tail]).sum(2) * scale
            kept = (weights[:, :, None] * keep[index]).flatten(1, 2)
            context = (kept @ at_least_float32(hidden_states)).unflatten(1, (-1, copies))
            return context / (weights.sum(-1)[..., None, None] + eps)

    step = max(1, _CONTEXT_BUDGET // max(1, batch * tokens * max(attention_heads, copies)))
    tensors = (hidden_states, entity_attention)
    if step >= lines.shape[1]:
        table = part(0, lines.shape[1], *tensors)
    else:
        limits = [(first, min(first + step, lines.shape[1])) for first in range(0, lines.shape[1], step)]
        table = torch.cat([run_again(part, *some, *tensors) for some in limits], 1)
    place = torch.empty_like(order)
    place[order] = rank
    return table[cells[:, 0], place]


def _reduce_heads(entity_attention: Tensor, reduce: str) -> tuple[Tensor, float]:
    """The attention whose products are added over its heads, and what the sum is multiplied with."""
    if reduce == "first":
        return entity_attention.mean(2, keepdim=True), 1.0
    return entity_attention, 1.0 / entity_attention.shape[2] if reduce == "mean" else 1.0


def _entities_among(entity_attention: Tensor, document: Tensor, entity: Tensor) -> tuple[Tensor, Tensor]:
    """The attention of the entities that are chosen in any document, closed up, and where each of them went."""
    batch, entities = entity_attention.shape[:2]
    chosen = torch.zeros(batch, entities, dtype=torch.bool, device=entity.device)
    chosen[document, entity] = True
    most = int(chosen.sum(1).max()) if batch else 0
    first = chosen.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    place = chosen.cumsum(1) - 1
    rows = torch.arange(batch, device=entity.device)[:, None]
    return entity_attention[rows, first], place[document, entity]


def all_pairs(num_entities: Tensor) -> Tensor:
    """All ordered pairs of different entities, document after document, row-major.

    Args:
        num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document.

    Returns:
        `torch.Tensor` of shape `(num_pairs, 3)`: document in batch, head entity, tail entity.
    """
    most = int(num_entities.max()) if len(num_entities) else 0
    index = torch.arange(most, device=num_entities.device)
    real = index[None, :] < num_entities[:, None]
    table = real[:, :, None] & real[:, None, :] & (index[:, None] != index[None, :])
    return table.nonzero()


def check_entities(name: str, rows: Tensor, num_entities: Tensor) -> None:
    """Refuse `(document, entity, ...)` rows that name an entity which is not there: it would be another document's."""
    document, entities = rows[:, :1], rows[:, 1:]
    wrong = (rows < 0).any(1) | (document[:, 0] >= len(num_entities))
    wrong |= (entities >= num_entities[document.clamp(0, max(0, len(num_entities) - 1))]).any(1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"{name}[{row}] is {rows[row].tolist()}, but the batch has {len(num_entities)} documents with "
            f"{num_entities.tolist()} entities. Rows are (document in batch, entity in document, ...), counted from 0."
        )


def count_entities(mentions: Tensor, batch: int) -> Tensor:
    """Count each document's entities `(batch,)` by the highest in `mentions`, where nobody says how many there are."""
    counts = torch.zeros(batch, dtype=torch.long, device=mentions.device)
    return counts.scatter_reduce(0, mentions[:, 0], mentions[:, 1] + 1, "amax")


__all__ = [
    "Encoded",
    "WindowPlan",
    "all_pairs",
    "check_entities",
    "count_entities",
    "encode",
    "localized_context",
    "masked_context",
    "plan_windows",
    "pool_entities",
    "run_again",
]
