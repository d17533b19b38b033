"""Check, before anything is run, for problems that would otherwise appear after hours.

Inputs  --config      the complete config as JSON, with its folder of results
        --experiment  name of one experiment (default: those of `all`)
        --executor    Snakemake's executor; for slurm, the cluster is checked, otherwise the GPUs of
                      this machine
        --gpus        number of GPUs of this machine that Snakemake may use
Outputs one line per check, printed

The config itself is checked whenever Snakemake reads it. Each failed check prints one sentence that
says how to fix it, and the exit status is 1.
"""

import argparse
import gzip
import math
import netrc
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workflow_scripts.captions.synonyms import WordNet
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json
from workflow_scripts.common.open_clip_files import open_clip_file
from workflow_scripts.common.redact import redact
from workflow_scripts.experiments.check_inputs import evaluation_checks, input_checks
from workflow_scripts.experiments.check_slurm import slurm_checks
from workflow_scripts.experiments.finished import finished_with_another_evaluation, is_finished
from workflow_scripts.experiments.measures import measured_on
from workflow_scripts.experiments.plan import work_of
from workflow_scripts.experiments.specs import CONFIG_HELP
from workflow_scripts.experiments.workload import Workload

Spec = dict[str, Any]
# Returns a sentence about what was found, or raises a StepError.
Check = Callable[[], str]

_GIGABYTE = 1e9
# Generous upper bound of the files that a job writes, without checkpoints.
_FILES_OF_A_JOB = 20


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run all checks and print their results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help=CONFIG_HELP)
    parser.add_argument("--experiment", help="name of an experiment (default: those of `all`)")
    parser.add_argument("--executor", default="local", help="Snakemake's executor (default: local)")
    parser.add_argument("--gpus", type=int, help="GPUs that may be used (default: no limit)")
    options = parser.parse_args(arguments)
    config = read_json(options.config)
    experiments = [options.experiment] if options.experiment else config["all"]
    failed = 0
    print("ok      the config is valid")
    for check in checks(config, experiments, options.executor, options.gpus):
        try:
            print(f"ok      {check()}")
        except (StepError, OSError) as error:
            failed += 1
            print(f"FAILED  {redact(str(error))}")
    if failed:
        number = "1 check" if failed == 1 else f"{failed} checks"
        raise StepError(f"{number} failed (see above); fix the problems and check again")


def checks(
    config: Spec, experiments: list[str], executor: str = "local", gpus: int | None = None
) -> Iterator[Check]:
    """Yield all checks for the given experiments of a checked config."""
    work = work_of(config)
    rows = [row for name in experiments for row in work.plan.experiments[name]]
    runs = list(dict.fromkeys(row["run"] for row in rows))
    slurm = executor == "slurm"
    yield partial(check_results, Path(config["pathvars"]["results"]))
    yield partial(check_disk, config, work, experiments, gpus)
    yield from input_checks(config, work.plan, runs, offline=slurm)
    for name in measured_on(config, experiments):
        yield from evaluation_checks(config, name, targets=set())
    yield partial(check_wordnet, Path(config["wordnet"]))
    yield check_tokenizer
    yield partial(check_wandb, config["execution"]["wandb"]["mode"])
    if experiments == config["all"]:
        yield check_graphviz
    pretraining = [run for run in runs if work.plan.runs[run]["kind"] == "pretraining"]
    missing = [run for run in pretraining if not is_finished(work.plan, run, work.results)]
    for sentence in finished_with_another_evaluation(config, work.plan, missing):
        yield partial(str, sentence)
    used = {job.rule for job in work.jobs(experiments)} & set(config["resources"]) | {"small"}
    rules = [rule for rule in config["resources"] if rule in used]
    if slurm:
        yield from slurm_checks(config, rules)
    else:
        specs = [work.plan.runs[run] for run in runs]
        bf16 = sorted({spec["kind"] for spec in specs if spec["precision"] == "bf16"})
        yield partial(check_gpus, config, rules, gpus, bf16)
        if config["execution"]["staging"]:
            yield partial(check_staging, config["execution"]["staging"])


def check_results(results: Path) -> str:
    """Check that the folder of results is writable, or the folder in which it will be created."""
    folder = _existing(results)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StepError(
            f"{folder} is not writable ({error.strerror}); change its permissions, or set "
            "pathvars.results to another folder"
        ) from error
    return f"{folder} is writable"


def check_disk(config: Spec, work: Workload, experiments: list[str], gpus: int | None) -> str:
    """Check that the files still to be written fit on the disk of the results.

    The checkpoints of trainings that run at the same time are included.
    """
    results = Path(config["pathvars"]["results"]).absolute()
    folder = _existing(results)
    jobs = [job for job in work.jobs(experiments) if not job.done]
    checkpoints = _checkpoint_bytes(config, work, experiments, gpus) / _GIGABYTE
    written = sum(job.bytes for job in jobs) / _GIGABYTE
    free = shutil.disk_usage(folder).free / _GIGABYTE
    if written + checkpoints > free:
        raise StepError(
            f"{results} has {free:,.1f} GB free, but about {written:,.1f} GB of results (see "
            f"`snakemake plan`) and up to {checkpoints:,.1f} GB of checkpoints will be written; "
            "free disk space, set pathvars.results to a larger disk, set execution.keep_selected "
            "to false, or lower execution.checkpoint.keep"
        )
    status, files = os.statvfs(folder), len(jobs) * _FILES_OF_A_JOB
    # File systems without a limit on the number of files report 0.
    if status.f_files and status.f_favail < files:
        raise StepError(
            f"the disk of {results} has room for {status.f_favail:,} more files, but about "
            f"{files:,} will be written; remove files, or set pathvars.results to another disk"
        )
    return (
        f"{results} has {free:,.1f} GB free; about {written:,.1f} GB of results and up to "
        f"{checkpoints:,.1f} GB of checkpoints will be written"
    )


