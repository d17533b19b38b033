"""Inputs of the target `audit`, and which of the demo's models are audited."""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.check_variants import check_variant
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.known_models import check_model
from workflow_scripts.experiments.layout import options

Spec = dict[str, Any]

_FILES = ("config", "checkpoint", "control", "pairs", "clean_pairs")


def check_audit(config: Spec) -> None:
    """Check the section ``audit``, if it is given.

    Raises:
        StepError: A file does not exist, open_clip does not know the model, or the trigger or one
            of its options does not exist.
    """
    audit = config["audit"]
    if audit is None:
        return
    for key in _FILES:
        if audit[key] is not None and not Path(audit[key]).is_file():
            raise StepError(f"config: 'audit.{key}' is {audit[key]!r}, which is not a file")
    if audit["config"] is None:
        model = {"name": audit["model"], "config": None, "pretrained": None}
        try:
            check_model(model, "audit")
        except StepError as error:
            # In other sections, a model is a mapping with a name.
            raise StepError(str(error).replace("'audit.name'", "'audit.model'")) from error
    if audit["attack"] is not None:
        trigger = dict(audit["attack"]["trigger"])
        place = "audit.attack.trigger"
        check_variant(
            "trigger", trigger.pop("name"), trigger, lambda option: f"{place}.{option or 'name'}"
        )


def audit_arguments(config: Spec, plan: Plan) -> list[str]:
    """Return the arguments of the audit step for the checkpoint given in the config."""
    audit, results = config["audit"], config["pathvars"]["results"]
    checkpoint = Path(audit["checkpoint"])
    folder = checkpoint.absolute().parent.name
    name = f"{folder}-{checkpoint.stem}-{digest(str(checkpoint.absolute()))}"
    made = audited_evaluation(config, plan)
    arguments = audit | {
        "attack": audit["attack"] and json.dumps(audit["attack"]),
        "evaluation": audit["evaluation"] or f"{results}/{made}",
        "root": audit["root"] or results,
        "output": audit["output"] or f"{results}/audits/{name}",
        **_execution(config),
    }
    return options(arguments)


def _execution(config: Spec) -> Spec:
    return {
        "batch_size": config["execution"]["evaluation_batch_size"],
        "device": "auto" if config["resources"]["measure"].get("gpu") else "cpu",
    }


def audited_evaluation(config: Spec, plan: Plan) -> str | None:
    """Return the folder of the workflow's evaluation set, relative to the results.

    None if the audit specifies its own evaluation set.
    """
    if config["audit"]["evaluation"] is not None:
        return None
    wanted = config["evaluation"]
    made = [name for name, spec in plan.data.evaluations.items() if spec["name"] == wanted]
    return f"evaluation/{made[0]}"


def demo_audit_files(plan: Plan, name: str) -> Spec:
    """Return the files that one of the demo's audits reads, relative to the results.

    ``poisoned`` compares the first start model of the experiment ``main`` that has a clean control
    with this control. ``clean`` audits the control by itself; it runs after the other audit and
    reuses its results for the control.

    Args:
        plan: The expanded plan of the demo.
        name: ``poisoned`` or ``clean``.
    """
    rows = plan.experiments["main"]
    control = next(row for row in rows if row["kind"] == "baseline")
    start = control["start"]
    split = next(
        plan.runs[row["run"]]["split_id"]
        for row in rows
        if row["kind"] == "cleaning" and row["start"] == start
    )
    poisoned = name == "poisoned"
    run = plan.models[start]["run"] if poisoned else control["run"]
    spec = plan.runs[run]
    clean = f"pretraining/{control['run']}/model.pt"
    return {
        "run": run,
        "checkpoint": f"pretraining/{run}/model.pt",
        "control": clean if poisoned else None,
        "evaluation": f"evaluation/{spec['evaluation']}/manifest.parquet",
        "pairs": f"attacks/{spec['attack_id']}/manifest.parquet",
        "clean_pairs": f"splits/{split}/manifest.parquet",
        "after": None if poisoned else "audits/poisoned/audit.json",
    }


def demo_audit_inputs(plan: Plan, name: str) -> list[str]:
    """Return the paths of the files that one of the demo's audits reads."""
    files = demo_audit_files(plan, name)
    return [f"<results>/{file}" for key, file in files.items() if key != "run" and file]


def demo_audit_arguments(config: Spec, plan: Plan, name: str) -> list[str]:
    """Return the arguments of one of the demo's audits."""
    results, files = config["pathvars"]["results"], demo_audit_files(plan, name)
    arguments = {
        key: files[key] and f"{results}/{files[key]}"
        for key in ("checkpoint", "control", "pairs", "clean_pairs")
    }
    return options(
        {
            **arguments,
            "spec": f"{results}/workflow/specs/pretraining/{files['run']}.json",
            "evaluation": str(Path(results, files["evaluation"]).parent),
            "root": results,
            "output": f"{results}/audits/{name}",
            "parts": f"{results}/audits/parts",
            **_execution(config),
        }
    )
