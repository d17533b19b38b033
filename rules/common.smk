# What all rules share: the checked config, the plan of all runs, and where things lie.
# Nothing heavy is imported here: every job of a cluster parses this file anew.
import json
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(workflow.basedir))
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import sha256
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand, written_spec

try:
    check_config(config)
    PLAN = expand(config)
except StepError as error:
    raise WorkflowError(str(error))

ROOT = config["pathvars"]["results"]
NEEDS = config["resources"]
BASEDIR = Path(workflow.basedir)

# Steps are modules of this folder, wherever Snakemake is started from; one thread of BLAS for
# each worker process, so that cores are not asked for twice.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(BASEDIR))} OMP_NUM_THREADS=1; "
)


wildcard_constraints:
    source="[a-z][a-z0-9_]*",
    evaluation="[a-z][a-z0-9_]*",
    experiment="[a-z][a-z0-9_]*",
    figure="[a-z][a-z0-9_]*",
    part=r"\d{5}",
    id=r"[A-Za-z0-9_.+-]+",


def path(*parts):
    """Return a path under the folder of results, for text that is not an input or output."""
    return str(Path(ROOT, *parts))


def made_here(*paths):
    """Return those of the user's paths that the workflow itself makes: they are inputs.

    A file of the user's own is not: the whole DAG can be shown before it is there.
    """
    return [p for p in paths if p and Path(p).is_relative_to(ROOT)]


def code_digest(*names):
    """Return the digest of code that a cheap rule runs, so that a change of it re-runs the rule."""
    folder = BASEDIR / "workflow_scripts"
    files = sorted(f for name in names for f in folder.glob(name))
    return "".join(sha256(file)[:8] for file in files)
