"""Poison a subset: trigger the images of some pairs and change their captions.

Needs   ATTACK                     spec of the attack (JSON)
        MANIFEST                   of the subset, unpoisoned
Makes   OUTPUT/manifest.parquet    the same rows in the same order, as an overlay on MANIFEST (see
                                   data/overlay.py) that holds the victims'; these point to
        OUTPUT/images.tar          their triggered images: PNG, squashed to the model's input size
        OUTPUT/survival.csv        how much the trigger changes, and that storing changes nothing
        OUTPUT/contact_sheet.png   some victims before and after, to be looked at
        OUTPUT/instances.parquet   if the attack is on instances: these images, as a manifest whose
                                   labels are the numbers of the attack's parts

The variants of victim_choices and of victim_captions that the attack names decide which pairs are
drawn, and what their captions become. An attack on no pair at all (poisoned: 0) gives the subset
itself, for a model without a backdoor. The bytes are the same for any number of workers.
"""

import argparse
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json, write_json
from workflow_scripts.common.workers import worker_pool
from workflow_scripts.data.manifest import read_manifest, write_changed
from workflow_scripts.poison.contact_sheet import write_contact_sheet
from workflow_scripts.poison.instances import write_instances
from workflow_scripts.poison.storing import places_of, survival, write_triggered
from workflow_scripts.poison.trigger import load_triggers
from workflow_scripts.poison.victims import check_attack, draw_victims


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and poison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attack", type=Path, required=True, help="its spec (JSON)")
    parser.add_argument("--manifest", type=Path, required=True, help="of the subset, unpoisoned")
    parser.add_argument("--root", type=Path, required=True, help="results root, above the tars")
    parser.add_argument("--output", type=Path, required=True, help="folder below the root")
    parser.add_argument("--workers", type=int, default=1, help="processes that trigger")
    options = vars(parser.parse_args(arguments))
    poison(**options | {"attack": read_json(options["attack"])})


def poison(
    attack: dict[str, Any],
    manifest: Path,
    *,
    root: Path,
    output: Path,
    workers: int = 1,
) -> None:
    """Write the poisoned manifest and all that goes with it into ``output``.

    Args:
        attack: The attack's spec.
        manifest: The subset's manifest.
        root: Folder that the manifest's tars are relative to; ``output`` lies in it.
        output: The attack's folder.
        workers: Processes; the result does not depend on their number.

    Raises:
        StepError: The attack cannot be carried out on this subset; the message says why.
    """
    check_attack(attack)
    load_triggers(attack)  # an invalid one fails here, before any work
    pairs = read_manifest(manifest)
    if pairs["poisoned"].any():
        raise StepError(f"{manifest} is poisoned already; an attack takes an unpoisoned subset")
    drawn, instances = draw_victims(pairs, attack)
    parts = drawn.parts.tolist()
    originals, tar = pairs.iloc[drawn.rows], output / "images.tar"
    victims = originals.assign(tar=_below(tar, root), caption=drawn.captions, poisoned=True)
    places = places_of(drawn.images)
    try:
        with worker_pool(workers, preload=["workflow_scripts.poison.storing"]) as pool:
            victims["offset"], victims["size"] = write_triggered(
                tar, places, parts, attack, root=root, pool=pool
            )
            table = survival(places, places_of(victims), parts, attack, root=root, pool=pool)
    except BrokenProcessPool as error:
        raise StepError(
            "a process that triggered images was ended from outside, most likely for lack of "
            "memory; give the job more memory or fewer threads"
        ) from error
    with atomic(output / "survival.csv") as temporary:
        table.to_csv(temporary, index=False)
    write_contact_sheet(
        output / "contact_sheet.png", originals, victims, attack, pairs=len(pairs), root=root
    )
    write_json(output / "spec.json", attack)
    if len(instances):
        write_instances(output, instances, root)
    # Captions that stay are the base's, and so are their tokens.
    captions = victims["caption"].where(victims["caption"] != originals["caption"])
    changed = victims.assign(caption=captions)
    write_changed(output / "manifest.parquet", manifest, changed)
    targets = " and ".join(dict.fromkeys(repr(part["target"]) for part in parts_of(attack)))
    print(f"{len(victims)} of {len(pairs)} pairs are poisoned; the target is {targets}")


def _below(path: Path, root: Path) -> str:
    relative = os.path.relpath(path.resolve(), root.resolve())
    if relative.startswith(".."):
        raise StepError(f"{path} does not lie below the results root {root}")
    return relative


if __name__ == "__main__":
    run_step(main)
