"""Measures of a finished model, each a module with one function ``measure``."""

from workflow_scripts.evaluation.context import Context, Score, share

__all__ = ["Context", "Score", "share"]
