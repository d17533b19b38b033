"""Check, before anything is run, what would otherwise fail after hours: one line for each check.

Needs   --config    the whole config as JSON, with its folder of results
        --executor  of Snakemake: slurm is asked what it offers; else the GPUs must be here

The config itself is checked whenever Snakemake reads it. What does not hold is one sentence that
says what to do; all of them are told, and the exit status is 1.
"""

import argparse
import gzip
import math
import netrc
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workflow_scripts.captions.synonyms import WordNet
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.plan import work_of
from workflow_scripts.experiments.slurm import Nodes, read_offer

Spec = dict[str, Any]
# Returns what holds, or raises a StepError.
Check = Callable[[], str]

_GIGABYTE = 1e9


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, make all checks and print what came of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="the whole config (JSON)")
    parser.add_argument("--executor", default="local", help="of Snakemake (default local)")
    options = parser.parse_args(arguments)
    failed = 0
    print("ok      the config, which Snakemake has read")
    for check in checks(read_json(options.config), options.executor):
        try:
            print(f"ok      {check()}")
        except (StepError, OSError) as error:
            failed += 1
            print(f"FAILED  {error}")
    if failed:
        raise StepError(f"{failed} of the checks failed, see above; put them right and check again")


def checks(config: Spec, executor: str) -> Iterator[Check]:
    """Yield all checks of a checked config."""
    yield partial(check_disk, config)
    for place, path in _own_inputs(config):
        yield partial(check_input, place, path)
    yield partial(check_wordnet, Path(config["wordnet"]))
    yield check_tokenizer
    yield partial(check_wandb, config["execution"]["wandb"]["mode"])
    if executor == "slurm":
        yield from _slurm_checks(config)
    else:
        yield partial(check_gpus, config)


def _slurm_checks(config: Spec) -> Iterator[Check]:
    offer: list[Nodes] = []
    yield partial(check_slurm, offer)
    # Filled when that check was made; without an answer there is nothing to compare with.
    if offer:
        rules = list(config["resources"])
        for rule in rules:
            yield partial(check_nodes, config, rule, offer)
        for partition in dict.fromkeys(_partition(config, rule) for rule in rules):
            yield partial(check_time_limit, config, partition, offer)


def check_disk(config: Spec) -> str:
    """Check that what `all` will still write fits on the disk of the results."""
    work = work_of(config)
    results = Path(config["pathvars"]["results"]).absolute()
    there = next(folder for folder in (results, *results.parents) if folder.exists())
    missing = sum(job.bytes for job in work.jobs(config["all"]) if not job.done) / _GIGABYTE
    free = shutil.disk_usage(there).free / _GIGABYTE
    # Weights and the optimiser's two numbers for each.
    state = 3 * config["costs"]["bytes"]["model"] / _GIGABYTE
    kept = config["execution"]["checkpoint"]["keep"]
    if missing > free:
        raise StepError(
            f"{results} has {free:,.1f} GB free, but `all` will still write about {missing:,.1f} "
            "GB (see `snakemake plan`); make room, or set pathvars.results to a larger disk"
        )
    return (
        f"{free:,.1f} GB are free at {results}, `all` will still write about {missing:,.1f} GB, "
        f"and each training under way {kept * state:,.1f} GB of checkpoints"
    )


def _own_inputs(config: Spec) -> Iterator[tuple[str, str]]:
    """Yield the place in the config and the path of files that the workflow does not make."""
    plan = expand(config)
    runs = {row["run"] for name in config["all"] for row in plan.experiments[name]}
    datasets = {plan.runs[run]["dataset"] for run in runs}
    data = plan.data
    shards = {data.sources[data.datasets[dataset]["source"]]["shards"] for dataset in datasets}
    sources = sorted({data.lists[data.shards[one]["list"]]["name"] for one in shards})
    declared = [(f"sources.{name}.list", config["sources"][name]["list"]) for name in sources]
    name = config["evaluation"]
    declared += [(f"evaluations.{name}.{k}", p) for k, p in config["evaluations"][name].items()]
    for place, path in declared:
        made_here = Path(path).is_relative_to(config["pathvars"]["results"])
        if urlsplit(path).scheme not in ("http", "https") and not made_here:
            yield place, path


