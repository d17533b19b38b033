"""Random seeds that depend only on a seed and names, not on the order or number of processes."""

import hashlib

import numpy as np


def seed_for(seed: int, *names: object) -> int:
    """Derive a 63-bit seed from a seed and names, e.g. ``seed_for(0, "trigger", key)``.

    Unlike ``hash()``, it is the same in every process and on every machine.
    """
    text = "\0".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return a NumPy generator seeded by :func:`seed_for`."""
    return np.random.default_rng(seed_for(seed, *names))
