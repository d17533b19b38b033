"""Attacks as declared in the config, and their canonical form, from which ids are computed."""

from collections.abc import Iterator
from typing import Any

from workflow_scripts.common.attacks import (
    VARIANTS,
    captions_of,
    named,
    parts_of,
    without_trigger,
)
from workflow_scripts.experiments.identity import stem_of
from workflow_scripts.experiments.own_inputs import OwnInputs, files_of

Spec = dict[str, Any]

ALL = "all"
PARTS = "parts"
_OF_PART = (*VARIANTS, "target", "templates", "poisoned")
"""Keys of an attack that each of its parts may override."""


def canonical_attack(attack: Spec) -> Spec:
    """Return the canonical form of an attack, in which each part is complete.

    A key that a part leaves out is taken from the attack; ``poisoned: 0`` of the attack applies to
    all parts. An attack with a single part has no ``parts``; with several, the keys of the first
    part are repeated at the top level.
    """
    parts = declared_parts(attack)
    whole = {key: parts[0][key] for key in attack if key != PARTS and parts[0][key] is not None}
    if len(parts) == 1:
        return whole
    keys = [key for key in attack if key in _OF_PART]
    return whole | {PARTS: [{key: part[key] for key in keys} for part in parts]}


def declared_parts(attack: Spec) -> list[Spec]:
    """Return the parts of a declared attack, each as an attack with a single part."""
    parts = parts_of(attack)
    if attack["poisoned"] == 0:
        parts = [part | {"poisoned": 0} for part in parts]
    return [_without_default_captions(part) for part in parts]


def _without_default_captions(part: Spec) -> Spec:
    by_default = captions_of(part | {"captions": None})
    return part if captions_of(part) != by_default else part | {"captions": None}


def part_places(attack: Spec) -> Iterator[tuple[Spec, dict[str, str]]]:
    """Yield each part with a mapping of its keys to the dotted keys that set them in the config.

    Such a dotted key is ``attack.trigger`` or ``attack.parts[1].trigger``.
    """
    listed = attack.get(PARTS) or [{}]
    for number, (part, own) in enumerate(zip(parts_of(attack), listed, strict=True)):
        yield (
            part,
            {
                key: f"attack.parts[{number}].{key}" if key in own else f"attack.{key}"
                for key in _OF_PART
            },
        )


def poisoned_pairs(attack: Spec) -> int | None:
    """Return how many pairs an attack poisons; None if this depends on the captions (``all``)."""
    numbers = [part["poisoned"] for part in declared_parts(attack)]
    return None if ALL in numbers else sum(numbers)


def attack_slug(attack: Spec) -> str:
    """Return the slug of an attack: its trigger (or victims, or number of parts) and its pairs."""
    parts = parts_of(attack)
    total = poisoned_pairs(attack)
    number = ALL if total is None else total
    if len(parts) > 1:
        return f"{len(parts)}parts{number}"
    kind = "victims" if without_trigger(attack) else "trigger"
    return f"{stem_of(named(attack[kind])[0])}{number}"


def by_content(attack: Spec, inputs: OwnInputs) -> Spec:
    """Return an attack in which each file that its variants read is replaced by a fingerprint."""
    found: Spec = {}
    for kind in VARIANTS:
        if isinstance(attack.get(kind), dict):
            files = files_of(kind, attack[kind])
            prints = {name: inputs.fingerprint(path) for name, path in files.items()}
            found[kind] = attack[kind] | prints
    if PARTS in attack:
        found[PARTS] = [by_content(part, inputs) for part in attack[PARTS]]
    return attack | found


def images_evaluated(attack: Spec) -> int:
    """Return how often the evaluation set is embedded: once clean, and once with each trigger."""
    return 1 + sum(not without_trigger(part) for part in parts_of(attack))
