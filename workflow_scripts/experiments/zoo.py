"""Selects the models and data that the target `zoo` describes."""

from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.layers import check_declared
from workflow_scripts.experiments.layout import pairs_of, run_of
from workflow_scripts.experiments.targets import of_results

Spec = dict[str, Any]


def check_zoo(config: Spec) -> None:
    """Check that the experiments of the zoo are declared.

    Raises:
        StepError: An experiment is not declared.
    """
    for name in config["zoo"]["experiments"]:
        check_declared("zoo.experiments", name, config["experiments"])


def zoo_models(config: Spec, plan: Plan) -> dict[str, str]:
    """Return the models of the zoo: name to folder, relative to the results.

    These are all start models and clean controls of its experiments, and the cleaned models whose
    rows in the run table match ``where``.
    """
    where = config["zoo"]["where"]
    found = {}
    for experiment in config["zoo"]["experiments"]:
        for row in plan.experiments[experiment]:
            chosen = where is not None and all(row.get(k) in v for k, v in where.items())
            if row["kind"] != "cleaning" or chosen:
                name = row["folder"].partition("/")[2].replace("/", "-")
                found[name] = row["folder"]
    return found


def zoo_data(config: Spec, plan: Plan) -> list[str]:
    """Return the folders of the manifests that the zoo's models were trained and evaluated on."""
    runs = _runs(config, plan)
    folders = [pairs_of(run) for run in runs] + [f"evaluation/{run['evaluation']}" for run in runs]
    return sorted(set(folders))


def zoo_files(config: Spec, plan: Plan) -> list[str]:
    """Return the files of the target ``zoo``.

    Raises:
        StepError: ``zoo.where`` is given, and no cleaned model has its values.
    """
    if config["zoo"]["where"] and all(r["kind"] != "cleaning" for r in _runs(config, plan)):
        raise StepError(
            f"config: 'zoo.where' is {config['zoo']['where']}, which matches no cleaned model "
            f"of {', '.join(config['zoo']['experiments'])}; the run tables "
            "(experiments/*/runs.csv) list the values"
        )
    data = (f"zoo/data/{folder}/croissant.json" for folder in zoo_data(config, plan))
    return of_results(["zoo/README.md", *data])


def evaluation_of(plan: Plan, folder: str) -> str:
    """Return the id of the evaluation set of the model in a folder."""
    return str(plan.runs[run_of(folder)]["evaluation"])


def _runs(config: Spec, plan: Plan) -> list[Spec]:
    return [plan.runs[run_of(folder)] for folder in zoo_models(config, plan).values()]
