"""The parts of an audit as jobs, with their costs and dependencies."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.artefacts.given import Given
from workflow_scripts.common.code_version import attack_code, variant_code
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.files import atomic, sha256
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.evaluation.auditing.inversion import Search, invert_classes
from workflow_scripts.evaluation.auditing.known import known_attack
from workflow_scripts.evaluation.auditing.material import Classifier, Material, Subject
from workflow_scripts.evaluation.auditing.parts import Part, Parts, png
from workflow_scripts.evaluation.auditing.rows import outlier_scores
from workflow_scripts.evaluation.auditing.scan import built_in_triggers, scan
from workflow_scripts.evaluation.context import Context
from workflow_scripts.evaluation.measures import decree
from workflow_scripts.model.spec import ModelSpec


@dataclass(frozen=True)
class Effort:
    """Thoroughness of an audit.

    Attributes:
        images: Maximum number of evaluation images.
        steps: Optimisation steps per inverted class.
        decree_images: Maximum number of images for DECREE.
        decree_epochs: Maximum number of epochs over them.
        captions: Maximum number of frequent captions.
    """

    images: int
    steps: int
    decree_images: int
    decree_epochs: int
    captions: int


EFFORTS = {
    "quick": Effort(128, 25, 64, 30, 5),
    "standard": Effort(512, 50, 128, 100, 10),
    "thorough": Effort(2048, 200, 1000, 300, 50),
}

_BACKWARD = 3  # approximate cost of a forward and a backward pass, in forward passes
_HELD_OUT = 1000  # maximum number of clean pairs for retrieval and geometry


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an audit; see the help of ``evaluation/audit.py``."""

    spec: ModelSpec
    checkpoint: Path
    evaluation: Path
    root: Path
    output: Path
    parts: Path
    control: Path | None = None
    attack: dict[str, Any] | None = None
    pairs: Path | None = None
    clean_pairs: Path | None = None
    effort: str = "standard"
    batch_size: int = 256
    workers: int = 0
    seed: int = 0


@dataclass
class Job:
    """A part of an audit.

    ``passes`` is its cost in forward passes of one image. ``table`` is the file that it leaves
    beside its cached result, to be copied to the audit's results.
    """

    probe: str
    subject: Subject
    depends: Part
    passes: int
    make: Callable[[Callable[[int], object]], Part]
    table: Path | None = None


