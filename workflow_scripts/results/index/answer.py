"""The page's answer and its limitations, in sentences."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from workflow_scripts.results.formatting import interval_text, percent_text
from workflow_scripts.results.index.board import (
    RULES,
    Row,
    hours_text,
    named,
    passes_text,
    picked_text,
)
from workflow_scripts.results.index.comparisons import comparison_text
from workflow_scripts.results.index.leaderboard import ASR_LIMIT, Outcome


def answer(rows: Sequence[Row]) -> list[str]:
    """Return the answer at this scale: in a sentence, for each start model, and the verdicts.

    Args:
        rows: Rows of the leaderboard at one budget, after :func:`board.board_rows`.
    """
    if not rows:
        return ["In these experiments, no start model that learned an attack was cleaned."]
    labels = [label for label, _ in Counter(row["start_label"] for row in rows).most_common(2)]
    groups = [
        sorted((row for row in rows if row["start_label"] == label), key=_by_oracle)
        for label in labels
    ]
    meet = {rule: sum(row[rule].meets for row in rows) for rule in RULES}
    counts = {rule: Counter(row[rule].verdict for row in rows) for rule in RULES}
    free, oracle = (_verdicts(counts[rule]) for rule in ("free", "oracle"))
    return [
        _lead(groups),
        *map(_group_text, groups),
        f"Of {len(rows)} combinations of defence and start model, {free} with oracle-free "
        f"selection; with oracle selection, {oracle if oracle != free else 'the same'}. The point "
        "estimates are within both limits (ASR 5 %, accuracy loss 2 points) for "
        f"{meet['free']} and {meet['oracle']} of them, respectively.",
    ]


def _by_oracle(row: Row) -> tuple[bool, float]:
    """Sort key: the highest accuracy with an ASR below the limit, then the lowest ASR."""
    found: Outcome = row["oracle"]
    fails = found.asr[0] >= ASR_LIMIT
    return fails, found.asr[0] if fails else -found.accuracy[0]


def _lead(groups: Sequence[Sequence[Row]]) -> str:
    oracle, change, free = [], [], []
    for group in groups:
        found = group[0]["oracle"]
        oracle.append(
            f"of {group[0]['start_label']} from {percent_text(found.before[1])} to "
            f"{interval_text(*found.asr)}"
        )
        change.append(f"{0 - 100 * found.loss[0]:+.1f}")
        same = group[0]["free"]
        asr = percent_text(same.asr[0]) if same.chosen else "unknown (no model qualifies)"
        free.append(f"of {group[0]['start_label']} is {asr}")
    return (
        "At this scale, the best fine-tuning changes the attack success rate (ASR) "
        f"{' and '.join(oracle)}, and the accuracy by {' and '.join(change)} points, if models are "
        "selected by their ASR (oracle selection). If the models of the same fine-tuning are "
        "selected without it, as a defender must (oracle-free selection), the ASR "
        f"{' and that '.join(free)}."
    )


def _group_text(group: Sequence[Row]) -> str:
    best = group[0]
    found = best["oracle"]
    accuracy, asr = found.before
    below = found.asr[0] < ASR_LIMIT
    rule = "highest accuracy with an ASR below 5 %" if below else "lowest ASR; none is below 5 %"
    text = (
        f"Start model {best['start_label']}, accuracy {percent_text(accuracy)} and ASR "
        f"{percent_text(asr)}: the best defence by oracle selection ({rule}) is "
        f"{named(best)}, with accuracy {interval_text(*found.accuracy)}, ASR "
        f"{interval_text(*found.asr)} and recovery {percent_text(found.recovery)} "
        f"({picked_text(found)}). Its sweep took {hours_text(best['hours'])} of device time and "
        f"{passes_text(best['passes'])} tower passes."
    )
    if len(group) > 1:
        second = group[1]
        other = second["oracle"]
        text += (
            f" Second is {named(second)}, with accuracy {interval_text(*other.accuracy)} and ASR "
            f"{interval_text(*other.asr)}"
        )
        # The leaderboard compares with its first row for the same start model and budget.
        if best["oracle_compared"] is None:
            text += f"; difference in accuracy: {comparison_text(second['oracle_compared'])}"
        most = max(group, key=lambda row: np.nan_to_num(row["oracle"].recovery))
        text += (
            f". The highest recovery is {percent_text(most['oracle'].recovery)} ({named(most)})."
        )
    return text


def _verdicts(counts: Counter[str]) -> str:
    words = (("holds", "hold"), ("fails", "fail"), ("undecided", "are undecided"))
    return ", ".join(f"{counts[key]} {word}" for key, word in words if counts[key])


def uncertain(rows: Sequence[Row], images: int) -> list[str]:
    """Return the limitations of the answer, one text each."""
    if not rows:
        return []
    most = max(row["oracle"].starts for row in rows)
    edges = sum(row["oracle"].at_edge for row in rows)
    attacks = max(len(row["attacks"]) for row in rows)
    unlearned = sorted({attack for row in rows for attack in row["unlearned"]})
    texts = [
        "There is one start model of each kind, so intervals cover the evaluation images only. "
        "The results do not generalize to other start models: every verdict is undecided, and "
        "differences of a few points may be noise."
        if most < 2
        else f"Up to {most} start models of each kind; intervals are over start models and seeds.",
        f"{attacks} attack{'s' if attacks > 1 else ''} at this budget. A defence that withstands "
        "one attack may fail against another, or against an adaptive one.",
        f"Shares are over {images:,} evaluation images. Selecting the best of many models makes "
        "its numbers optimistic.",
    ]
    if edges:
        texts.append(
            f"In {edges} of {len(rows)} rows, the selected learning rate is the lowest or highest "
            "of the sweep (†); a better model may exist outside it."
        )
    if unlearned:
        texts.append(f"Excluded, because a start model did not learn them: {', '.join(unlearned)}.")
    return texts
