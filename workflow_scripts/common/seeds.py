"""Randomness that depends on a seed and on names, never on the order or the number of processes."""

import hashlib

import numpy as np


def seed_for(seed: int, *names: object) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``seed_for(0, "trigger", key)``.

    Unlike ``hash()``, it is the same in every process and on every machine.
    """
    text = "\0".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return a numpy generator seeded by :func:`seed_for`."""
    return np.random.default_rng(seed_for(seed, *names))
