"""Measures of finished models; each is a module with a function ``measure``."""

from workflow_scripts.evaluation.context import Context, Score, share

__all__ = ["Context", "Score", "share"]
