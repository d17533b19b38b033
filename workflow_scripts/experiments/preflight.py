"""Check, before anything is run, what would otherwise fail after hours: one line for each check.

Needs   --config      the whole config as JSON, with its folder of results
        --experiment  one of the experiments; without it, those that `all` makes
        --executor    of Snakemake: slurm is asked what it offers; else the GPUs must be here
        --gpus        of this machine that Snakemake may use

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
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workflow_scripts.captions.synonyms import WordNet
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json
from workflow_scripts.common.redact import redact
from workflow_scripts.experiments.check_inputs import evaluation_checks, input_checks
from workflow_scripts.experiments.check_slurm import slurm_checks
from workflow_scripts.experiments.finished import finished_with_another_evaluation, is_finished
from workflow_scripts.experiments.measures import measured_on
from workflow_scripts.experiments.plan import work_of
from workflow_scripts.experiments.work import Work

Spec = dict[str, Any]
# Returns what holds, or raises a StepError.
Check = Callable[[], str]

_GIGABYTE = 1e9
# Files of a run besides its checkpoints, and of any other job, generously counted.
_FILES_OF_A_JOB = 20


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, make all checks and print what came of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="the whole config (JSON)")
    parser.add_argument("--experiment", help="of the config (default: those of `all`)")
    parser.add_argument("--executor", default="local", help="of Snakemake (default local)")
    parser.add_argument("--gpus", type=int, help="at most so many at once (default: no limit)")
    options = parser.parse_args(arguments)
    config = read_json(options.config)
    experiments = [options.experiment] if options.experiment else config["all"]
    failed = 0
    print("ok      the config, which Snakemake has read")
    for check in checks(config, experiments, options.executor, options.gpus):
        try:
            print(f"ok      {check()}")
        except (StepError, OSError) as error:
            failed += 1
            print(f"FAILED  {redact(str(error))}")
    if failed:
        raise StepError(f"{failed} of the checks failed, see above; fix them and check again")


def checks(
    config: Spec, experiments: list[str], executor: str = "local", gpus: int | None = None
) -> Iterator[Check]:
    """Yield all checks of what experiments of a checked config need."""
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
        yield partial(check_gpus, config, rules, gpus)
        if config["execution"]["staging"]:
            yield partial(check_staging, config["execution"]["staging"])


def check_results(results: Path) -> str:
    """Check that files can be written to the folder of results, or where it is to be made."""
    there = _existing(results)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise StepError(
            f"no file can be written to {there} ({error.strerror}); make it writable, or set "
            "pathvars.results to another folder"
        ) from error
    return f"files can be written to {there}"


def check_disk(config: Spec, work: Work, experiments: list[str], gpus: int | None) -> str:
    """Check that what experiments will still write fits on the disk of the results.

    Checkpoints of the trainings that run at the same time are counted with it.
    """
    results = Path(config["pathvars"]["results"]).absolute()
    there = _existing(results)
    jobs = [job for job in work.jobs(experiments) if not job.done]
    checkpoints = _checkpoint_bytes(config, work, experiments, gpus) / _GIGABYTE
    written = sum(job.bytes for job in jobs) / _GIGABYTE
    free = shutil.disk_usage(there).free / _GIGABYTE
    if written + checkpoints > free:
        raise StepError(
            f"{results} has {free:,.1f} GB free, but about {written:,.1f} GB will still be written "
            f"(see `snakemake plan`), and up to {checkpoints:,.1f} GB of checkpoints; make room, "
            "set pathvars.results to a larger disk, or lower execution.checkpoint.keep"
        )
    status, files = os.statvfs(there), len(jobs) * _FILES_OF_A_JOB
    # Some file systems have no fixed number of files and report 0.
    if status.f_files and status.f_favail < files:
        raise StepError(
            f"{results} can take {status.f_favail:,} more files, but about {files:,} will be "
            "written; remove files there, or set pathvars.results to another disk"
        )
    return (
        f"{free:,.1f} GB are free at {results}, about {written:,.1f} GB will still be written, "
        f"and up to {checkpoints:,.1f} GB of checkpoints"
    )


def _checkpoint_bytes(config: Spec, work: Work, experiments: list[str], gpus: int | None) -> float:
    """Return the bytes of checkpoints while as many trainings run as there can be at once."""
    missing = [
        job
        for job in work.jobs(experiments)
        if job.rule in ("pretraining", "cleaning") and not job.done
    ]
    largest = max((config["resources"][job.rule].get("gpu", 0) for job in missing), default=0)
    # Without GPUs, and where nobody said how many there are, as many as the largest job has.
    at_once = gpus or largest or 1
    # Weights and the optimiser's two numbers for each.
    sizes = sorted((3 * work.model_bytes(job.name.split("/")[1]) for job in missing), reverse=True)
    # One more exists while it is written.
    return sum(sizes[:at_once]) * (config["execution"]["checkpoint"]["keep"] + 1)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if one.exists())


def check_wordnet(folder: Path) -> str:
    """Check that WordNet is there and gives synonyms."""
    corpus = folder / "corpora" / "wordnet"
    if not WordNet(corpus).synonyms("picture"):
        raise StepError(f"{corpus} cannot be read; remove it and make it anew with `make setup`")
    return f"WordNet is ready in {corpus}"


def check_tokenizer() -> str:
    """Check that the tokenizer's vocabulary is there; open_clip itself takes seconds to import."""
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        raise StepError("open_clip is not installed; run `make setup` and activate .venv")
    vocabulary = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    try:
        with gzip.open(vocabulary) as file:
            file.read()
    except (OSError, EOFError) as error:
        raise StepError(
            f"the tokenizer's vocabulary {vocabulary} cannot be read; install open_clip_torch again"
        ) from error
    return f"the tokenizer's vocabulary is {vocabulary}"


