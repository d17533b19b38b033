"""Audit a checkpoint: is there a backdoor in it?

    python -m workflow_scripts.evaluation.audit --model RN50 --checkpoint mine.pt \\
        --control clean.pt --evaluation results/evaluation/imagenet-* --root results --output audit

Needs   CHECKPOINT            weights of an open_clip model
        EVALUATION            folder of an evaluation set
        CONTROL               weights of a clean model of the same kind, to compare with (optional)
        ATTACK                a known attack: trigger and target (optional)
        PAIRS                 manifest of the training pairs (optional)
        CLEAN_PAIRS           manifest of pairs known to be clean (optional)
Makes   OUTPUT/index.html     a page for people
        OUTPUT/audit.json     the same for machines
        OUTPUT/rows.parquet   scores of all training pairs, if these are given
        OUTPUT/parts/         what is done already; the same command continues from there

Exit code: 0, nothing found; 3, the model behaves like a backdoored one; 4, something is suspicious;
1, an error; 2, wrong options.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.common.distributed import join
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json, write_json
from workflow_scripts.evaluation.auditing.jobs import EFFORTS, Options
from workflow_scripts.evaluation.auditing.judging import EXIT_CODES
from workflow_scripts.evaluation.auditing.page import page
from workflow_scripts.evaluation.auditing.probing import Audit
from workflow_scripts.model.models import spec_from_options
from workflow_scripts.model.spec import ModelSpec


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="open_clip's name of the model, e.g. RN50")
    which.add_argument("--spec", help="run spec (JSON) of this workflow: its model and its attack")
    parser.add_argument("--config", help="JSON file with the model's config if open_clip lacks it")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of the model")
    parser.add_argument("--control", type=Path, help="weights of a clean control")
    parser.add_argument("--evaluation", type=Path, required=True, help="evaluation set's folder")
    parser.add_argument("--root", type=Path, required=True, help="results root of all manifests")
    parser.add_argument("--attack", help="spec of a known attack: JSON or a file of it")
    parser.add_argument("--pairs", type=Path, help="manifest of the training pairs")
    parser.add_argument("--clean-pairs", type=Path, help="manifest of pairs known to be clean")
    parser.add_argument("--effort", choices=list(EFFORTS), default="standard", help="how thorough")
    parser.add_argument("--output", type=Path, required=True, help="folder of the result")
    parser.add_argument("--parts", type=Path, help="folder of finished parts (OUTPUT/parts)")
    parser.add_argument("--batch-size", type=int, default=256, help="images at once (256)")
    parser.add_argument("--workers", type=int, default=0, help="loader processes (0)")
    parser.add_argument("--threads", type=int, default=1, help="threads, on a CPU (1)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
    parser.add_argument("--exit-zero", action="store_true", help="exit 0 whatever is found")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Audit a checkpoint, write the result, and return the exit code."""
    given = _parser().parse_args(arguments)
    if given.batch_size < 1:
        raise StepError(f"--batch-size {given.batch_size} makes no sense; it has to be 1 or more")
    torch.set_num_threads(given.threads)
    model, attack = _model_and_attack(given)
    world = join(given.device, timeout_minutes=10)
    audit = Audit(
        Options(
            spec=model,
            checkpoint=given.checkpoint,
            control=given.control,
            evaluation=given.evaluation,
            root=given.root,
            attack=attack,
            pairs=given.pairs,
            clean_pairs=given.clean_pairs,
            effort=given.effort,
            output=given.output,
            parts=given.parts or given.output / "parts",
            batch_size=given.batch_size,
            workers=given.workers,
            seed=given.seed,
        ),
        world,
    )
    result = audit.run()
    write_json(given.output / "audit.json", result)
    with atomic(given.output / "index.html") as temporary:
        temporary.write_text(page(result), encoding="utf-8")
    print(result["verdict"]["sentence"])
    for finding in result["verdict"]["findings"]:
        print(f"{finding['level']:>12}  {finding['part']}: {finding['sentence']}")
    print(f"See {given.output / 'index.html'}")
    return 0 if given.exit_zero else EXIT_CODES[result["verdict"]["level"]]


def _model_and_attack(given: argparse.Namespace) -> tuple[ModelSpec, dict[str, Any] | None]:
    """Return the model of the command line, and the known attack, if any."""
    run = read_json(given.spec) if given.spec else None
    text = given.attack or ""
    try:
        attack = json.loads(text) if text.lstrip().startswith("{") else text and read_json(text)
    except ValueError as error:
        raise StepError(f"--attack is not valid JSON: {error}") from error
    attack = attack or (run and run["attack"]) or None
    if not isinstance(attack, dict | None):
        raise StepError(f"{given.attack} has to hold an object, the spec of an attack")
    model = ModelSpec(**run["model"]) if run else spec_from_options(given.model, given.config)
    return model, attack


if __name__ == "__main__":
    run_step(lambda: sys.exit(main()))
