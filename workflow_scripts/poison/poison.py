"""Poison a subset: apply the trigger to the images of some pairs and change their captions.

Inputs   ATTACK                     spec of the attack (JSON)
         MANIFEST                   manifest of the unpoisoned subset
Outputs  OUTPUT/manifest.parquet    the same rows in the same order: an overlay on MANIFEST (see
                                    data/overlay.py) with the victims' rows, which point to
         OUTPUT/images.tar          the triggered images: PNG, squashed to the model's input size
         OUTPUT/survival.csv        how much the trigger changes, and that storage is lossless
         OUTPUT/contact_sheet.png   some victims before and after, for visual inspection
         OUTPUT/instances.parquet   for attacks on instances: manifest of these images; labels are
                                    the indices of the attack's parts

Which pairs are poisoned and what their captions become is determined by the variants in
victim_choices and victim_captions that the attack names. An attack on no pairs (poisoned: 0) yields
the unpoisoned subset, for a clean control. The bytes do not depend on the number of workers.
"""

import argparse
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json, relative_to, write_json
from workflow_scripts.common.workers import worker_pool
from workflow_scripts.data.manifest import read_rows, write_changed
from workflow_scripts.poison.contact_sheet import write_contact_sheet
from workflow_scripts.poison.instances import write_instances
from workflow_scripts.poison.storing import places_of, write_triggered
from workflow_scripts.poison.trigger import load_triggers
from workflow_scripts.poison.victims import check_attack, draw_victims, read_pairs


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and poison the subset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attack", type=Path, required=True, help="attack spec (JSON)")
    parser.add_argument(
        "--manifest", type=Path, required=True, help="manifest of the unpoisoned subset"
    )
    parser.add_argument(
        "--root", type=Path, required=True, help="results root, which tar paths are relative to"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder below the root")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
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
    """Write the poisoned manifest and its accompanying files to ``output``.

    Args:
        attack: The attack's spec.
        manifest: The subset's manifest.
        root: Folder that tar paths in the manifest are relative to; contains ``output``.
        output: The attack's folder.
        workers: Number of worker processes; does not affect the result.

    Raises:
        StepError: The attack is invalid or not possible on this subset.
    """
    check_attack(attack)
    load_triggers(attack)  # fail on invalid triggers before doing any work
    # Its processes start while the manifest is read.
    pool = worker_pool(workers, preload=["workflow_scripts.poison.storing"])
    pairs = read_pairs(manifest, attack)
    if pairs["poisoned"].any():
        raise StepError(f"{manifest} is already poisoned; give the manifest of a clean subset")
    drawn, instances = draw_victims(pairs, attack)
    parts = drawn.parts.tolist()
    originals = pairs.iloc[drawn.rows]
    if "caption" not in originals:
        originals = originals.join(read_rows(manifest, drawn.rows, ["caption"]))
    tar = output / "images.tar"
    victims = originals.assign(tar=relative_to(tar, root), caption=drawn.captions, poisoned=True)
    try:
        with pool:
            victims["offset"], victims["size"], table = write_triggered(
                tar, places_of(drawn.images), parts, attack, root=root, pool=pool
            )
    except BrokenProcessPool as error:
        raise StepError(
            "a worker process was killed, most likely because memory ran out; give the job more "
            "memory or fewer threads"
        ) from error
    with atomic(output / "survival.csv") as temporary:
        table.to_csv(temporary, index=False)
    write_contact_sheet(
        output / "contact_sheet.png", originals, victims, attack, pairs=len(pairs), root=root
    )
    write_json(output / "spec.json", attack)
    if len(instances):
        write_instances(output, instances, root)
    # Unchanged captions are set to missing, so that they and their tokens are read from the base.
    captions = victims["caption"].where(victims["caption"] != originals["caption"])
    changed = victims.assign(caption=captions)
    write_changed(output / "manifest.parquet", manifest, changed)
    targets = " and ".join(dict.fromkeys(repr(part["target"]) for part in parts_of(attack)))
    print(f"{len(victims)} of {len(pairs)} pairs are poisoned; the target is {targets}")


if __name__ == "__main__":
    run_step(main)
