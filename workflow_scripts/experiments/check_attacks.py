"""Checks attacks: the variants of their parts, and whether they go with the data."""

from collections.abc import Iterator, Sequence
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.attacks import affected_classes, captions_of, named, without_trigger
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.attacks import ALL, part_places, poisoned_pairs
from workflow_scripts.experiments.check_variants import check_variant, placed
from workflow_scripts.experiments.layers import Settings

Spec = dict[str, Any]


def check_attack(run: Settings) -> None:
    """Check the attack of a pre-training by itself.

    Raises:
        StepError: A variant, an option or a value does not exist or is missing.
    """
    for part, places in part_places(run["attack"]):
        for kind in ("trigger", "victims"):
            check_variant(kind, *named(part[kind]), placed(run, places[kind]))
        check_variant("captions", *captions_of(part), placed(run, places["captions"]))
        victims = named(part["victims"])[0]
        takes_all = variants.attribute("victims", victims, "TAKES_ALL", False)
        if part["poisoned"] == ALL and not takes_all:
            raise StepError(
                f"config: {run.place(places['poisoned'])!r} is 'all', which needs "
                f"victims such as label_consistent, not {victims}; give a number of pairs"
            )


def check_attack_on_data(
    config: Spec, run: Settings, pairs: int | None, classes: Sequence[str] | None
) -> None:
    """Check that an attack goes with its data.

    Args:
        config: The config.
        run: The pre-training.
        pairs: Of its dataset, at most; None if that is not known.
        classes: Of the evaluation set; None if they are not known.

    Raises:
        StepError: It poisons more pairs than there are, a class does not exist, no class would
            show its success, or a patch is larger than the images.
    """
    poisoned = poisoned_pairs(run["attack"])
    if pairs is not None and poisoned is not None and poisoned > pairs:
        key = "attack.parts" if run["attack.parts"] else "attack.poisoned"
        raise StepError(
            f"config: {run.place(key)!r} poisons {poisoned} pairs, but the dataset "
            f"{run['dataset']} has {pairs}; lower it"
        )
    for part, places in part_places(run["attack"]):
        if classes is not None:
            _check_classes(config, run, part, places, classes)
        _check_patch(config, run, part, places["trigger"])


def _check_classes(
    config: Spec, run: Settings, part: Spec, places: dict[str, str], classes: Sequence[str]
) -> None:
    evaluation = config["evaluation"]
    for key, name in _named_classes(part):
        if name not in classes:
            hint = nearest(name, classes)
            hint = hint if hint.startswith("did") else "name one of its classes"
            first, _, option = key.partition(".")
            place = run.place(places[first]) + (f".{option}" if option else "")
            raise StepError(
                f"config: {place!r} is {name!r}, which is not a class of the "
                f"evaluation set {evaluation}; {hint}"
            )
    # Classes that are named do exist; only for others the variant has to be imported.
    if _leaves_classes_out(part) and affected_classes(part, list(classes)) == {}:
        raise StepError(
            f"config: {run.place(places['victims'])!r} affects no class of the evaluation set "
            f"{evaluation}, on which its success is measured; name its 'classes'"
        )


def _leaves_classes_out(part: Spec) -> bool:
    """Return whether a part is measured on classes that its victims find by themselves."""
    name, options = named(part["victims"])
    declared = variants.attribute("victims", name, "CLASSES", ())
    by_captions = variants.attribute("captions", captions_of(part)[0], "CLASSES", ())
    missing = any(options.get(option) is None for option in declared)
    return without_trigger(part) and missing and not by_captions


def _named_classes(part: Spec) -> Iterator[tuple[str, str]]:
    """Yield key and value of the part's settings that are names of classes."""
    yield "target", part["target"]
    chosen = {"victims": named(part["victims"]), "captions": captions_of(part)}
    for kind, (name, options) in chosen.items():
        for option in variants.attribute(kind, name, "CLASSES", ()):
            given = options.get(option) or []
            for value in [given] if isinstance(given, str) else given:
                yield f"{kind}.{option}", value


def _check_patch(config: Spec, run: Settings, part: Spec, key: str) -> None:
    patch, side = part["trigger"].get("patch_size"), config["image_size"]
    if patch is None:
        option = variants.options("trigger", part["trigger"]["name"]).get("patch_size")
        patch = option.default if option else None
    if isinstance(patch, int) and patch > side:
        raise StepError(
            f"config: {run.place(f'{key}.patch_size')!r} is {patch}, but 'image_size' is "
            f"only {side} pixels; lower it"
        )