class Jobs:
    """Creates the jobs of an audit.

    Args:
        options: Options of the audit.
        material: The images.
        captions: Frequent captions to test.
        attacks: Parts of the known attack, each as an attack spec.
        world: The process group.
    """

    def __init__(
        self,
        options: Options,
        material: Material,
        captions: list[str],
        attacks: list[dict[str, Any]],
        world: ProcessGroup,
    ):
        self.options, self.material, self.world = options, material, world
        self.captions, self.attacks = captions, attacks
        self.effort = EFFORTS[options.effort]
        self.triggers = built_in_triggers(material.images.shape[-1])

    def of(self, subject: Subject, audited: bool) -> list[Job]:
        """Return the jobs of a model.

        Args:
            subject: The model.
            audited: Whether it is the audited model, as opposed to the clean control.
        """
        found = [self._scan(subject), self._inversion(subject), self._decree(subject)]
        if self.captions:
            found.append(self._natural(subject))
        for name, attack in zip(known_names(self.attacks), self.attacks, strict=True):
            found.append(self._known(name, attack, subject))
        if self.options.pairs and audited:
            found.append(self._rows(subject))
        return found

    def _depends(self, subject: Subject, **more: Any) -> Part:
        spec = self.options.spec
        return {
            "model": subject.sha256,
            "config": [spec.name, spec.config],
            "evaluation": self.material.evaluation,
            "images": len(self.material.keys),
            "seed": self.options.seed,
            **more,
        }

    def _classifier(self, subject: Subject) -> Classifier:
        return Classifier(subject.encoder, self.material.names, self.material.templates, self.world)

    def _scan(self, subject: Subject) -> Job:
        images = len(self.material.keys)

        def make(advance: Callable[[int], object]) -> Part:
            advance(images)
            return scan(
                self._classifier(subject),
                self.material,
                self.triggers,
                batch_size=self.options.batch_size,
                step=lambda: advance(images),
            )

        depends = self._depends(subject, triggers=self.triggers)
        return Job("scan", subject, depends, images * (1 + len(self.triggers)), make)

    def _inversion(self, subject: Subject) -> Job:
        return self._inverting("inversion", subject, [], len(self.material.names))

    def _natural(self, subject: Subject) -> Job:
        return self._inverting("captions", subject, self.captions, len(self.captions))

    def _inverting(self, probe: str, subject: Subject, captions: list[str], targets: int) -> Job:
        search = Search(self.effort.steps, seed=self.options.seed)
        cost = search.steps * search.images * _BACKWARD + len(self.material.keys)

        def make(advance: Callable[[int], object]) -> Part:
            return invert_classes(
                self._classifier(subject),
                self.material,
                search,
                captions=captions,
                step=lambda: advance(cost),
            )

        depends = self._depends(subject, steps=search.steps, captions=captions)
        return Job(probe, subject, depends, targets * cost, make)

    def _decree(self, subject: Subject) -> Job:
        images = self.material.images[: self.effort.decree_images]
        how = decree.Inversion(self.effort.decree_epochs, 32, 35, 0.99, self.options.seed)
        cost = _BACKWARD * how.epochs * len(images)

        def make(advance: Callable[[int], object]) -> Part:
            found = decree.invert(subject.encoder.images, images.to(self.world.device).float(), how)
            advance(cost)
            side = images.shape[-1]
            shown = found.mask * found.patch + (1 - found.mask) * 128
            return {
                "pl1": found.l1 / (3 * side**2),
                "cosine": found.cosine,
                "wanted": how.cosine,
                "picture": png(shown.round().clamp(0, 255).to(torch.uint8)),
            }

        code = variant_code("measure", "decree")
        depends = self._depends(subject, epochs=how.epochs, decree_images=len(images), code=code)
        return Job("decree", subject, depends, cost, make)

    def _known(self, name: str, attack: dict[str, Any], subject: Subject) -> Job:
        clean = self.options.clean_pairs
        context = Context(
            root=self.options.root,
            attack=attack,
            world=self.world,
            batch_size=self.options.batch_size,
            workers=self.options.workers,
            evaluation=self.options.evaluation,
            pairs=clean,
            held_out=min(_HELD_OUT, _rows_of(clean)) if clean else 0,
        )
        passes = 2 * len(context.labelled.labels) + 6 * context.held_out

        def make(advance: Callable[[int], object]) -> Part:
            found = known_attack(subject, context)
            advance(passes)
            return found

        depends = self._depends(
            subject,
            attack=attack,
            files=contents(attack["trigger"]),
            code=attack_code({"trigger": attack["trigger"]}),
            clean=sha256(clean) if clean else None,
        )
        return Job(name, subject, depends, passes, make)

    def _rows(self, subject: Subject) -> Job:
        options = self.options
        assert options.pairs is not None  # checked by the caller
        rows = _rows_of(options.pairs)
        given = Given(
            model=options.spec, checkpoint=options.checkpoint, manifest=options.pairs,
            root=options.root, seed=options.seed, batch_size=options.batch_size,
            workers=options.workers, world=self.world,
        )  # fmt: skip
        clean = options.clean_pairs
        depends = self._depends(
            subject, pairs=sha256(options.pairs), clean=sha256(clean) if clean else None
        )
        result = Parts(options.parts).path("rows", depends)
        scores = result.with_suffix(".parquet")
        if not scores.is_file():
            result.unlink(missing_ok=True)  # computed again, together with the table

        def make(advance: Callable[[int], object]) -> Part:
            options.parts.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=options.parts) as folder:
                part, table = outlier_scores(
                    given, options.clean_pairs, self.material.names, Path(folder)
                )
            with atomic(scores) as temporary:
                table.to_parquet(temporary)
            advance(3 * rows)
            return part

        return Job("rows", subject, depends, 3 * rows, make, scores)


def _rows_of(manifest: Path) -> int:
    return len(read_manifest(manifest, ["poisoned"]))


def contents(trigger: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each file that a trigger names."""
    named = {str(value) for value in trigger.values() if isinstance(value, str)}
    return {name: sha256(name) for name in sorted(named) if Path(name).is_file()}


def known_names(attacks: list[dict[str, Any]]) -> list[str]:
    """Return the job name of each part of the known attack."""
    return [f"known{number}" for number in range(1, len(attacks) + 1)]
