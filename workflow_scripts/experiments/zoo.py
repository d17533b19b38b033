"""Which models and which data the target `zoo` describes."""

from typing import Any

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.layout import pairs_of

Spec = dict[str, Any]


def check_zoo(config: Spec) -> None:
    """Check the experiments that the zoo names.

    Raises:
        StepError: One is not declared.
    """
    for name in config["zoo"]["experiments"]:
        if name not in config["experiments"]:
            raise StepError(
                f"config: 'zoo.experiments' is {name!r}, which is not declared; "
                f"{nearest(name, config['experiments'])}"
            )


def zoo_models(config: Spec, plan: Plan) -> dict[str, str]:
    """Return the models of the zoo: name to folder, relative to the results.

    They are all start models and clean controls of its experiments, and the cleaned models whose
    rows of the run table have the values of ``where``.
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
    """Return the folders of manifests that the zoo's models were trained and measured on."""
    runs = [plan.runs[folder.split("/")[1]] for folder in zoo_models(config, plan).values()]
    folders = [pairs_of(run) for run in runs] + [f"evaluation/{run['evaluation']}" for run in runs]
    return sorted(set(folders))


def evaluation_of(plan: Plan, folder: str) -> str:
    """Return the id of the evaluation set of the model in a folder."""
    return str(plan.runs[folder.split("/")[1]]["evaluation"])