def _checkpoint_bytes(
    config: Spec, work: Workload, experiments: list[str], gpus: int | None
) -> float:
    """Return the bytes of checkpoints when the largest trainings run at the same time."""
    missing = [
        job
        for job in work.jobs(experiments)
        if job.rule in ("pretraining", "cleaning") and not job.done
    ]
    largest = max((config["resources"][job.rule].get("gpu", 0) for job in missing), default=0)
    # If the number of GPUs is not given, assume that of the largest job; without GPUs, one run.
    at_once = gpus or largest or 1
    # The weights and two optimiser values for each weight.
    sizes = sorted((3 * work.model_bytes(job.name.split("/")[1]) for job in missing), reverse=True)
    # One more exists while a checkpoint is written.
    return sum(sizes[:at_once]) * (config["execution"]["checkpoint"]["keep"] + 1)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_wordnet(folder: Path) -> str:
    """Check that WordNet is installed and returns synonyms."""
    corpus = folder / "corpora" / "wordnet"
    if not WordNet(corpus).synonyms("picture"):
        raise StepError(f"{corpus} is damaged; delete it and install it again with `make setup`")
    return f"WordNet is installed in {corpus}"


def check_tokenizer() -> str:
    """Check that the tokenizer's vocabulary is readable, without importing open_clip (seconds)."""
    vocabulary = open_clip_file("bpe_simple_vocab_16e6.txt.gz")
    try:
        with gzip.open(vocabulary) as file:
            file.read()
    except (OSError, EOFError) as error:
        raise StepError(
            f"the tokenizer's vocabulary {vocabulary} cannot be read; reinstall open_clip_torch"
        ) from error
    return f"the tokenizer's vocabulary is {vocabulary}"


def check_wandb(mode: str) -> str:
    """Check that an API key is available if runs are logged to Weights & Biases online."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    if mode == "online" and not (os.environ.get("WANDB_API_KEY") or _in_netrc(host)):
        raise StepError(
            f"execution.wandb.mode is online, but no API key for {host} was found; run `wandb "
            "login`, set WANDB_API_KEY, or set the mode to offline"
        )
    return f"wandb is {mode}" + (", and an API key was found" if mode == "online" else "")


def _in_netrc(host: str) -> bool:
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def check_graphviz() -> str:
    """Check that Graphviz, which draws the workflow's graphs, is installed."""
    dot = shutil.which("dot")
    if dot is None:
        raise StepError(
            "Graphviz, which draws the workflow's graphs, is not installed (no `dot` on PATH); run "
            "`make setup`, or install the package graphviz"
        )
    return f"Graphviz is installed ({dot})"


def check_staging(staging: str) -> str:
    """Check that trainings can copy their images to the staging folder."""
    folder = Path(os.path.expandvars(staging))
    parent = _existing(folder)
    unset = re.search(r"\$\{?\w+\}?", str(folder))
    if unset or not folder.is_absolute() or not os.access(parent, os.W_OK):
        raise StepError(
            f"execution.staging is {staging!r}, but this folder cannot be created; give an "
            "absolute path on this machine in which all variables are set, or null"
        )
    return f"images can be copied to {folder} (execution.staging)"


def check_gpus(config: Spec, rules: list[str], limit: int | None, bf16: list[str]) -> str:
    """Check that this machine has the GPUs that the rules request, and that they support bf16.

    Args:
        config: The checked config.
        rules: Names of the rules that will run.
        limit: Number of GPUs that Snakemake may use; a job that requests more gets this number.
        bf16: Kinds of runs (``pretraining``, ``cleaning``) of which some have this precision.
    """
    resources = {rule: config["resources"][rule] for rule in rules}
    several = [rule for rule, needs in resources.items() if needs.get("nodes", 1) > 1]
    if several:
        raise StepError(
            f"resources.{several[0]} requests several nodes, which needs --profile slurm; set its "
            "nodes to 1"
        )
    rule, needs = max(resources.items(), key=lambda item: item[1].get("gpu", 0))
    asked = min(needs.get("gpu", 0), math.inf if limit is None else limit)
    if not asked:
        if config["execution"]["device"] == "cuda":
            raise StepError(
                "execution.device is cuda, but no rule requests a GPU; set resources.*.gpu, or "
                "set the device to auto"
            )
        return "no rule requests a GPU"
    capabilities = _compute_capabilities()
    if len(capabilities) < asked:
        fewer = "limit the number with --resources gpu=N, or " if capabilities else ""
        raise StepError(
            f"resources.{rule} requests {asked} GPUs, but nvidia-smi lists {len(capabilities)} on "
            f"this machine; {fewer}use --profile slurm on a cluster, or --profile demo without GPUs"
        )
    if bf16 and min(capabilities) < _FIRST_WITH_BF16:
        raise StepError(
            f"{bf16[0]}.precision is bf16, which a GPU of this machine does not support (compute "
            f"capability {min(capabilities)}); set it to auto or fp32"
        )
    return f"this machine has {len(capabilities)} GPUs; {rule} requests {asked}"


_FIRST_WITH_BF16 = 8.0  # compute capability of Ampere


def _compute_capabilities() -> list[float]:
    """Return the compute capability of each GPU of this machine; [] if nvidia-smi fails."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [float(line) for line in listed.splitlines() if re.fullmatch(r"\d+\.\d+", line.strip())]


if __name__ == "__main__":
    run_step(main)
