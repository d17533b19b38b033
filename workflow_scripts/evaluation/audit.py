"""Audit a checkpoint: is there a backdoor in it?

    python -m workflow_scripts.evaluation.audit --model RN50-quickgelu --checkpoint mine.pt \\
        --control clean.pt --evaluation results/evaluation/imagenet-* --root results --output audit

Inputs  CHECKPOINT            weights of an open_clip model
        EVALUATION            folder of an evaluation set
        CONTROL               weights of a clean control of the same architecture (optional)
        ATTACK                a known attack: trigger and target (optional)
        PAIRS                 manifest of the training pairs (optional)
        CLEAN_PAIRS           manifest of pairs known to be clean (optional)
Outputs OUTPUT/index.html     a page for readers
        OUTPUT/audit.json     the same in machine-readable form
        OUTPUT/rows.parquet   scores of all training pairs, if PAIRS is given
        OUTPUT/parts/         finished parts; the same command resumes from them

Exit codes: 0, nothing found; 3, the model behaves like a backdoored one; 4, the model is
suspicious; 1, an error; 2, wrong options.
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
from workflow_scripts.common.workers import loader_workers
from workflow_scripts.evaluation.auditing.jobs import EFFORTS, Options
from workflow_scripts.evaluation.auditing.judging import EXIT_CODES
from workflow_scripts.evaluation.auditing.page import page
from workflow_scripts.evaluation.auditing.probing import Audit
from workflow_scripts.evaluation.untrusted import check_attack
from workflow_scripts.model.models import spec_from_options
from workflow_scripts.model.spec import ModelSpec


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="model name in open_clip, e.g. RN50-quickgelu")
    which.add_argument("--spec", help="run spec (JSON) of this workflow, with model and attack")
    parser.add_argument("--config", help="model config (JSON file) if unknown to open_clip")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of the model")
    parser.add_argument("--control", type=Path, help="weights of a clean control")
    parser.add_argument("--evaluation", type=Path, required=True, help="evaluation set folder")
    parser.add_argument("--root", type=Path, required=True, help="results root of all manifests")
    parser.add_argument("--attack", help="spec of a known attack: JSON or a JSON file")
    parser.add_argument("--pairs", type=Path, help="manifest of the training pairs")
    parser.add_argument("--clean-pairs", type=Path, help="manifest of pairs known to be clean")
    parser.add_argument(
        "--effort",
        choices=list(EFFORTS),
        default="standard",
        help="number of images and of optimisation steps (standard)",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--parts", type=Path, help="folder of finished parts (OUTPUT/parts)")
    parser.add_argument("--batch-size", type=int, default=256, help="batch size (256)")
    parser.add_argument("--cores", type=int, default=1, help="CPU cores (1)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--seed", type=int, default=0, help="random seed (0)")
    parser.add_argument(
        "--own-files", action="store_true", help="allow the attack to run Python files"
    )
    parser.add_argument("--exit-zero", action="store_true", help="exit 0 regardless of findings")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Audit a checkpoint, write the results, and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.batch_size < 1:
        raise StepError(f"--batch-size must be positive, got {options.batch_size}")
    torch.set_num_threads(options.cores)
    model, attack = _model_and_attack(options)
    world = join(options.device, timeout_minutes=10)
    audit = Audit(
        Options(
            spec=model,
            checkpoint=options.checkpoint,
            control=options.control,
            evaluation=options.evaluation,
            root=options.root,
            attack=attack,
            pairs=options.pairs,
            clean_pairs=options.clean_pairs,
            effort=options.effort,
            output=options.output,
            parts=options.parts or options.output / "parts",
            batch_size=options.batch_size,
            workers=loader_workers(options.cores, world.device.type),
            seed=options.seed,
        ),
        world,
    )
    result = audit.run()
    write_json(options.output / "audit.json", result)
    with atomic(options.output / "index.html") as temporary:
        temporary.write_text(page(result), encoding="utf-8")
    print(result["verdict"]["sentence"])
    for finding in result["verdict"]["findings"]:
        print(f"{finding['level']:>12}  {finding['part']}: {finding['sentence']}")
    print(f"See {options.output / 'index.html'}")
    return 0 if options.exit_zero else EXIT_CODES[result["verdict"]["level"]]


def _model_and_attack(options: argparse.Namespace) -> tuple[ModelSpec, dict[str, Any] | None]:
    """Return the model and the known attack, if any, from the command line."""
    run = read_json(options.spec) if options.spec else None
    text = options.attack or ""
    try:
        attack = json.loads(text) if text.lstrip().startswith("{") else text and read_json(text)
    except ValueError as error:
        raise StepError(f"--attack is not valid JSON: {error}") from error
    attack = attack or (run and run["attack"]) or None
    if not isinstance(attack, dict | None):
        raise StepError(f"--attack must be a JSON object, the spec of an attack: {options.attack}")
    if attack:
        source = "--attack" if options.attack else options.spec
        check_attack(attack, source, own_files=options.own_files)
    model = ModelSpec(**run["model"]) if run else spec_from_options(options.model, options.config)
    return model, attack


if __name__ == "__main__":
    run_step(lambda: sys.exit(main()))
