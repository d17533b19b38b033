"""Evaluation of poison detectors. Only the report uses the ground truth, never the scores."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

FALSE_ALARMS, FOUND = 0.01, 0.95
TOP_SHARES = (0.01, 0.1)


def detection_report(scores: np.ndarray, poisoned: np.ndarray) -> dict[str, float | int | None]:
    """Return the usual metrics of a detector.

    Args:
        scores: float [rows]; high values are suspicious.
        poisoned: bool [rows].

    Returns:
        ``rows``; ``prevalence``, the share of poisoned rows; and the following, which are None if
        all rows are poisoned or none is: ``auroc``; ``auprc`` (average precision);
        ``tpr_at_1_percent_fpr``, the highest true positive rate at a false positive rate of at most
        1 %; ``fpr_at_95_percent_tpr``, the lowest false positive rate at a true positive rate of at
        least 95 %; ``recall_at_top_1_percent`` and ``recall_at_top_10_percent``, the share of the
        poisoned rows among the highest scores, with ties in row order.
    """
    rows, found = len(scores), int(poisoned.sum())
    report: dict[str, float | int | None] = {"rows": rows, "prevalence": found / rows}
    names = ("auroc", "auprc", "tpr_at_1_percent_fpr", "fpr_at_95_percent_tpr")
    if not 0 < found < rows:
        return report | dict.fromkeys((*names, *map(_recall, TOP_SHARES)))
    false, true, _ = roc_curve(poisoned, scores, drop_intermediate=False)
    values = (
        roc_auc_score(poisoned, scores),
        average_precision_score(poisoned, scores),
        true[false <= FALSE_ALARMS].max(),
        false[true >= FOUND].min(),
    )
    report |= {name: float(value) for name, value in zip(names, values, strict=True)}
    for share in TOP_SHARES:
        report[_recall(share)] = float(poisoned[highest(scores, share)].sum() / found)
    return report


def highest(scores: np.ndarray, share: float) -> np.ndarray:
    """Return the rows with the highest scores, a share of all rows; ties in row order."""
    order = np.argsort(-scores, kind="stable")
    return order[: round(share * len(scores))]


def _recall(share: float) -> str:
    return f"recall_at_top_{share * 100:g}_percent"