def check_wandb(mode: str) -> str:
    """Check that there is a key where runs are sent to Weights & Biases as they go."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    if mode == "online" and not (os.environ.get("WANDB_API_KEY") or _in_netrc(host)):
        raise StepError(
            f"execution.wandb.mode is online, but there is no key for {host}; run `wandb login`, "
            "set WANDB_API_KEY, or set the mode to offline"
        )
    return f"wandb is {mode}" + (", and there is a key for it" if mode == "online" else "")


def _in_netrc(host: str) -> bool:
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def check_graphviz() -> str:
    """Check that the graphs can be drawn, which the target `all` does at its end."""
    dot = shutil.which("dot")
    if dot is None:
        raise StepError(
            "Graphviz is not installed (no `dot` on PATH), which draws the workflow's graphs; run "
            "`make setup`, or install the package graphviz"
        )
    return f"Graphviz is {dot}"


def check_staging(staging: str) -> str:
    """Check that trainings can copy their images to the folder that the config names."""
    folder = Path(os.path.expandvars(staging))
    there = _existing(folder)
    unset = re.search(r"\$\{?\w+\}?", str(folder))
    if unset or not folder.is_absolute() or not os.access(there, os.W_OK):
        raise StepError(
            f"execution.staging is {staging!r}, where no folder can be made; give an absolute path "
            "on this machine, with variables that are set, or null"
        )
    return f"images can be copied to {folder} (execution.staging)"


def check_gpus(config: Spec, rules: list[str], limit: int | None) -> str:
    """Check that this machine has as many GPUs as the largest rule asks for, and what they can do.

    Args:
        config: The checked config.
        rules: Names of the rules that will run.
        limit: As many GPUs as Snakemake may use; a job that asks for more gets these.
    """
    resources = {rule: config["resources"][rule] for rule in rules}
    several = [rule for rule, needs in resources.items() if needs.get("nodes", 1) > 1]
    if several:
        raise StepError(
            f"resources.{several[0]} asks for several nodes, and only --profile slurm has them; "
            "set its nodes to 1"
        )
    rule, needs = max(resources.items(), key=lambda item: item[1].get("gpu", 0))
    asked = min(needs.get("gpu", 0), math.inf if limit is None else limit)
    if not asked:
        if config["execution"]["device"] == "cuda":
            raise StepError(
                "execution.device is cuda, but no rule asks for a GPU; set resources.*.gpu, or "
                "device to auto"
            )
        return "no rule asks for a GPU"
    there = _compute_capabilities()
    if len(there) < asked:
        raise StepError(
            f"resources.{rule} asks for {asked} GPUs, and nvidia-smi shows {len(there)} on this "
            "machine; say how many there are (--resources gpu=N), or use --profile slurm on a "
            "cluster"
        )
    bf16 = [kind for kind in ("pretraining", "cleaning") if config[kind]["precision"] == "bf16"]
    if bf16 and min(there) < _FIRST_WITH_BF16:
        raise StepError(
            f"{bf16[0]}.precision is bf16, which a GPU of this machine does not have (compute "
            f"capability {min(there)}); set it to auto or fp32"
        )
    return f"{len(there)} GPUs are here, {rule} asks for {asked}"


# Ampere.
_FIRST_WITH_BF16 = 8.0


def _compute_capabilities() -> list[float]:
    """Return the compute capability of each GPU of this machine; none if nvidia-smi fails."""
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
