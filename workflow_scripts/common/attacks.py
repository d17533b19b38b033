"""An attack's parts: each has a trigger, victims, captions of the victims and a target.

A spec with ``parts`` has what the parts share beside them; one without is its only part.
"""

from collections.abc import Iterator
from typing import Any

from workflow_scripts.common import variants

Spec = dict[str, Any]

NO_TRIGGER = "none"
"""The trigger of attacks that change no image."""
TEMPLATES = "templates"
VARIANTS = ("trigger", "victims", "captions")
"""Keys of a part that name a variant of the kind of the same name."""
# Their code is in no digest: attacks were made with them before there were kinds of variants.
_FIRST = {("victims", "random"), ("victims", "label_consistent"),
          ("captions", TEMPLATES), ("captions", "as_is")}  # fmt: skip


def parts_of(attack: Spec) -> list[Spec]:
    """Return the parts of an attack, each as an attack of one part."""
    shared = {key: value for key, value in attack.items() if key != "parts"}
    return [shared | part for part in attack.get("parts") or [{}]]


def named(value: str | Spec) -> tuple[str, Spec]:
    """Return the name and the options of a variant, given by its name or as a mapping."""
    if isinstance(value, str):
        return value, {}
    return value["name"], {key: option for key, option in value.items() if key != "name"}


def captions_of(part: Spec) -> tuple[str, Spec]:
    """Return the name and the options of the variant that writes the captions of the victims.

    By default, the victims' module names it (``CAPTIONS``), or it is ``templates``.

    Raises:
        StepError: There is no such variant of victims.
    """
    if part.get("captions") is not None:
        return named(part["captions"])
    victims = named(part["victims"])[0]
    return variants.attribute("victims", victims, "CAPTIONS", TEMPLATES), {}


def without_trigger(part: Spec) -> bool:
    """Return whether a part leaves images as they are."""
    return part["trigger"]["name"] == NO_TRIGGER


def has_instances(attack: Spec) -> bool:
    """Return whether a part of an attack chooses images that are to be taken for its target."""
    chosen = [named(part["victims"])[0] for part in parts_of(attack) if "victims" in part]
    return any(variants.attribute("victims", name, "INSTANCES", False) for name in chosen)


def affected_classes(part: Spec, names: list[str]) -> dict[str, str] | None:
    """Return which classes a part without a trigger wants taken for which, as its variants say.

    Args:
        part: The part.
        names: The classes.

    Returns:
        None if its variants do not say: then it is all classes, for its target.
    """
    if "victims" not in part:
        return None
    chosen = {"captions": captions_of(part), "victims": named(part["victims"])}
    for kind, (name, options) in chosen.items():
        says = variants.companion(kind, name, "affected")
        if says is not None:
            return says(names, part["target"], **options)
    return None


def variants_of(attack: Spec) -> Iterator[tuple[str, str]]:
    """Yield kind and name of the variants whose code decides what an attack makes."""
    for part in parts_of(attack):
        yield "trigger", part["trigger"]["name"]
        # Of audited models the spec may have no more than a trigger and a target.
        if "victims" in part:
            for found in (
                ("victims", named(part["victims"])[0]),
                ("captions", captions_of(part)[0]),
            ):
                if found not in _FIRST:
                    yield found
