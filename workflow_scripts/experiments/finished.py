"""Determines which runs are finished."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.expand import Plan, expand

Spec = dict[str, Any]


def is_finished(plan: Plan, run: str, results: Path) -> bool:
    """Return whether a run's ``run.json``, which is written last, exists.

    A pre-training is finished if all models that are taken from it exist.
    """
    if plan.runs[run]["kind"] == "cleaning":
        folders = [f"cleaning/{run}"]
    else:
        folders = [f"pretraining/{m}" for m, spec in plan.models.items() if spec["run"] == run]
    return all((results / folder / "run.json").is_file() for folder in folders)


def finished_with_another_evaluation(config: Spec, plan: Plan, runs: Iterable[str]) -> list[str]:
    """Return a sentence for each other evaluation set with which some of ``runs`` are finished.

    Models are evaluated at every epoch, so the evaluation set is part of a run, and another one
    requires training again.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        runs: Ids of the pre-trainings that would be run.
    """
    results, runs = Path(config["pathvars"]["results"]), list(runs)
    begun = {folder.name for folder in results.glob("pretraining/*")}
    if not runs or begun <= plan.runs.keys():
        return []  # without expanding the config again, which takes seconds
    sentences = []
    for other in config["evaluations"]:
        if other != config["evaluation"]:
            try:
                with_other = expand(config | {"evaluation": other}, plan.data.inputs)
            except StepError:  # reported if that set is used
                continue
            # The same pre-trainings in the same order, but with other ids.
            names = dict(zip(_pretrainings(plan), _pretrainings(with_other), strict=True))
            finished = sum(is_finished(with_other, names[run], results) for run in runs)
            if finished:
                sentences.append(
                    f"{finished} of these runs are finished with `evaluation: {other}`; models are "
                    "evaluated at every epoch, so "
                    f"`evaluation: {config['evaluation']}` trains them again. To measure finished "
                    "models only, see docs/own-data.md."
                )
    return sentences


def _pretrainings(plan: Plan) -> list[str]:
    return [run for run, spec in plan.runs.items() if spec["kind"] == "pretraining"]