def check_input(place: str, path: str) -> str:
    """Check that a file or folder that the config names is there and can be read."""
    if not Path(path).exists():
        raise StepError(f"{place} of the config is {path}, which is not there; put it there")
    if not os.access(path, os.R_OK):
        raise StepError(f"{place} of the config is {path}, which you may not read; chmod it")
    if Path(path).is_dir() and not any(Path(path).iterdir()):
        raise StepError(f"{place} of the config is {path}, which is empty; fill it")
    return f"{path} is there ({place})"


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


def check_slurm(offer: list[Nodes]) -> str:
    """Check that Slurm answers; put what it offers into ``offer``."""
    offer += read_offer()
    return f"Slurm answers, and has the partitions {_partitions(offer)}"


def check_nodes(config: Spec, rule: str, offer: list[Nodes]) -> str:
    """Check that nodes of a rule's partition have the cores, memory and GPUs that it asks for."""
    needs, model = config["resources"][rule], config["cluster"]["gpu_model"]
    gpus, cores, memory = needs.get("gpu", 0), needs["threads"], needs["mem_mb"]
    wanted = _partition(config, rule)
    nodes = _nodes_of(wanted, offer)
    if not nodes:
        lacking = f"partition {wanted}, which {rule} is to go to" if wanted else "default partition"
        raise StepError(
            f"Slurm has no {lacking}; name one of {_partitions(offer)} under cluster.partition"
        )
    count, asked = needs.get("nodes", 1), _hardware(cores, memory, gpus, model)
    fitting = sum(
        n.count
        for n in nodes
        if n.cores >= cores and n.mem_mb >= memory and (not gpus or n.gpus_of(model) >= gpus)
    )
    partition = nodes[0].partition
    if fitting < count:
        there = "; ".join(
            f"{n.count} x {_hardware(n.cores, n.mem_mb, n.gpus_of(model), model)}" for n in nodes
        )
        wanted = f"{asked} on each of {count} nodes" if count > 1 else asked
        lacking = f"only {fitting} of them can be had" if fitting else "no node has that"
        raise StepError(
            f"resources.{rule} asks for {wanted}, and in the partition {partition} {lacking} "
            f"({there}); ask for less, or name another partition"
        )
    where = f"{count} nodes" if count > 1 else "a node"
    return f"{rule} fits on {where} of the partition {partition} ({asked})"


def check_time_limit(config: Spec, partition: str | None, offer: list[Nodes]) -> str:
    """Check that a partition allows the run times that jobs ask for."""
    longest = config["cluster"]["max_runtime"]
    limit = min((n.minutes for n in _nodes_of(partition, offer)), default=math.inf)
    name = partition or "default"
    if longest > limit:
        raise StepError(
            f"a job may ask for {longest} minutes, and the {name} partition allows {limit:.0f}; "
            "set cluster.max_runtime to no more than that"
        )
    return f"the {name} partition allows the {longest} minutes that a job may ask for"


def _partition(config: Spec, rule: str) -> str | None:
    kind = "gpu" if config["resources"][rule].get("gpu", 0) else "cpu"
    return config["cluster"]["partition"][kind]


def _nodes_of(partition: str | None, offer: list[Nodes]) -> list[Nodes]:
    return [n for n in offer if (n.default if partition is None else n.partition == partition)]


def _partitions(offer: list[Nodes]) -> str:
    return ", ".join(sorted({nodes.partition for nodes in offer}))


def _hardware(cores: int, mem_mb: int, gpus: int, model: str | None) -> str:
    kind = f" {model}" if model else ""
    return f"{cores} cores, {mem_mb:,} MB" + (f", {gpus}{kind} GPUs" if gpus else "")


def check_gpus(config: Spec) -> str:
    """Check that this machine has as many GPUs as the largest rule asks for."""
    several = [rule for rule, needs in config["resources"].items() if needs.get("nodes", 1) > 1]
    if several:
        raise StepError(
            f"resources.{several[0]} asks for several nodes, and only --profile slurm has them; "
            "set its nodes to 1"
        )
    rule, needs = max(config["resources"].items(), key=lambda item: item[1].get("gpu", 0))
    asked = needs.get("gpu", 0)
    if not asked:
        return "no rule asks for a GPU"
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        listed = ""
    there = sum(line.startswith("GPU ") for line in listed.splitlines())
    if there < asked:
        raise StepError(
            f"resources.{rule} asks for {asked} GPUs, and nvidia-smi shows {there} on this "
            "machine; set it to what there is, or use --profile slurm on a cluster"
        )
    return f"{there} GPUs are here, {rule} asks for {asked}"


if __name__ == "__main__":
    run_step(main)
