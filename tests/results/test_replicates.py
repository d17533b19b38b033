"""Statistics over start models, against plain formulas."""

import numpy as np
import pandas as pd
import pytest

from tests.results.test_index import replicates
from workflow_scripts.common.holm import holm
from workflow_scripts.common.intervals import student
from workflow_scripts.results.index.comparisons import comparison_text, comparisons
from workflow_scripts.results.index.leaderboard import leaderboard
from workflow_scripts.results.replicates import over_starts, paired_p


def test_with_one_seed_per_start_the_interval_approaches_students():
    values = np.random.default_rng(0).normal(0.3, 0.1, 40)
    found = over_starts(values, [f"s{n}" for n in range(40)])
    assert np.allclose(found, student(values), atol=0.004)


def test_the_interval_of_two_start_models_is_at_least_students():
    found, least = over_starts([0.1, 0.2], ["a", "b"]), student([0.1, 0.2])
    assert found[1] <= least[1] and found[2] >= least[2]


def test_seeds_do_not_count_as_start_models():
    values, starts = [0.1, 0.1, 0.1, 0.3, 0.3, 0.3], list("aaabbb")
    assert np.allclose(over_starts(values, starts), over_starts([0.1, 0.3], list("ab")))
    spread = over_starts([0.0, 0.1, 0.2, 0.2, 0.3, 0.4], starts)
    assert spread[2] - spread[1] > over_starts(values, starts)[2] - over_starts(values, starts)[1]


def test_one_start_model_has_no_limits():
    mean, low, high = over_starts([0.1, 0.3], ["a", "a"])
    assert mean == pytest.approx(0.2) and np.isnan([low, high]).all()
    assert np.isnan(over_starts([], [])).all()


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    assert np.allclose(holm([0.03, 0.01, np.nan, 0.02]), [0.04, 0.03, np.nan, 0.04], equal_nan=True)


def test_equal_paired_differences_allow_no_test():
    assert np.isnan(paired_p([0.1, 0.1]))
    assert paired_p([0.10, 0.11, 0.12]) < 0.02
    assert paired_p([0.1, -0.1, 0.02]) > 0.3


def test_attacks_on_the_same_seed_are_not_replicates():
    models, before = replicates([0.01, 0.02, 0.03], [0.70, 0.60, 0.50])
    models = models.assign(attack=["patch", "blend", "warp"], start_seed=7)
    other = models.assign(defence="E", run=models["run"] + "e", top1=models["top1"] - 0.1)
    rows = leaderboard(pd.concat([other, models], ignore_index=True), before)
    _, less = comparisons(rows, "oracle")
    assert (
        less.difference[0] == pytest.approx(-0.1) and np.isnan([less.p, less.difference[1]]).all()
    )
    assert "undecided: one start model" in comparison_text(less)


@pytest.mark.parametrize(("starts", "told"), [(3, "3 start models"), (1, "one start model")])
def test_defences_are_compared_on_the_same_starts(starts, told):
    models, before = replicates([0.01, 0.02, 0.03][:starts], [0.70, 0.60, 0.50][:starts])
    other = models.assign(defence="E", run=models["run"] + "e", top1=models["top1"] - 0.1)
    rows = leaderboard(pd.concat([other, models], ignore_index=True), before)
    best, less = comparisons(rows, "oracle")
    assert best is None and less.difference[0] == pytest.approx(-0.1)
    assert comparison_text(less).startswith("-10.0 points") and told in comparison_text(less)
