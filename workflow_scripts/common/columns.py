"""Columns of the table of metrics that each experiment has, whatever varies in it."""

from collections.abc import Iterable

RUN_COLUMNS = ("run", "kind", "start", "start_label", "defence", "learning_rate")
METRIC_COLUMNS = (
    "epoch", "step", "samples_seen", "train_loss",
    "top1", "top3", "top5", "top10",
    "asr_top1", "asr_top3", "asr_top5", "asr_top10", "triggered_top1",
)  # fmt: skip
# Losses on clean pairs that no run was trained on; older metrics and published points lack them.
HELDOUT_COLUMNS = ("heldout_mmcl", "heldout_ssl")
TIMING_COLUMNS = ("seconds", "samples_per_second")
COUNT_COLUMNS = ("images", "asr_images")
LONG_COLUMNS = ("run", "epoch", "measure", "name", "value", "of")
"""Of a table with a row for each number of each epoch of each run."""
FILE_COLUMN = "model_file"
"""Weights of the epoch's model below the results, empty if they are not there."""
MEAN_COLUMN = "asr_top1_mean"
PART_COLUMN = "asr_top1_part"
"""Of attacks of several parts: the mean of the parts' ASRs, and with a number each part's own.
Their ``asr_top1`` is the highest, their ``triggered_top1`` the lowest of the parts."""
NUMBERS = ("learning_rate", *METRIC_COLUMNS, *HELDOUT_COLUMNS, *TIMING_COLUMNS, *COUNT_COLUMNS)
"""Columns of numbers, whatever varies."""


def of_parts(columns: Iterable[str]) -> list[str]:
    """Return the columns that attacks of several parts have besides the others."""
    return [c for c in columns if c == MEAN_COLUMN or c.startswith(PART_COLUMN)]
