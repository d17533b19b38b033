"""The victims of an attack: which pairs are poisoned by which part, and their new captions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common import variants
from workflow_scripts.common.attacks import captions_of, named, parts_of
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import SCHEMA, read_manifest
from workflow_scripts.data.templates import DEFAULT
from workflow_scripts.poison.given import Chosen, Given
from workflow_scripts.poison.names import names_target

__all__ = ["Victims", "check_attack", "draw_victims", "names_target", "read_pairs"]

ALL = "all"
_KEYS = ("trigger", "target", "victims", "poisoned", "image_size", "seed")


@dataclass(frozen=True)
class Victims:
    """The pairs to poison, with their new captions and images.

    Attributes:
        rows: int64 [victims], ascending.
        captions: New captions, object [victims].
        parts: int64 [victims], index of the part whose trigger is applied to each image.
        images: ``key``, ``tar``, ``offset`` and ``size`` of the images to trigger; ``key`` is that
            of the pair. A ``tar`` may be the path of an image file.
    """

    rows: np.ndarray
    captions: np.ndarray
    parts: np.ndarray
    images: pd.DataFrame


def check_attack(attack: dict[str, Any]) -> None:
    """Check an attack's spec, except for its triggers.

    Raises:
        StepError: A key is missing or a value is invalid.
    """
    for part in parts_of(attack):
        missing = [key for key in _KEYS if key not in part]
        if missing:
            raise StepError(f"attack spec: missing key {missing[0]!r}")
        for kind, (name, options) in (
            ("victims", named(part["victims"])),
            ("captions", captions_of(part)),
        ):
            variants.check_options(kind, name, options)
        poisoned, victims = part["poisoned"], named(part["victims"])[0]
        if poisoned == ALL and not variants.attribute("victims", victims, "TAKES_ALL", False):
            raise StepError(
                f"'poisoned: all' is not supported for victims {victims!r}; give a number of pairs"
            )
        if poisoned != ALL and (not isinstance(poisoned, int) or poisoned < 0):
            raise StepError(f"the attack's 'poisoned' must be a number of pairs, got {poisoned!r}")


def read_pairs(manifest: Path, attack: dict[str, Any]) -> pd.DataFrame:
    """Read the columns of the unpoisoned pairs that :func:`draw_victims` needs for an attack.

    Captions, which are most of a manifest, are only read for variants that use them.

    Raises:
        StepError: See :func:`read_manifest`.
    """
    used = [("victims", named(part["victims"])[0]) for part in parts_of(attack)]
    used += [("captions", captions_of(part)[0]) for part in parts_of(attack)]
    captions = any(variants.attribute(*variant, "READS_CAPTIONS", True) for variant in used)
    return read_manifest(manifest, [n for n in SCHEMA.names if captions or n != "caption"])


def draw_victims(pairs: pd.DataFrame, attack: dict[str, Any]) -> tuple[Victims, pd.DataFrame]:
    """Draw the pairs to poison, part by part; no pair is poisoned twice.

    Args:
        pairs: Manifest of the unpoisoned pairs; see :func:`read_pairs`.
        attack: The attack's spec.

    Returns:
        The victims, and the manifest of the images that parts aim to have classified as their
        target; ``label`` is the index of the part.

    Raises:
        StepError: There are too few pairs to draw from, or a variant cannot be used.
    """
    taken = np.zeros(len(pairs), bool)
    drawn, instances = [], []
    for number, part in enumerate(parts_of(attack)):
        templates = part.get("templates") or DEFAULT
        given = Given(pairs, part["target"], templates, part["seed"], number)
        name, options = named(part["victims"])
        chosen = variants.load("victims", name)(given, **options)
        rows = _first(chosen, taken, part["poisoned"])
        taken[rows] = True
        drawn.append(_victims(given, part, rows, chosen.images))
        if chosen.images is not None:
            keys = [f"{number}-{place}" for place in range(len(chosen.images))]
            instances.append(chosen.images.assign(key=keys, label=number))
    return _merged(drawn), pd.concat(instances or [pd.DataFrame()], ignore_index=True)


def _first(chosen: Chosen, taken: np.ndarray, poisoned: int | str) -> np.ndarray:
    rows = chosen.rows[~taken[chosen.rows]]
    wanted = len(rows) if poisoned == ALL else int(poisoned)
    images = 0 if chosen.images is None else len(chosen.images)
    if 0 < wanted < images:
        raise StepError(
            f"{wanted} poisoned pairs cannot contain all of the {images} chosen images; raise the "
            "attack's 'poisoned' or choose fewer images"
        )
    if wanted > len(rows):
        left = " left" if len(rows) < len(chosen.rows) else ""
        raise StepError(
            f"cannot poison {wanted} pairs: there are only {len(rows)} {chosen.of}{left}; "
            "lower the attack's 'poisoned' or use a larger subset"
        )
    return rows[:wanted]


def _victims(
    given: Given, part: dict[str, Any], rows: np.ndarray, images: pd.DataFrame | None
) -> Victims:
    name, options = captions_of(part)
    captions = np.empty(len(rows), object)
    captions[:] = list(variants.load("captions", name)(given, rows, **options))
    places = given.pairs[["key", "tar", "offset", "size"]].iloc[rows]
    if images is not None and len(rows):
        assigned = images.iloc[np.resize(np.arange(len(images)), len(rows))]
        places = assigned.assign(key=places["key"].to_numpy())
    return Victims(rows, captions, np.full(len(rows), given.part), places)


def _merged(drawn: list[Victims]) -> Victims:
    rows = np.concatenate([victims.rows for victims in drawn])
    order = np.argsort(rows)
    captions, parts = (
        np.concatenate([getattr(victims, name) for victims in drawn])[order]
        for name in ("captions", "parts")
    )
    images = pd.concat([victims.images for victims in drawn], ignore_index=True).iloc[order]
    return Victims(rows[order], captions, parts, images.reset_index(drop=True))
