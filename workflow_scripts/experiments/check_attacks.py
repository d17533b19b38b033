"""Checks attacks: the variants of their parts, and whether they match the data."""

from collections.abc import Iterator, Sequence
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.attacks import affected_classes, captions_of, named, without_trigger
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.attacks import ALL, part_places, poisoned_pairs
from workflow_scripts.experiments.check_variants import check_variant, placed
from workflow_scripts.experiments.layers import Settings

Spec = dict[str, Any]


def check_attack(run: Settings, artefacts: Spec) -> None:
    """Check the attack of a pre-training run by itself.

    Args:
        run: Settings of the run.
        artefacts: The section ``artefacts`` of the config.

    Raises:
        StepError: A variant, an option or a value does not exist or is missing.
    """
    for part, places in part_places(run["attack"]):
        for kind in ("trigger", "victims"):
            check_variant(kind, *named(part[kind]), placed(run, places[kind]), artefacts)
        check_variant("captions", *captions_of(part), placed(run, places["captions"]), artefacts)
        victims = named(part["victims"])[0]
        takes_all = variants.attribute("victims", victims, "TAKES_ALL", False)
        if part["poisoned"] == ALL and not takes_all:
            raise StepError(
                f"config: {run.place(places['poisoned'])!r} is 'all', which the victims "
                f"{victims!r} do not support; give a number of pairs"
            )


def check_attack_on_data(
    config: Spec, run: Settings, pairs: int | None, classes: Sequence[str] | None
) -> None:
    """Check an attack against the dataset and the evaluation set.

    Args:
        config: The config.
        run: Settings of the pre-training run.
        pairs: Upper bound of the number of pairs in its dataset; None if it is not known.
        classes: Class names of the evaluation set; None if they are not known.

    Raises:
        StepError: The attack poisons more pairs than the dataset has, names an unknown class,
            affects no class of the evaluation set, or has a patch larger than the images.
    """
    poisoned = poisoned_pairs(run["attack"])
    if pairs is not None and poisoned is not None and poisoned > pairs:
        key = "attack.parts" if run["attack.parts"] else "attack.poisoned"
        raise StepError(
            f"config: {run.place(key)!r} poisons {poisoned} pairs, but the dataset "
            f"{run['dataset']!r} has only {pairs}; lower the number of poisoned pairs"
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
        found = classes.count(name)
        if found == 1:
            continue
        first, _, option = key.partition(".")
        place = run.place(places[first]) + (f".{option}" if option else "")
        if found:
            what, hint = "the name of several classes", "name another class"
        else:
            what, hint = "not a class", nearest(name, classes)
            hint = hint if hint.startswith("did") else "name one of its classes"
        raise StepError(
            f"config: {place!r} is {name!r}, which is {what} of the evaluation set {evaluation!r}; "
            f"{hint}"
        )
    # Named classes were checked above; the variant is imported only if it chooses its classes.
    if _leaves_classes_out(part) and affected_classes(part, list(classes)) == {}:
        raise StepError(
            f"config: {run.place(places['victims'])!r} affects no class of the evaluation set "
            f"{evaluation!r}, so its ASR cannot be measured; name the affected 'classes'"
        )


def _leaves_classes_out(part: Spec) -> bool:
    """Return whether a part is measured on classes that its victims choose themselves."""
    name, options = named(part["victims"])
    declared = variants.attribute("victims", name, "CLASSES", ())
    by_captions = variants.attribute("captions", captions_of(part)[0], "CLASSES", ())
    missing = any(options.get(option) is None for option in declared)
    return without_trigger(part) and missing and not by_captions


def _named_classes(part: Spec) -> Iterator[tuple[str, str]]:
    """Yield the key and the value of each setting of a part that is a class name."""
    yield "target", part["target"]
    chosen = {"victims": named(part["victims"]), "captions": captions_of(part)}
    for kind, (name, options) in chosen.items():
        for option in variants.attribute(kind, name, "CLASSES", ()):
            names = options.get(option) or []
            for value in [names] if isinstance(names, str) else names:
                yield f"{kind}.{option}", value


def _check_patch(config: Spec, run: Settings, part: Spec, key: str) -> None:
    patch, side = part["trigger"].get("patch_size"), config["image_size"]
    if patch is None:
        option = variants.options("trigger", part["trigger"]["name"]).get("patch_size")
        patch = option.default if option else None
    if isinstance(patch, int) and patch > side:
        raise StepError(
            f"config: {run.place(f'{key}.patch_size')!r} is {patch}, but 'image_size' is "
            f"only {side}; lower the patch size"
        )
