"""Execution of an audit: all parts for the model and its control, with a progress bar."""

import functools
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from workflow_scripts.common.attacks import parts_of, without_trigger
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic, digest
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.evaluation.auditing import judging
from workflow_scripts.evaluation.auditing.jobs import EFFORTS, Job, Jobs, Options, known_names
from workflow_scripts.evaluation.auditing.material import Material, Subject
from workflow_scripts.evaluation.auditing.parts import Part, Parts
from workflow_scripts.evaluation.auditing.rows import frequent_captions
from workflow_scripts.evaluation.auditing.scan import attracted
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.poison.trigger import load_trigger


class Audit:
    """An audit; the constructor reads the model, its control and the images.

    Args:
        options: Options of the audit.
        world: The process group.

    Raises:
        StepError: A file is missing or invalid.
    """

    def __init__(self, options: Options, world: ProcessGroup):
        self.options, self.world = options, world
        self.parts = Parts(options.parts)
        self.model = Subject.read(options.spec, options.checkpoint, world)
        self.control = (
            Subject.read(options.spec, options.control, world) if options.control else None
        )
        if self.control and self.control.sha256 == self.model.sha256:
            raise StepError(
                "the clean control is identical to the checkpoint; give a different model"
            )
        size = self.model.encoder.image_size
        self.material = Material.read(
            options.evaluation, options.root, EFFORTS[options.effort].images, size, options.seed
        )
        self.attacks = _checked(options.attack, size)
        labelled = Labelled.read(options.evaluation)
        for attack in self.attacks:
            labelled.target(attack["target"])  # raises before any work
        self.captions = self._captions()
        self._results: dict[tuple[str, str], Part] = {}

    def _captions(self) -> list[Part]:
        if self.options.pairs is None:
            return []
        return frequent_captions(
            read_manifest(self.options.pairs, ["caption"])["caption"],
            EFFORTS[self.options.effort].captions,
        )

    def run(self) -> Part:
        """Compute the missing parts, and return the whole result."""
        jobs = self._jobs()
        waiting = [job for job in jobs if not self.parts.has(job.probe, job.depends)]
        total = sum(job.passes for job in waiting)
        done = len(jobs) - len(waiting)
        seconds = total * self._seconds_per_image() if total else 0.0
        print(
            f"{len(waiting)} parts to compute, {done} cached; about {_duration(seconds)} on "
            f"{self.world.device.type}",
            flush=True,
        )
        with tqdm(
            total=total, unit=" images", mininterval=2, smoothing=0.05, file=sys.stderr
        ) as bar:
            for job in jobs:
                who = "model" if job.subject is self.model else "control"
                bar.set_description(f"{job.probe} ({who})")
                make: Callable[[], Part] = functools.partial(job.make, bar.update)
                made = self.parts.result(job.probe, job.depends, make)
                self._results[who, job.probe] = made
                if job.table is not None:
                    with atomic(self.options.output / "rows.parquet") as temporary:
                        shutil.copyfile(job.table, temporary)
        return self._summary()

    def _jobs(self) -> list[Job]:
        captions = [one["caption"] for one in self.captions]
        jobs = Jobs(self.options, self.material, captions, self.attacks, self.world)
        of_control = jobs.of(self.control, audited=False) if self.control else []
        return jobs.of(self.model, audited=True) + of_control

    def _seconds_per_image(self) -> float:
        images = self.material.images[: min(64, self.options.batch_size)].to(self.world.device)
        encoder = self.model.encoder
        with torch.no_grad():
            encoder.images(images[:2])
            started = time.perf_counter()
            for _ in range(3):
                encoder.images(images).sum().item()
        return (time.perf_counter() - started) / (3 * len(images))

    def _both(self, probe: str) -> tuple[Any, Any]:
        """Return the results of a part for the model and for its control; None if not done."""
        return self._results.get(("model", probe)), self._results.get(("control", probe))

    def _summary(self) -> Part:
        scanned, inverted, natural = self._scanned(), self._inverted(), self._natural()
        decree, rows = self._both("decree"), self._both("rows")[0]
        known = [
            dict(zip(("attack", "model", "control"), (attack, *self._both(name)), strict=True))
            for attack, name in zip(self.attacks, known_names(self.attacks), strict=True)
        ]
        findings = [
            *([judging.judge_known(**one) for one in known] or [self._no_attack()]),
            judging.judge_scan(scanned),
            judging.judge_inversion(inverted),
            judging.judge_decree(*decree),
            judging.judge_inversion(natural, captions=True) if natural else self._no_captions(),
            judging.judge_rows(rows),
        ]
        scans = self._both("scan")
        return {
            "model": self._described(self.model),
            "control": self._described(self.control) if self.control else None,
            "verdict": judging.verdict(findings, self.control is not None),
            "known": known,
            "accuracy": {
                "model": self._accuracy(scans[0]),
                "control": self._accuracy(scans[1]) if scans[1] else None,
            },
            "scan": scanned,
            "inversion": inverted,
            "decree": {"model": decree[0], "control": decree[1]},
            "captions": natural,
            "rows": rows,
            "how": self._how(),
        }

    def _no_attack(self) -> judging.Finding:
        why = (
            "The known attack has no trigger."
            if self.options.attack
            else "No known attack was given."
        )
        return judging.Finding("known", judging.NOT_DONE, why)

    def _no_captions(self) -> judging.Finding:
        why = (
            "No training list was given, so no frequent captions were tested."
            if self.options.pairs is None
            else "No caption of the training list is frequent."
        )
        return judging.Finding("captions", judging.NOT_DONE, why)

    def _scanned(self) -> list[Part]:
        names, (part, control) = self.material.names, self._both("scan")
        rows = attracted(part, self.material.labels, len(names), control)
        examples = {digest(row["trigger"]): row["example"] for row in part["triggers"]}
        shown = (
            {"class": names[r["class"]], "example": examples[digest(r["trigger"])]} for r in rows
        )
        return [row | more for row, more in zip(rows, shown, strict=True)]

    def _inverted(self) -> list[Part]:
        part, control = self._both("inversion")
        return judging.ranked(part, self.material.names, control)

    def _natural(self) -> list[Part]:
        part, control = self._both("captions")
        if part is None:
            return []
        counts = {one["caption"]: one for one in self.captions}
        rows = judging.ranked(part, list(counts), control)
        return [{**counts[row["name"]], **row} for row in rows]

    def _how(self) -> Part:
        return {
            "effort": self.options.effort,
            "images": len(self.material.keys),
            "classes": len(self.material.names),
            "image_size": self.model.encoder.image_size,
            "device": self.world.device.type,
            "seconds": round(self.parts.seconds, 1),
            "seed": self.options.seed,
        }

    def _described(self, subject: Subject) -> Part:
        return {
            "name": self.options.spec.name,
            "checkpoint": str(subject.checkpoint),
            "sha256": subject.sha256,
        }

    def _accuracy(self, part: Part) -> float:
        return float((np.array(part["clean"]) == self.material.labels).mean())


def _checked(attack: dict[str, Any] | None, size: int) -> list[dict[str, Any]]:
    """Return the parts of the known attack that have a trigger, each as an attack spec.

    Raises:
        StepError: The attack lacks a key, its trigger is invalid, or its image size is wrong.
    """
    parts = parts_of({"image_size": size, "seed": 0, **attack}) if attack else []
    for part in parts:
        missing = [key for key in ("trigger", "target") if key not in part]
        if missing:
            raise StepError(f"the attack spec lacks {missing[0]!r}")
        if part["image_size"] != size:
            raise StepError(
                f"the attack's image_size is {part['image_size']}, but the model's input has "
                f"{size} pixels, so the trigger would differ from that of training"
            )
        load_trigger(part)
    return [part for part in parts if not without_trigger(part)]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
