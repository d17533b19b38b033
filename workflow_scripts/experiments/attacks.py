"""Attacks as the config declares them, written out in the one spelling that an id is made of."""

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
"""Keys of an attack that its parts may have each for itself."""


def written_out(attack: Spec) -> Spec:
    """Return an attack with each of its parts complete.

    What a part leaves out is the attack's; 0 poisoned pairs of the attack hold for all of its
    parts. An attack of one part has no ``parts``; beside several, there are the first one's keys.
    """
    parts = declared_parts(attack)
    whole = {key: parts[0][key] for key in attack if key != PARTS and parts[0][key] is not None}
    if len(parts) == 1:
        return whole
    keys = [key for key in attack if key in _OF_PART]
    return whole | {PARTS: [{key: part[key] for key in keys} for part in parts]}


def declared_parts(attack: Spec) -> list[Spec]:
    """Return the parts of an attack as it is declared, each as an attack of one part."""
    parts = parts_of(attack)
    if attack["poisoned"] == 0:
        parts = [part | {"poisoned": 0} for part in parts]
    return [_without_default_captions(part) for part in parts]


def _without_default_captions(part: Spec) -> Spec:
    by_default = captions_of(part | {"captions": None})
    return part if captions_of(part) != by_default else part | {"captions": None}


def part_places(attack: Spec) -> Iterator[tuple[Spec, dict[str, str]]]:
    """Yield each part, and for each of its keys the dotted key in the attack that has its value.

    As ``attack.trigger`` or ``attack.parts[1].trigger``.
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
    """Return how many pairs an attack poisons; None if only the captions tell."""
    numbers = [part["poisoned"] for part in declared_parts(attack)]
    return None if ALL in numbers else sum(numbers)


def attack_slug(attack: Spec) -> str:
    """Return trigger, or victims where there is none, and number of pairs; or those of parts."""
    parts = parts_of(attack)
    total = poisoned_pairs(attack)
    number = ALL if total is None else total
    if len(parts) > 1:
        return f"{len(parts)}parts{number}"
    kind = "victims" if without_trigger(attack) else "trigger"
    return f"{stem_of(named(attack[kind])[0])}{number}"


def by_content(attack: Spec, inputs: OwnInputs) -> Spec:
    """Return an attack with a fingerprint in place of each file that its variants read."""
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
    """Return how often the evaluation set is embedded: as it is, and with each trigger."""
    return 1 + sum(not without_trigger(part) for part in parts_of(attack))
