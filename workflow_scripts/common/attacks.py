"""Parts of an attack, each with a trigger, victims, captions of the victims, and a target.

In a spec with ``parts``, all other keys are shared by the parts. A spec without ``parts`` consists
of a single part.
"""

from collections.abc import Iterator
from typing import Any

from workflow_scripts.common import variants

Spec = dict[str, Any]

NO_TRIGGER = "none"
"""Name of the trigger of attacks that do not modify images."""
TEMPLATES = "templates"
VARIANTS = ("trigger", "victims", "captions")
"""Keys of a part whose values name variants of the kind of the same name."""
# Their code is excluded from digests, because attacks were made with them before victim choices and
# captions became variants.
_NOT_IN_DIGESTS = {("victims", "random"), ("victims", "label_consistent"),
          ("captions", TEMPLATES), ("captions", "as_is")}  # fmt: skip


def parts_of(attack: Spec) -> list[Spec]:
    """Return the parts of an attack, each as a spec without ``parts``."""
    shared = {key: value for key, value in attack.items() if key != "parts"}
    return [shared | part for part in attack.get("parts") or [{}]]


def named(value: str | Spec) -> tuple[str, Spec]:
    """Return the name and the options of a variant, specified by name or as a mapping."""
    if isinstance(value, str):
        return value, {}
    return value["name"], {key: option for key, option in value.items() if key != "name"}


def captions_of(part: Spec) -> tuple[str, Spec]:
    """Return the name and the options of the variant that writes the captions of the victims.

    The default is the attribute ``CAPTIONS`` of the victim choice, or ``templates``.

    Raises:
        StepError: The victim choice does not exist.
    """
    if part.get("captions") is not None:
        return named(part["captions"])
    victims = named(part["victims"])[0]
    return variants.attribute("victims", victims, "CAPTIONS", TEMPLATES), {}


def without_trigger(part: Spec) -> bool:
    """Return whether a part leaves images unchanged."""
    return part["trigger"]["name"] == NO_TRIGGER


def has_instances(attack: Spec) -> bool:
    """Return whether a part of an attack targets individual images (victims' ``INSTANCES``)."""
    chosen = [named(part["victims"])[0] for part in parts_of(attack) if "victims" in part]
    return any(variants.attribute("victims", name, "INSTANCES", False) for name in chosen)


def affected_classes(part: Spec, names: list[str]) -> dict[str, str] | None:
    """Return the class confusions that a part without a trigger aims at.

    Args:
        part: The part.
        names: Names of all classes.

    Returns:
        Mapping from classes to the classes that they should be confused with, as defined by
        function ``affected`` of the part's variants; None if they have no such function, so that
        all classes should be classified as the target.
    """
    if "victims" not in part:
        return None
    chosen = {"captions": captions_of(part), "victims": named(part["victims"])}
    for kind, (name, options) in chosen.items():
        affected = variants.companion(kind, name, "affected")
        if affected is not None:
            return affected(names, part["target"], **options)
    return None


def variants_of(attack: Spec) -> Iterator[tuple[str, str]]:
    """Yield the kind and name of each variant whose code determines the result of an attack."""
    for part in parts_of(attack):
        yield "trigger", part["trigger"]["name"]
        # The spec of an audited model may have only a trigger and a target.
        if "victims" in part:
            for variant in (
                ("victims", named(part["victims"])[0]),
                ("captions", captions_of(part)[0]),
            ):
                if variant not in _NOT_IN_DIGESTS:
                    yield variant
