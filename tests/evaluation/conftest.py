"""Fixtures shared with other packages: small pairs, an evaluation set, and runs on them."""

from tests.small_world import base_spec, resnet, runs, transformer, world

__all__ = ["base_spec", "resnet", "runs", "transformer", "world"]
