"""Columns of the table of metrics that each experiment has, whatever varies in it."""

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
FILE_COLUMN = "model_file"
"""Weights of the epoch's model below the results, empty if they are not there."""
NUMBERS = ("learning_rate", *METRIC_COLUMNS, *HELDOUT_COLUMNS, *TIMING_COLUMNS, *COUNT_COLUMNS)
"""Columns of numbers, whatever varies."""
