"""Write the spec of each attack and each training run that a config's experiments need.

Needs   --config                    the whole config as JSON
Makes   OUTPUT/attacks/<id>.json    and likewise for pretraining/ and cleaning/
"""

import argparse
import json
from pathlib import Path

from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import atomic_folder, read_json
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.paths import written_spec


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the specs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="the whole config (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the specs")
    options = parser.parse_args(arguments)
    config = read_json(options.config)
    plan = expand(config)
    named = [("attacks", name) for name in plan.attacks]
    named += [(spec["kind"], name) for name, spec in plan.runs.items()]
    with atomic_folder(options.output) as folder:
        for kind in ("attacks", "pretraining", "cleaning"):
            (folder / kind).mkdir()
        for kind, name in named:
            text = json.dumps(written_spec(config, plan, kind, name), indent=2)
            (folder / kind / f"{name}.json").write_text(f"{text}\n")
    print(f"{len(named)} specs")


if __name__ == "__main__":
    run_step(main)
