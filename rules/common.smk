# Shared by all rules: the checked config, the plan of all runs, and paths.
# Nothing slow is imported here, because every cluster job parses this file.
import functools
import json
import os.path
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile

sys.path.insert(0, str(workflow.basedir))
from workflow_scripts.common import variants
from workflow_scripts.common.code_version import FOLDER, attack_code, code_digests, variant_code
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest, sha256
from workflow_scripts.common.redact import redact
from workflow_scripts.experiments.command_line import command_line_targets, wanted_experiments
from workflow_scripts.experiments.config import check_config, complete_config
from workflow_scripts.experiments.expand import expand as expand_experiments
from workflow_scripts.experiments.expand import own_inputs
from workflow_scripts.experiments.folders import check_folders
from workflow_scripts.experiments.layout import options
from workflow_scripts.experiments.load_config import load_config
from workflow_scripts.experiments.resources import rule_resources
from workflow_scripts.experiments.sources import is_made
from workflow_scripts.experiments.specs import write_specs
from workflow_scripts.experiments.targets import Targets, run_rows, spec_of_run
from workflow_scripts.experiments.wall_clock import available_machines

try:
    load_config(workflow, config)
    # Jobs use a config that the main process has already checked.
    if workflow.is_main_process:
        check_config(config, wanted_experiments(command_line_targets(), config))
    else:
        complete_config(config)
    check_folders(config["pathvars"], str(workflow.basedir))
    # Jobs use the fingerprints of the user's files that the main process has stored.
    PLAN = expand_experiments(config, own_inputs(config, trusted=not workflow.is_main_process))
except StepError as error:
    raise WorkflowError(redact(str(error)))
FILES = Targets(config, PLAN)

ROOT = config["pathvars"]["results"]
# Folder in which `onstart` writes the complete config and the specs.
WRITTEN = f"{ROOT}/workflow"
BASEDIR = Path(workflow.basedir)

# Steps are modules of this checkout, wherever Snakemake is started. Each worker process uses a
# single compute thread, so that cores are not oversubscribed.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(BASEDIR))} OMP_NUM_THREADS=1; "
)


wildcard_constraints:
    experiment="[a-z][a-z0-9_]*",
    figure="[a-z][a-z0-9_]*",
    part=r"\d{5}",
    id=r"[A-Za-z0-9_.+-]+",
    taken=r"epoch-\d+|best_accuracy|matches-[0-9a-f]{8}",
    digest="[0-9a-f]{8}",


def one_of(specs):
    """Return a pattern that matches only the existing ids, so that others are not targets of a rule."""
    return "|".join(map(re.escape, specs)) or "(?!)"


# Resources that jobs request: cores, and all others.
THREADS = {name: declared["threads"] for name, declared in config["resources"].items()}
NEEDS = {
    name: rule_resources(config, PLAN, name, available_machines(workflow)["gpus"])
    for name in config["resources"]
}


def made_here(*paths):
    """Return the paths in the config that the workflow itself makes, which are inputs of a rule.

    The user's own files are not inputs, so that the DAG can be shown before they exist.
    """
    return [path for path in paths if path and is_made(config, path)]


def recorded_inputs(file):
    """Return the inputs from which Snakemake made a file; None if it has no record of the file."""
    return workflow.persistence.input(IOFile(file))


def code_digest(*files):
    """Return the digest of the code of an inexpensive rule, which is repeated if its code changes.

    Args:
        files: Paths below workflow_scripts/, or of the user's own files; their imports are included.
    """
    places = [FOLDER / file for file in files]
    # A user's own file is relative to the working directory.
    return digest(code_digests(p if p.is_file() else Path(f) for p, f in zip(places, files)))


@functools.cache
def variant_digest(kind, name):
    """Return the digest of a variant's own code."""
    return digest(variant_code(kind, name))


def assets_digest(folder):
    """Return the digest of the non-code files in a folder below workflow_scripts/."""
    return digest([sha256(file) for file in sorted((FOLDER / folder).iterdir())])


def arguments(rule, name):
    """Return the file with the arguments of a step, which `onstart` writes."""
    return f"@{WRITTEN}/arguments/{rule}/{name}.txt"


def list_of(source):
    """Return the id of the URL list of a source, given the id of the source."""
    return PLAN.data.shards[PLAN.data.sources[source]["shards"]]["list"]


def declared_evaluation(evaluation):
    """Return the declaration of an evaluation set in the config, given its id."""
    return config["evaluations"][PLAN.data.evaluations[evaluation]["name"]]


def source_name(shards):
    """Return the name of the source of shards in the config, given the id of the shards."""
    return PLAN.data.lists[PLAN.data.shards[shards]["list"]]["name"]


def parts(shards):
    """Return the names of the parts of shards, given their id; each part is a download job."""
    return [f"{part:05d}" for part in range(config["sources"][source_name(shards)]["parts"])]


def world_files(source):
    """Return the files that the demo's server needs; [] if the source is not the demo's."""
    world = config["sources"][source]["world"]
    return [f"{world}/list.csv", f"{world}/images.tar"] if world else []


def server(source):
    """Return the command prefix that starts the demo's server; "" if the source is not the demo's."""
    world = config["sources"][source]["world"]
    return (
        f"python -m workflow_scripts.demo.server --world {shlex.quote(world)} --" if world else ""
    )
