"""Types of options shared by several kinds; the config is validated against them up front."""

from typing import Annotated, Literal

Column = Annotated[str, "column"]
"""A column of the metrics."""

Share = Annotated[float, "> 0", "<= 1"]
Inches = Annotated[float, "> 0"]

Rule = Literal[
    "best_below", "highest_accuracy", "lowest_heldout_mmcl", "lowest_heldout_ssl", "start"
]
