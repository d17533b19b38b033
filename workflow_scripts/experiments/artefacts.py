"""Artefacts of a config by id: anything learned from a model and pairs, and referred to by name.

``model: start`` and ``pairs: attack``, ``dataset`` or ``cleaning`` refer to the run that uses the
artefact, so that one declaration serves every start. The id is a digest of the declaration with all
names resolved: two declarations with the same content are the same artefact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.identity import make_id, options_of, slug_of, stem_of
from workflow_scripts.experiments.layers import check_declared
from workflow_scripts.experiments.own_inputs import OwnInputs
from workflow_scripts.experiments.references import ARTEFACT, references, replaced

Spec = dict[str, Any]

START = "start"
DECLARED = ("make", "model", "pairs", "seed")
"""Keys of a declaration; all other keys are options of its maker."""


@dataclass(frozen=True)
class ArtefactContext:
    """The user of an artefact: the model and the pairs that ``model`` and ``pairs`` resolve to.

    Attributes:
        place: Dotted key in the config that refers to the artefact.
        dataset: Id of the unpoisoned pairs.
        attack: Id of the attack; None if it is made later.
        start: Id of the start model; None if it is trained later.
        data: Settings of the clean split, as ``cleaning.data``.
        evaluation: Id of the evaluation set.
        resolving: Starts and artefacts that are being resolved, outermost first.
    """

    place: str
    dataset: str
    attack: str | None
    start: str | None
    data: Spec
    evaluation: str
    resolving: tuple[str, ...] = ()


class Artefacts:
    """Resolves references to artefacts, and collects the specs of the artefacts.

    Attributes:
        specs: By id: ``make``; ``model``: ``{"start": id}``, the declared model, or None;
            ``pairs``: a one-item mapping of ``attacks``, ``datasets`` or ``splits`` to an id, or
            None; ``evaluation``: the id of an evaluation set, if the maker needs one, or None;
            ``seed``; ``options``, in which references hold ids.

    Args:
        config: The checked config.
        model_of: Adds the runs of a start, given its name, the key that refers to it and what is
            being resolved; returns the id of its model.
        context_of: Returns the context of artefacts that users of a model refer to, given the id of
            the model, the key that refers to it and the settings of the clean split.
        split_of: Adds the clean split of an attack with settings as ``cleaning.data``; returns its
            id.
        inputs: Fingerprints of the user's own files.
    """

    def __init__(
        self,
        config: Spec,
        model_of: Callable[[str, str, tuple[str, ...]], str],
        context_of: Callable[[str, str, Spec], ArtefactContext],
        split_of: Callable[[str, Spec], str],
        inputs: OwnInputs,
    ):
        self.specs: dict[str, Spec] = {}
        self._declared = config["artefacts"]
        self._model_of, self._context_of, self._split_of = model_of, context_of, split_of
        self._inputs = inputs

    def resolved(self, value: Any, context: ArtefactContext) -> Any:
        """Return a copy of ``value`` in which references hold ids instead of names.

        Raises:
            StepError: A name is not declared, or its artefact depends on something made later.
        """
        return replaced(value, lambda name: {ARTEFACT: self.artefact(name, context)})

    def artefact(self, name: str, context: ArtefactContext) -> str:
        """Add an artefact and everything that it is made from; return its id.

        Raises:
            StepError: As :meth:`resolved`.
        """
        check_declared(context.place, name, self._declared)
        place = f"artefacts.{name}"
        if place in context.resolving:
            raise StepError(f"config: {place!r} depends on itself; remove {context.place!r}")
        declared = self._declared[name]
        nested = replace(context, resolving=(*context.resolving, place))
        model, nested = self._model(declared["model"], nested, place)
        make = declared["make"]
        of_user = variants.attribute("artefact", make, "PAIRS_OF_USER", False)
        pairs = self._pairs(declared["pairs"], context if of_user else nested, place)
        classified = "evaluation" in variants.attribute("artefact", make, "NEEDS", ())
        declared_options = {key: value for key, value in declared.items() if key not in DECLARED}
        options = self.resolved(declared_options, replace(nested, place=place))
        made = {
            "make": make, "model": model, "pairs": pairs, "seed": declared["seed"],
            "evaluation": context.evaluation if classified else None,
        }  # fmt: skip
        for other in variants.attribute("artefact", make, "USES", ()):
            if other not in options:
                options[other] = {ARTEFACT: self._add(made | {"make": other, "options": {}})}
        return self._add(made | {"options": options})

    def _model(
        self, declared: Any, context: ArtefactContext, place: str
    ) -> tuple[Spec | None, ArtefactContext]:
        """Return the resolved model, and the context in which the pairs are resolved."""
        if isinstance(declared, dict) and START in declared:
            name = declared[START]
            if f"starts.{name}" in context.resolving:
                raise StepError(
                    f"config: {context.place!r} needs {place!r}, which is made with the model of "
                    f"'starts.{name}', which is trained later; name another start"
                )
            model = self._model_of(name, f"{place}.model.start", context.resolving)
            nested = self._context_of(model, place, context.data)
            return {START: model}, replace(nested, resolving=context.resolving)
        if declared != START:
            return declared, context
        if context.start is None:
            raise StepError(
                f"config: {context.place!r} needs {place!r}, but its model ('model: start') is "
                "trained later; name a start instead: model: {start: ...}"
            )
        return {START: context.start}, context

    def _pairs(self, declared: str | None, context: ArtefactContext, place: str) -> Spec | None:
        if declared is None:
            return None
        if declared == "dataset":
            return {"datasets": context.dataset}
        if context.attack is None:
            raise StepError(
                f"config: {context.place!r} needs {place!r}, but its pairs ('pairs: {declared}') "
                "are made later; use 'pairs: dataset'"
            )
        if declared == "attack":
            return {"attacks": context.attack}
        return {"splits": self._split_of(context.attack, context.data)}

    def _add(self, spec: Spec) -> str:
        made, options = spec["make"], options_of("artefact", spec["make"], spec["options"])
        identity = {key: spec[key] for key in ("make", "model", "pairs")} | {"options": options}
        identity |= {"evaluation": spec["evaluation"]} if spec["evaluation"] else {}
        identity["model"] = spec["model"] and self._inputs.of_model(spec["model"])
        # 0 is the default, as for all other seeds.
        identity["seed"] = spec["seed"] or None
        of = spec["model"] and spec["model"].get(START)
        slug = stem_of(made) + (f"-of-{slug_of(of.partition('/')[0])}" if of else "")
        name = make_id(slug, identity)
        self.specs[name] = spec
        return name


def values_of(artefact: str) -> str:
    """Return the values file of an artefact, given its id, relative to the results."""
    return f"artefacts/{artefact}/values.safetensors"


def needed(specs: dict[str, Spec], value: Any) -> list[str]:
    """Return the ids of the artefacts that a value refers to, directly or through other artefacts.

    Args:
        specs: The specs of all artefacts, by id.
        value: Any value in which references hold ids.
    """
    found: dict[str, None] = {}
    waiting = list(references(value))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += references(specs[name]["options"])
    return sorted(found)
