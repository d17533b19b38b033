"""Batches depend on the seed, epoch and step, not on processes or interruptions."""

import numpy as np
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.sampler import BatchSampler


def batches(rank=0, size=1, epoch=0, step=0, seed=3):
    sampler = BatchSampler(50, 12, seed, rank, size)
    sampler.start(epoch, step)
    assert len(list(sampler)) == len(sampler)
    return [[row for _, row in batch] for batch in sampler]


def test_an_epoch_has_each_row_at_most_once_and_only_complete_batches():
    rows = np.concatenate(batches())
    assert len(rows) == 48 == len(set(rows))
    assert set(rows) <= set(range(50))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_each_global_batch_in_order(size):
    shares = zip(*(batches(rank, size) for rank in range(size)), strict=True)
    assert [[row for part in share for row in part] for share in shares] == batches()


def test_epochs_and_seeds_differ_and_repeat():
    assert batches(epoch=1) != batches(epoch=0) != batches(seed=4)
    assert batches(epoch=1) == batches(epoch=1)


def test_resuming_within_an_epoch_continues_exactly():
    assert batches(epoch=2, step=3) == batches(epoch=2)[3:]


def test_global_rows_match_the_batch():
    sampler = BatchSampler(50, 12, 3)
    assert sampler.global_rows(1).tolist() == batches()[1]


def test_impossible_batch_sizes_are_errors():
    with pytest.raises(StepError, match="batch of 51 is larger than the training data of 50"):
        BatchSampler(50, 51, 0)
    with pytest.raises(StepError, match="12 cannot be divided evenly among 5"):
        BatchSampler(50, 12, 0, 0, 5)
