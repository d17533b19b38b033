"""Zero-shot accuracy and attack success rate of a checkpoint of this trainer's or of open_clip's.

    python -m workflow_scripts.evaluation.audit --model RN50 --checkpoint my.pt \\
        --evaluation results/evaluation/imagenet-* --root results --attack spec.json
"""

import argparse
from pathlib import Path

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.distributed import join
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json, write_json
from workflow_scripts.evaluation.zero_shot import Evaluator, Scores
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.poison.instances import FILE as INSTANCES


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Zero-shot accuracy and attack success rate of a checkpoint of your own."
    )
    parser.add_argument("--model", required=True, help="open_clip's name of the model, e.g. RN50")
    parser.add_argument("--config", help="JSON file with the model's config if open_clip lacks it")
    parser.add_argument(
        "--checkpoint", required=True, help="weights: a file of torch.save or safetensors"
    )
    parser.add_argument("--evaluation", required=True, help="folder of the evaluation set")
    parser.add_argument("--root", required=True, help="results root of the set's tars")
    parser.add_argument(
        "--attack", required=True, help="attack spec (JSON), of the model's image size"
    )
    parser.add_argument("--output", help="JSON file for the result")
    parser.add_argument("--batch-size", type=int, required=True, help="images at once")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Evaluate a checkpoint and print the result."""
    options = _options().parse_args(arguments)
    if options.batch_size < 1:
        raise StepError(f"--batch-size {options.batch_size} makes no sense; it has to be 1 or more")
    world = join(options.device, timeout_minutes=10)
    spec = models.spec_from_options(options.model, options.config)
    encoder = Encoder(models.loaded(spec, options.checkpoint).to(world.device), spec)
    attack = read_json(options.attack)
    instances = Path(options.attack).with_name(INSTANCES)
    evaluator = Evaluator(
        folder=options.evaluation,
        root=options.root,
        attack=attack,
        instances=instances if instances.is_file() else None,
        encoder=encoder,
        batch_size=options.batch_size,
        workers=options.workers,
        world=world,
    )
    scores = evaluator(encoder)
    evaluator.close()
    if world.leads:
        _show(scores, [part["target"] for part in parts_of(attack)])
        if options.output:
            counts = {**evaluator.counts, "tied": scores.tied}
            write_json(options.output, {**counts, **scores.fractions()})
    world.leave()


def _show(scores: Scores, targets: list[str]) -> None:
    print(f"{scores.images} images")
    for part, target in zip(scores.parts, targets, strict=True):
        print(f"ASR with the target {target!r}: of {part.images} images")
    for name, value in scores.fractions().items():
        print(f"{name:>15} {100 * value:6.2f} %")


if __name__ == "__main__":
    run_step(main)
