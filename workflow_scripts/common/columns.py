"""Columns that the metrics tables of all experiments have in common."""

from collections.abc import Iterable

RUN_COLUMNS = ("run", "kind", "start", "start_label", "defence", "learning_rate")
SCORE_COLUMNS = (
    "top1", "top3", "top5", "top10",
    "asr_top1", "asr_top3", "asr_top5", "asr_top10", "triggered_top1",
)  # fmt: skip
METRIC_COLUMNS = ("epoch", "step", "samples_seen", "train_loss", *SCORE_COLUMNS)
# Losses on held-out pairs; missing in older metrics and in published results.
HELDOUT_COLUMNS = ("heldout_mmcl", "heldout_ssl")
TIMING_COLUMNS = ("seconds", "samples_per_second")
COUNT_COLUMNS = ("images", "asr_images")
SWEEP_COLUMN = "sweep"
"""Only in tables of runs: the settings of the defence's own sweep besides the learning rate, as a
JSON object; missing or empty if there are none."""
KNOWLEDGE_COLUMN = "knowledge"
"""Only in tables of runs: what the defence knows besides the clean pairs (``KNOWS`` of its parts);
missing or empty if it knows nothing else."""
LONG_COLUMNS = ("run", "epoch", "measure", "name", "value", "of")
"""Columns of the long format, with one row per run, epoch and number."""
FILE_COLUMN = "model_file"
"""Path of the epoch's weights, relative to the results; empty if they do not exist."""
MEAN_COLUMN = "asr_top1_mean"
PART_COLUMN = "asr_top1_part"
"""Only for attacks with several parts: the mean of the parts' ASRs, and the ASR of each part (with
its number appended). ``asr_top1`` is the highest and ``triggered_top1`` the lowest of the parts."""
NUMBERS = ("learning_rate", *METRIC_COLUMNS, *HELDOUT_COLUMNS, *TIMING_COLUMNS, *COUNT_COLUMNS)
"""All numeric columns that do not depend on the experiment."""


def of_parts(columns: Iterable[str]) -> list[str]:
    """Return the columns that only attacks with several parts have."""
    return [c for c in columns if c == MEAN_COLUMN or c.startswith(PART_COLUMN)]
