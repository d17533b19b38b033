"""Artefacts of a config by id: what is learned from a model and pairs, and used by name.

``model: start`` and ``pairs: attack``, ``dataset`` or ``cleaning`` mean those of whoever uses the
artefact, so that one declaration serves every start. The id is a digest of the declaration with all
names resolved: two declarations of one content are one artefact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.identity import make_id, options_of, slug_of, stem_of
from workflow_scripts.experiments.references import ARTEFACT, references, replaced

Spec = dict[str, Any]

START = "start"
DECLARED = ("make", "model", "pairs", "seed")
"""Keys of a declaration; the others are options of its maker."""


@dataclass(frozen=True)
class Around:
    """What an artefact can be made from: that of whoever uses it.

    Attributes:
        place: Where in the config the artefact is asked for.
        dataset: Id of the unpoisoned pairs.
        attack: Id of the attack; None where it is made later.
        start: Id of the start model; None where it is made later.
        data: How the clean split is taken, as ``cleaning.data``.
        on_the_way: Starts and artefacts that are being resolved, outermost first.
    """

    place: str
    dataset: str
    attack: str | None
    start: str | None
    data: Spec
    on_the_way: tuple[str, ...] = ()


class Artefacts:
    """Resolves references to artefacts, and collects the specs of what they refer to.

    Attributes:
        specs: By id: ``make``; ``model``: ``{"start": id}``, the declared one, or None; ``pairs``:
            ``{"attacks": id}``, or of ``datasets`` or ``splits``, or None; ``seed``; ``options``,
            in which references hold ids.

    Args:
        config: The checked config.
        model_of: Adds the runs of a start, given by its name, the place that asks for it and what
            is on the way; returns the id of its model.
        around_of: Returns what is around the users of a model, given by its id.
        split_of: Adds the clean split of an attack and of settings as ``cleaning.data``; returns
            its id.
    """

    def __init__(
        self,
        config: Spec,
        model_of: Callable[[str, str, tuple[str, ...]], str],
        around_of: Callable[[str, str, Spec], Around],
        split_of: Callable[[str, Spec], str],
    ):
        self.specs: dict[str, Spec] = {}
        self._declared = config["artefacts"]
        self._model_of, self._around_of, self._split_of = model_of, around_of, split_of

    def resolved(self, value: Any, around: Around) -> Any:
        """Return a value in which references hold ids in the place of names.

        Raises:
            StepError: A name is not declared, or what it stands for is made later than its user.
        """
        return replaced(value, lambda name: {ARTEFACT: self.artefact(name, around)})

    def artefact(self, name: str, around: Around) -> str:
        """Add an artefact and all that it is made from; return its id.

        Raises:
            StepError: As :meth:`resolved`.
        """
        if name not in self._declared:
            raise StepError(
                f"config: {around.place!r} names the artefact {name!r}, which is not declared; "
                f"{nearest(name, self._declared)}"
            )
        place = f"artefacts.{name}"
        if place in around.on_the_way:
            raise StepError(f"config: {place!r} is made from itself; leave {around.place!r} out")
        declared = self._declared[name]
        own = replace(around, on_the_way=(*around.on_the_way, place))
        model, own = self._model(declared["model"], own, place)
        pairs = self._pairs(declared["pairs"], own, place)
        given = {key: value for key, value in declared.items() if key not in DECLARED}
        options = self.resolved(given, replace(own, place=place))
        made = {"make": declared["make"], "model": model, "pairs": pairs, "seed": declared["seed"]}
        for other in variants.attribute("artefact", declared["make"], "USES", ()):
            if other not in options:
                options[other] = {ARTEFACT: self._add(made | {"make": other, "options": {}})}
        return self._add(made | {"options": options})

    def _model(self, declared: Any, around: Around, place: str) -> tuple[Spec | None, Around]:
        """Return whose model it is, and what is around the artefact from there."""
        if isinstance(declared, dict) and START in declared:
            name = declared[START]
            if f"starts.{name}" in around.on_the_way:
                raise StepError(
                    f"config: {around.place!r} needs {place!r}, which is made with the model of "
                    f"'starts.{name}', and that is trained later; name another start"
                )
            model = self._model_of(name, f"{place}.model.start", around.on_the_way)
            there = self._around_of(model, place, around.data)
            return {START: model}, replace(there, on_the_way=around.on_the_way)
        if declared != START:
            return declared, around
        if around.start is None:
            raise StepError(
                f"config: {around.place!r} needs {place!r}, whose 'model' is the start of its user "
                "and is trained later; name a start there: model: {start: ...}"
            )
        return {START: around.start}, around

    def _pairs(self, declared: str | None, around: Around, place: str) -> Spec | None:
        if declared is None:
            return None
        if declared == "dataset":
            return {"datasets": around.dataset}
        if around.attack is None:
            raise StepError(
                f"config: {around.place!r} needs {place!r}, whose 'pairs' are those of its user's "
                f"{declared}, which is made later; give it 'pairs: dataset'"
            )
        if declared == "attack":
            return {"attacks": around.attack}
        return {"splits": self._split_of(around.attack, around.data)}

    def _add(self, spec: Spec) -> str:
        made, options = spec["make"], options_of("artefact", spec["make"], spec["options"])
        identity = {key: spec[key] for key in ("make", "model", "pairs")} | {"options": options}
        # 0 is the default, as of what else has a seed.
        identity["seed"] = spec["seed"] or None
        of = spec["model"] and spec["model"].get(START)
        slug = stem_of(made) + (f"-of-{slug_of(of.partition('/')[0])}" if of else "")
        name = make_id(slug, identity)
        self.specs[name] = spec
        return name


def values_of(artefact: str) -> str:
    """Return the file with the values of an artefact, given by its id, relative to the results."""
    return f"artefacts/{artefact}/values.safetensors"


def needed(specs: dict[str, Spec], value: Any) -> list[str]:
    """Return the ids of the artefacts that a value refers to, and of those that these are made of.

    Args:
        specs: Of all artefacts, by id.
        value: Anything in which references hold ids.
    """
    found: dict[str, None] = {}
    waiting = list(references(value))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += references(specs[name]["options"])
    return sorted(found)
