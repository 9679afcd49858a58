from __future__ import annotations

import random

import pytest

from modeling_docre.document_batches import DocumentBatchSampler


def epochs_of(count, size, world, epochs=4, **settings):
    """For each epoch, for each process, its batches."""
    samplers = [
        DocumentBatchSampler(count, size, seed=3, epochs=epochs, rank=rank, world_size=world, **settings)
        for rank in range(world)
    ]
    found = []
    for epoch in range(epochs):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        found.append([list(sampler) for sampler in samplers])
        assert [len(batches) for batches in found[-1]] == [len(sampler) for sampler in samplers]
    return found


@pytest.mark.parametrize("count", [1, 2, 7, 16, 23])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("limit", [None, 9])
def test_every_document_is_seen_once_per_epoch(count, world, limit):
    pairs = random.Random(count).choices(range(13), k=count)
    orders = set()
    for processes in epochs_of(count, 4, world, pairs=pairs, max_pairs=limit):
        assert len({len(batches) for batches in processes}) == 1
        batches = [batch for process in processes for batch in process]
        seen = sorted(position for batch in batches for position in batch if position >= 0)
        assert seen == list(range(count))
        for batch in batches:
            assert 1 <= len(batch) <= 4
            # A filler is a batch of its own, so that its loss can be left out.
            assert all(position >= 0 for position in batch) or (len(batch) == 1 and -1 - batch[0] in range(count))
            if limit is not None and len(batch) > 1:
                assert sum(pairs[position] for position in batch) <= limit
        orders.add(str(processes))
    assert len(orders) > 1 or count < 3


def test_steps_of_several_processes_are_those_of_one():
    (alone,) = (batches[0] for batches in epochs_of(10, 4, 1, epochs=1))
    ((first, second),) = epochs_of(10, 2, 2, epochs=1)
    assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == [sorted(batch) for batch in alone]


@pytest.mark.parametrize("count", [14, 18, 22])
@pytest.mark.parametrize("world", [2, 3, 4, 6])
def test_documents_come_in_the_order_of_one_process(count, world):
    for (one,), processes in zip(epochs_of(count, 12, 1), epochs_of(count, 12 // world, world), strict=True):
        dealt = [[position for batch in step for position in batch] for step in zip(*processes, strict=True)]
        assert [[position for position in step if position >= 0] for step in dealt] == one


def test_an_epoch_whose_batches_are_all_incomplete_has_fillers():
    for processes in epochs_of(6, 2, 4, pairs=[1, 2, 3, 4, 5, 6], max_pairs=7, drop_last=True, epochs=12):
        assert len({len(batches) for batches in processes}) == 1


def test_the_same_seed_gives_the_same_order_and_another_epoch_another():
    assert epochs_of(20, 4, 1) == epochs_of(20, 4, 1)
    first, second, *_ = epochs_of(20, 4, 1)
    assert first != second


def test_documents_of_similar_length_share_a_batch():
    lengths = random.Random(0).sample(range(1, 1000), 64)
    (plain,), (grouped,) = (epochs_of(64, 4, 1, epochs=1, lengths=given)[0] for given in (None, lengths))
    spread = [
        sum(max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches)
        for batches in (plain, grouped)
    ]
    assert spread[1] < spread[0] / 4
    longest = [max(lengths[i] for i in batch) for batch in grouped]
    assert longest != sorted(longest, reverse=True)


def test_evaluation_takes_long_documents_first_and_no_fillers():
    lengths = [5, 9, 1, 7, 3]
    ((first, second),) = epochs_of(5, 2, 2, epochs=1, lengths=lengths, shuffle=False, even=False)
    assert first == [[1, 3], [2]] and second == [[0, 4]]


def test_the_last_step_can_be_left_out():
    (batches,) = epochs_of(10, 4, 1, epochs=1, drop_last=True)[0]
    assert [len(batch) for batch in batches] == [4, 4]
    ((first, second),) = epochs_of(18, 4, 2, epochs=1, drop_last=True)
    assert [len(batch) for batch in first + second] == [4, 4, 4, 4]


def test_a_limit_on_pairs_needs_their_number():
    with pytest.raises(ValueError, match="needs `pairs`"):
        DocumentBatchSampler(3, 2, max_pairs=4)
