# What all rules share: the checked config, the plan of all runs, and where things lie.
# Nothing heavy is imported here: every job of a cluster parses this file anew.
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
from workflow_scripts.common.code import FOLDER, attack_code, code_digests, variant_code
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest, sha256
from workflow_scripts.common.redact import redact
from workflow_scripts.experiments.config import check_config, complete_config
from workflow_scripts.experiments.expand import expand as expand_experiments
from workflow_scripts.experiments.expand import own_inputs
from workflow_scripts.experiments.folders import check_folders
from workflow_scripts.experiments.layout import options
from workflow_scripts.experiments.load_config import load_config, wanted_experiments
from workflow_scripts.experiments.resources import rule_resources
from workflow_scripts.experiments.specs import write_specs
from workflow_scripts.experiments.targets import Targets, run_rows, spec_of_run

try:
    load_config(workflow, config)
    # Jobs read a config that the main process has checked.
    if workflow.is_main_process:
        check_config(config, wanted_experiments(workflow, config))
    else:
        complete_config(config)
    check_folders(config["pathvars"], str(workflow.basedir))
    # Jobs see the user's own files as the process did that started them.
    PLAN = expand_experiments(config, own_inputs(config, trusted=not workflow.is_main_process))
except StepError as error:
    raise WorkflowError(redact(str(error)))
FILES = Targets(config, PLAN)

ROOT = config["pathvars"]["results"]
# Where `onstart` writes the whole config and the specs.
WRITTEN = f"{ROOT}/workflow"
BASEDIR = Path(workflow.basedir)

# Steps are modules of this folder, wherever Snakemake is started from. Each worker process has
# one thread for its arithmetic, so that cores are not asked for twice.
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
    """Return the pattern of the ids that there are, so that another one is no target of the rule."""
    return "|".join(map(re.escape, specs)) or "(?!)"


# What the jobs ask for: cores, and all else.
THREADS = {name: declared["threads"] for name, declared in config["resources"].items()}
NEEDS = {name: rule_resources(config, PLAN, name) for name in config["resources"]}


def made_here(*paths):
    """Return those of the user's paths that the workflow itself makes: they are inputs.

    A file of the user's own is not: the whole DAG can be shown before it is there.
    """
    return [p for p in paths if p and Path(p).is_relative_to(ROOT)]


def recorded_inputs(file):
    """Return the inputs from which Snakemake has made a file; None if it has no record of it."""
    return workflow.persistence.input(IOFile(file))


def code_digest(*files):
    """Return the digest of code that a cheap rule runs, so that a change of it re-runs the rule.

    Args:
        files: Paths below workflow_scripts/, or of files of the user's own; what they import counts.
    """
    return digest(code_digests(FOLDER / file for file in files))


def assets_digest(folder):
    """Return the digest of the files of a folder below workflow_scripts/ that no code imports."""
    return digest([sha256(file) for file in sorted((FOLDER / folder).iterdir())])


def arguments(rule, name):
    """Return the file with the arguments of a step, which `onstart` writes."""
    return f"@{WRITTEN}/arguments/{rule}/{name}.txt"


def list_of(source):
    """Return the id of the URL list of a source, given by its id."""
    return PLAN.data.shards[PLAN.data.sources[source]["shards"]]["list"]


def declared_evaluation(evaluation):
    """Return the declaration in the config of an evaluation set, given by its id."""
    return config["evaluations"][PLAN.data.evaluations[evaluation]["name"]]


def source_name(shards):
    """Return the name in the config of the source of shards, given by their id."""
    return PLAN.data.lists[PLAN.data.shards[shards]["list"]]["name"]


def parts(shards):
    """Return the names of the parts of shards, given by their id: one download job each."""
    return [f"{part:05d}" for part in range(config["sources"][source_name(shards)]["parts"])]


def world_files(source):
    """Return what the demo's server serves, if the source is the demo's."""
    world = config["sources"][source]["world"]
    return [f"{world}/list.csv", f"{world}/images.tar"] if world else []


def server(source):
    """Return what stands before a command that downloads: nothing, or the demo's own server."""
    world = config["sources"][source]["world"]
    return (
        f"python -m workflow_scripts.demo.server --world {shlex.quote(world)} --" if world else ""
    )
