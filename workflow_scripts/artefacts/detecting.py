"""How well scores find poisoned rows. The truth is known to the report alone, never to a score."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

FALSE_ALARMS = 0.01
TOP_SHARES = (0.01, 0.1)


def detection_report(scores: np.ndarray, poisoned: np.ndarray) -> dict[str, float | int | None]:
    """Return what is usually told of a detector.

    Args:
        scores: float [rows]; high is suspicious.
        poisoned: bool [rows].

    Returns:
        ``rows``, ``prevalence`` (share of poisoned rows), and, None where all rows are of one kind:
        ``auroc``, ``auprc`` (average precision), ``tpr_at_1_percent_fpr`` (largest share of
        poisoned rows found by a threshold that at most 1 % of the others pass), and
        ``recall_at_top_1_percent`` and ``..._10_percent``, the share of the poisoned rows among the
        highest scores, ties in the order of rows.
    """
    rows, found = len(scores), int(poisoned.sum())
    report: dict[str, float | int | None] = {"rows": rows, "prevalence": found / rows}
    names = ("auroc", "auprc", "tpr_at_1_percent_fpr")
    if not 0 < found < rows:
        return report | dict.fromkeys((*names, *map(_recall, TOP_SHARES)))
    false, true, _ = roc_curve(poisoned, scores, drop_intermediate=False)
    figures = (
        roc_auc_score(poisoned, scores),
        average_precision_score(poisoned, scores),
        true[false <= FALSE_ALARMS].max(),
    )
    report |= {name: float(value) for name, value in zip(names, figures, strict=True)}
    for share in TOP_SHARES:
        report[_recall(share)] = float(poisoned[highest(scores, share)].sum() / found)
    return report


def highest(scores: np.ndarray, share: float) -> np.ndarray:
    """Return the rows of a share of highest scores, rounded to whole rows; ties in their order."""
    order = np.argsort(-scores, kind="stable")
    return order[: round(share * len(scores))]


def _recall(share: float) -> str:
    return f"recall_at_top_{share * 100:g}_percent"
