"""Types of options that several kinds have; the config is checked by them before anything runs."""

from typing import Annotated, Literal

Column = Annotated[str, "column"]
"""A column of the metrics."""

Share = Annotated[float, "> 0", "<= 1"]
Inches = Annotated[float, "> 0"]

Rule = Literal[
    "best_below", "highest_accuracy", "lowest_heldout_mmcl", "lowest_heldout_ssl", "start"
]
