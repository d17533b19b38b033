"""Verify a model of the zoo: the digest of its weights and the numbers on its card.

    python -m workflow_scripts.evaluation.zoo.check --folder results/zoo/<model> \\
        --evaluation results/evaluation/<set> --root results

Inputs  FOLDER       folder of the model, with card.json
        EVALUATION   folder of the evaluation set named on the card
Outputs OUTPUT       JSON: the digest, and each number as stated on the card and as measured
"""

import argparse
from pathlib import Path
from typing import Any

import open_clip
import torch

from workflow_scripts.common.distributed import ProcessGroup, join
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json, sha256, write_json
from workflow_scripts.common.workers import loader_workers
from workflow_scripts.evaluation.untrusted import check_attack
from workflow_scripts.evaluation.zero_shot import Evaluator
from workflow_scripts.evaluation.zoo.write import CARD, CONFIG, NUMBERS
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.poison.instances import FILE as INSTANCES

_READ = ("name", "architecture", "attack", "measured", "evaluation", "file", "sha256")
_MOST = 0.005
"""Tolerated difference, which other hardware or number formats may cause."""


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and verify a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder of the model")
    parser.add_argument("--evaluation", type=Path, required=True, help="evaluation set folder")
    parser.add_argument("--root", type=Path, required=True, help="results root of the set's tars")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument(
        "--own-files", action="store_true", help="allow the card's attack to run Python files"
    )
    parser.add_argument("--batch-size", type=int, default=256, help="batch size (256)")
    parser.add_argument("--cores", type=int, default=1, help="CPU cores (1)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.cores)
    world = join(options.device, timeout_minutes=10)
    report = check(
        options.folder,
        options.evaluation,
        options.root,
        world,
        batch_size=options.batch_size,
        workers=loader_workers(options.cores, world.device.type),
        own_files=options.own_files,
    )
    if options.output:
        write_json(options.output, report)
    for name, (stated, measured) in report["numbers"].items():
        print(f"{name:>10}: {stated:.4f} on the card, {measured:.4f} measured")


def check(
    folder: Path,
    evaluation: Path,
    root: Path,
    world: ProcessGroup,
    *,
    batch_size: int = 256,
    workers: int = 0,
    own_files: bool = False,
) -> dict[str, Any]:
    """Verify a model, and return its digest and numbers.

    Args:
        folder: Folder of the model.
        evaluation: Folder of the evaluation set.
        root: Results root of its tars.
        world: The process group.
        batch_size: Batch size.
        workers: Loader processes.
        own_files: Allow the attack to name Python files, which are executed.

    Raises:
        StepError: The card is malformed or names a Python file without permission, the digest of
            the weights differs, or a number differs by more than half a percentage point.
    """
    card = _card(folder / CARD, own_files)
    path = folder / card["file"]
    if path.parent != folder or not path.is_file():
        raise StepError(f"{folder} lacks the weights {card['file']!r} named on its card")
    found = sha256(path)
    if found != card["sha256"]:
        raise StepError(
            f"{path} has the SHA-256 {found[:16]}..., but its card says {card['sha256'][:16]}...; "
            "the file is damaged or belongs to another model"
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
        workers=workers,
        world=world,
        instances=instances if instances.is_file() else None,
    )
    now = evaluator(encoder).fractions()
    evaluator.close()
    unknown = [name for name in card["measured"] if NUMBERS.get(name) not in now]
    if unknown:
        raise StepError(f"{folder}: the card has a number {unknown[0]!r} that cannot be measured")
    numbers = {name: (stated, now[NUMBERS[name]]) for name, stated in card["measured"].items()}
    for name, (stated, measured) in numbers.items():
        if not abs(stated - measured) <= _MOST:  # rejects NaN as well
            raise StepError(
                f"{folder}: the card states {stated:.4f} for {name}, but it is {measured:.4f} on "
                f"{evaluation}; check that this is the evaluation set {card['evaluation']}"
            )
    return {"name": card["name"], "sha256": found, "numbers": numbers}


def _card(path: Path, own_files: bool) -> dict[str, Any]:
    """Read a card from an untrusted source."""
    card = read_json(path)
    lacking = [key for key in _READ if not isinstance(card, dict) or key not in card]
    if lacking:
        raise StepError(f"{path} is not a model card: it has no {lacking[0]!r}")
    check_attack(card["attack"], path, own_files=own_files)
    texts = [card[key] for key in ("name", "architecture", "file", "sha256")]
    if not all(isinstance(text, str) for text in texts) or not isinstance(card["measured"], dict):
        raise StepError(f"{path} is not a model card: its names, digest or numbers are malformed")
    return card


def _spec(card: dict[str, Any], config: Any) -> ModelSpec:
    if card["architecture"] in open_clip.list_models():
        return ModelSpec(name=card["architecture"])
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise StepError(f"{CONFIG} of the model {card['name']} has no 'model_cfg'")
    return ModelSpec(name=card["architecture"], config=config["model_cfg"])


if __name__ == "__main__":
    run_step(main)
