"""Check a model of the zoo: that its weights are those of its card, and its numbers true.

    python -m workflow_scripts.evaluation.zoo.check --folder results/zoo/<model> \\
        --evaluation results/evaluation/<set> --root results

Needs   FOLDER       of the model, with card.json
        EVALUATION   folder of the evaluation set that its card names
Makes   OUTPUT       JSON: the digest, and each number as on the card and as measured again
"""

import argparse
from pathlib import Path
from typing import Any

import open_clip
import torch

from workflow_scripts.common.attacks import VARIANTS, named, parts_of
from workflow_scripts.common.distributed import World, join
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json, sha256, write_json
from workflow_scripts.evaluation.zero_shot import Evaluator
from workflow_scripts.evaluation.zoo.write import CARD, CONFIG, NUMBERS
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.poison.instances import FILE as INSTANCES

_READ = ("name", "architecture", "attack", "measured", "evaluation", "file", "sha256")
_MOST = 0.005
"""Difference that other hardware or number formats may make."""


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and check a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="of the model")
    parser.add_argument("--evaluation", type=Path, required=True, help="evaluation set's folder")
    parser.add_argument("--root", type=Path, required=True, help="results root of the set's tars")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument(
        "--own-files", action="store_true", help="run Python files that the card's attack names"
    )
    parser.add_argument("--batch-size", type=int, default=256, help="images at once (256)")
    parser.add_argument("--threads", type=int, default=1, help="threads, on a CPU (1)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    world = join(options.device, timeout_minutes=10)
    report = check(
        options.folder,
        options.evaluation,
        options.root,
        world,
        batch_size=options.batch_size,
        own_files=options.own_files,
    )
    if options.output:
        write_json(options.output, report)
    for name, (told, measured) in report["numbers"].items():
        print(f"{name:>10}: {told:.4f} on the card, {measured:.4f} measured again")


def check(
    folder: Path,
    evaluation: Path,
    root: Path,
    world: World,
    *,
    batch_size: int = 256,
    own_files: bool = False,
) -> dict[str, Any]:
    """Return a model's digest and numbers, checked.

    Args:
        folder: Of the model.
        evaluation: Folder of the evaluation set.
        root: Results root of its tars.
        world: This process.
        batch_size: Images at once.
        own_files: Parts of the attack may be Python files, which are run.

    Raises:
        StepError: The card is not one, or names such a file; the weights are others than the
            card's; or a number differs by more than half a percentage point.
    """
    card = _card(folder / CARD, own_files)
    path = folder / card["file"]
    if path.parent != folder or not path.is_file():
        raise StepError(f"{folder} lacks the weights {card['file']!r} that its card names")
    found = sha256(path)
    if found != card["sha256"]:
        raise StepError(
            f"{path} has the SHA-256 {found[:16]}..., but its card says {card['sha256'][:16]}...; "
            "it is damaged or another model"
        )
    spec = _spec(card, read_json(folder / CONFIG))
    model = models.loaded(spec, path).to(world.device).eval()
    encoder = Encoder(model, spec)
    instances = folder / INSTANCES
    evaluator = Evaluator(
        folder=evaluation,
        root=root,
        attack=card["attack"],
        encoder=encoder,
        batch_size=batch_size,
        workers=0,
        world=world,
        instances=instances if instances.is_file() else None,
    )
    now = evaluator(encoder).fractions()
    evaluator.close()
    unknown = [name for name in card["measured"] if NUMBERS.get(name) not in now]
    if unknown:
        raise StepError(f"{folder}: the card has a number {unknown[0]!r}, which is not measured")
    numbers = {name: (told, now[NUMBERS[name]]) for name, told in card["measured"].items()}
    for name, (told, measured) in numbers.items():
        if not abs(told - measured) <= _MOST:  # NaN is refused too
            raise StepError(
                f"{folder}: the card says {told:.4f} for {name}, but it is {measured:.4f} on "
                f"{evaluation}; is that the set {card['evaluation']}?"
            )
    return {"name": card["name"], "sha256": found, "numbers": numbers}


def _card(path: Path, own_files: bool) -> dict[str, Any]:
    """Read a card that somebody else may have written."""
    card = read_json(path)
    lacking = [key for key in _READ if not isinstance(card, dict) or key not in card]
    if lacking:
        raise StepError(f"{path} is not the card of a model: it has no {lacking[0]!r}")
    try:
        parts = parts_of(card["attack"])
        names = [named(part[key])[0] for part in parts for key in VARIANTS if key in part]
    except (KeyError, TypeError, AttributeError) as error:
        raise StepError(f"{path} does not say what the attack is") from error
    for name in names:
        if str(name).endswith(".py") and not own_files:
            raise StepError(
                f"the attack in {path} has the file {name}, which checking the model would run; "
                "look at that file, and allow it with --own-files"
            )
    return card


def _spec(card: dict[str, Any], config: dict[str, Any]) -> ModelSpec:
    known = card["architecture"] in open_clip.list_models()
    return ModelSpec(name=card["architecture"], config=None if known else config["model_cfg"])


if __name__ == "__main__":
    run_step(main)
