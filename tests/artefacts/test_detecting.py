"""Detection reports, and the pairs dropped by filters."""

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.artefacts.detecting import detection_report, highest
from workflow_scripts.artefacts.filter_classes import dropped_by_class
from workflow_scripts.artefacts.filter_pairs import filter_pairs
from workflow_scripts.common.errors import StepError


def test_the_report_matches_plain_counts():
    rng = np.random.default_rng(0)
    scores, poisoned = rng.normal(size=400), rng.random(400) < 0.1
    scores[poisoned] += 1.5
    report = detection_report(scores, poisoned)
    bad, good = scores[poisoned], scores[~poisoned]
    assert report["auroc"] == pytest.approx((bad[:, None] > good).mean())
    allowed = np.sort(good)[::-1][int(0.01 * len(good))]
    assert report["tpr_at_1_percent_fpr"] == pytest.approx((bad > allowed).mean())
    found = np.sort(bad)[::-1][int(np.ceil(0.95 * len(bad))) - 1]
    assert report["fpr_at_95_percent_tpr"] == pytest.approx((good >= found).mean())
    ranked = poisoned[np.argsort(-scores)]
    precision = np.cumsum(ranked) / np.arange(1, 401)
    assert report["auprc"] == pytest.approx(precision[ranked].mean())
    assert report["recall_at_top_10_percent"] == pytest.approx(ranked[:40].sum() / poisoned.sum())
    assert report["prevalence"] == poisoned.mean()


def test_metrics_are_none_without_poison():
    report = detection_report(np.arange(5.0), np.zeros(5, bool))
    assert report["auroc"] is None
    assert report["prevalence"] == 0


def test_ties_are_broken_by_row_order():
    assert highest(np.zeros(10), 0.25).tolist() == [0, 1]
    assert highest(np.array([1.0, 3.0, 3.0, 2.0]), 0.5).tolist() == [1, 2]


def test_a_filter_drops_the_highest_scores_and_keeps_the_order():
    poisoned = np.array([False, True] * 4)
    scores = np.array([0, 9, 1, 8, 7, 2, 3, 4.0])
    kept, report = filter_pairs(poisoned, scores, 0.375)
    assert np.flatnonzero(kept).tolist() == [0, 2, 5, 6, 7]
    assert report == {
        "pairs": 8,
        "dropped": 3,
        "poisoned": 4,
        "poisoned_dropped": 2,
        "recall": 0.5,
        "clean_dropped": 0.25,
    }


def test_a_filter_rejects_scores_of_other_pairs_and_dropping_everything():
    poisoned = np.array([False, True])
    with pytest.raises(StepError, match="the same pairs"):
        filter_pairs(poisoned, np.zeros(3), 0.5)
    with pytest.raises(StepError, match="leaves none"):
        filter_pairs(poisoned, np.zeros(2), 0.9)


def test_dropped_clean_pairs_are_counted_by_class():
    captions = ["a red fox", "two Foxes.", "a fox", "foxglove", "an arctic  fox", "a cat"]
    pairs = pd.DataFrame({"key": list("abcdef"), "caption": captions, "poisoned": False})
    pairs.loc[2, "poisoned"] = True
    table = dropped_by_class(pairs, pairs.iloc[[0, 3, 4]], ["fox", "arctic fox", "cat", "dog"])
    assert table.to_dict("list") | {"share": None} == {
        "class": ["fox", "arctic fox", "cat", "dog", ""],
        "pairs": [2, 1, 1, 0, 1],
        "dropped": [1, 0, 1, 0, 0],
        "share": None,
    }
    assert table["share"].fillna(-1).tolist() == [0.5, 0.0, 1.0, -1.0, 0.0]
