"""What the target `audit` looks at, and which of the demo's models are audited."""

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
    """Check what is to be audited, if anything is.

    Raises:
        StepError: A file is not there, or open_clip does not know the model, or there is no such
            trigger or option.
    """
    audit = config["audit"]
    if audit is None:
        return
    for key in _FILES:
        if audit[key] is not None and not Path(audit[key]).is_file():
            raise StepError(f"config: 'audit.{key}' is {audit[key]!r}, but there is no such file")
    if audit["config"] is None:
        model = {"name": audit["model"], "config": None, "pretrained": None}
        try:
            check_model(model, "audit")
        except StepError as error:
            # Elsewhere a model is a mapping with a name.
            raise StepError(str(error).replace("'audit.name'", "'audit.model'")) from error
    if audit["attack"] is not None:
        trigger = dict(audit["attack"]["trigger"])
        place = "audit.attack.trigger"
        check_variant(
            "trigger", trigger.pop("name"), trigger, lambda option: f"{place}.{option or 'name'}"
        )


def audit_arguments(config: Spec, plan: Plan) -> list[str]:
    """Return the command line of the step that audits what the config names."""
    audit, results = config["audit"], config["pathvars"]["results"]
    checkpoint = Path(audit["checkpoint"])
    folder = checkpoint.absolute().parent.name
    name = f"{folder}-{checkpoint.stem}-{digest(str(checkpoint.absolute()))}"
    made = audited_evaluation(config, plan)
    told = audit | {
        "attack": audit["attack"] and json.dumps(audit["attack"]),
        "evaluation": audit["evaluation"] or f"{results}/{made}",
        "root": audit["root"] or results,
        "output": audit["output"] or f"{results}/audits/{name}",
        **_execution(config),
    }
    return options(told)


def _execution(config: Spec) -> Spec:
    return {
        "batch_size": config["execution"]["evaluation_batch_size"],
        "device": "cuda" if config["resources"]["measure"].get("gpu") else "cpu",
    }


def audited_evaluation(config: Spec, plan: Plan) -> str | None:
    """Return the folder, relative to the results, of the evaluation set that the workflow makes.

    None if the audit has its own.
    """
    if config["audit"]["evaluation"] is not None:
        return None
    wanted = config["evaluation"]
    made = [one for one, spec in plan.data.evaluations.items() if spec["name"] == wanted]
    return f"evaluation/{made[0]}"


def demo_audit_files(plan: Plan, name: str) -> Spec:
    """Return what one of the demo's audits reads, relative to the results.

    ``poisoned`` is the first start model of the experiment ``main`` that has a clean control,
    beside this control; ``clean`` is the control with nothing to compare it with, after the other
    audit, whose results of it are used.

    Args:
        plan: Of the demo.
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
    """Return the files that one of the demo's audits reads, below ``<results>``."""
    files = demo_audit_files(plan, name)
    return [f"<results>/{file}" for key, file in files.items() if key != "run" and file]


def demo_audit_arguments(config: Spec, plan: Plan, name: str) -> list[str]:
    """Return the command line of one of the demo's audits."""
    results, files = config["pathvars"]["results"], demo_audit_files(plan, name)
    told = {
        key: files[key] and f"{results}/{files[key]}"
        for key in ("checkpoint", "control", "pairs", "clean_pairs")
    }
    return options(
        {
            **told,
            "spec": f"{results}/workflow/specs/pretraining/{files['run']}.json",
            "evaluation": str(Path(results, files["evaluation"]).parent),
            "root": results,
            "output": f"{results}/audits/{name}",
            "parts": f"{results}/audits/parts",
            **_execution(config),
        }
    )
