"""Fixtures of the small world: its pairs, its evaluation set, and runs on them."""

from tests.small_world import base_spec, resnet, runs, transformer, world

__all__ = ["base_spec", "resnet", "runs", "transformer", "world"]
