# What all rules share: the checked config, the plan of all runs, and where things lie.
# Nothing heavy is imported here: every job of a cluster parses this file anew.
import csv
import io
import json
import math
import os.path
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(workflow.basedir))
from workflow_scripts.common import variants
from workflow_scripts.common.code import FOLDER, code_digests, run_code, variant_code
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest
from workflow_scripts.common.redact import redact
from workflow_scripts.experiments.config import check_config, complete_config
from workflow_scripts.experiments.estimate import configured_speed, training_seconds
from workflow_scripts.experiments.expand import expand as expand_experiments
from workflow_scripts.experiments.expand import own_inputs
from workflow_scripts.experiments.folders import check_folders
from workflow_scripts.experiments.layout import (
    artefact_inputs,
    artefacts_read,
    model_before,
    options,
    run_inputs,
    share_of_training,
    values_of,
)
from workflow_scripts.experiments.load_config import load_config, wanted_experiments
from workflow_scripts.experiments.measures import (
    declared_measures_name,
    measure_files,
    measure_inputs,
)
from workflow_scripts.experiments.specs import write_specs

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


def training_minutes(run, pairs):
    """Return the estimated minutes of a training on the GPUs that it asks for."""
    spec, costs = PLAN.runs[run], config["costs"]
    asked = config["resources"][spec["kind"]]
    gpus = max(1, asked.get("gpu", 0)) * asked["nodes"]
    return training_seconds(costs, spec, pairs, configured_speed(costs, spec)) / gpus / 60


def run_time(name):
    """Return how a rule's run time in minutes follows from its data and the attempt."""
    base, longest = config["resources"][name]["runtime"], config["cluster"]["max_runtime"]

    def of_step(w, attempt):
        return min(longest, base * attempt)

    def of_training(w, input, attempt):
        tokens = next(Path(file) for file in input if Path(file).name == "tokens.npy")
        # A row of 16-bit tokens for each pair.
        pairs = tokens.stat().st_size // (2 * config["captions"]["context_length"])
        minutes = training_minutes(w.id, pairs)
        if name == "pretraining":
            minutes *= share_of_training(PLAN, "/".join(w))
        estimate = config["cluster"]["slack"] * minutes
        return min(longest, math.ceil(base + estimate) * attempt)

    return of_training if name in ("pretraining", "cleaning") else of_step


def needs(name):
    """Return the resources of a rule: those of its name in the config, as its site calls them."""
    declared, site = config["resources"][name], config["cluster"]
    gpu, nodes = declared.get("gpu", 0), declared.get("nodes", 1)
    kind = "gpu" if gpu else "cpu"
    # A training that is tried again goes on where it was, and needs no more than before.
    grows = name not in ("pretraining", "cleaning")
    asked = {
        "nodes": nodes,
        # A profile makes the members of a group take turns by it.
        "in_turn": 1,
        "cpus_per_task": declared["threads"],
        "mem_mb": lambda w, attempt: declared["mem_mb"] * (attempt if grows else 1),
        "runtime": run_time(name),
        "gpu": gpu,
        # Of a training, on each node; a resource, because a changed parameter would train anew.
        "processes": gpu,
        "gpu_model": gpu and site["gpu_model"],
        "slurm_partition": site["partition"][kind],
        "slurm_account": site["account"],
    }
    if nodes > 1:
        asked |= on_several_nodes(gpu, site["gpu_model"], declared["threads"])
    return {key: value for key, value in asked.items() if value or key in ("gpu", "processes")}


def on_several_nodes(gpu, model, threads):
    """Return how the executor plugin is asked for as much on each of several nodes.

    Such a job is to it one of MPI, whose command calls srun itself, with two tasks or more on a node.
    """
    tasks = max(2, gpu)
    return {
        "mpi": "srun",
        "tasks_per_node": tasks,
        "cpus_per_task": math.ceil(threads / tasks),
        # `gpu` counts those of the whole job, which Slurm might share out unevenly.
        "gres": ":".join(filter(None, ["gpu", model, str(gpu)])),
        "gpu": 0,
        "gpu_model": None,
    }


# What the jobs ask for: cores, and all else.
THREADS = {name: declared["threads"] for name, declared in config["resources"].items()}
NEEDS = {name: needs(name) for name in config["resources"]}


def made_here(*paths):
    """Return those of the user's paths that the workflow itself makes: they are inputs.

    A file of the user's own is not: the whole DAG can be shown before it is there.
    """
    return [p for p in paths if p and Path(p).is_relative_to(ROOT)]


def code_digest(*files):
    """Return the digest of code that a cheap rule runs, so that a change of it re-runs the rule.

    Args:
        files: Paths below workflow_scripts/, or of files of the user's own; what they import counts.
    """
    return digest(code_digests(FOLDER / file for file in files))


def arguments(rule, name):
    """Return the file with the arguments of a step, which `onstart` writes."""
    return f"@{WRITTEN}/arguments/{rule}/{name}.txt"


def code_of_runs(experiment):
    """Return the digest of the code that the runs of an experiment would execute now."""
    specs = [PLAN.runs[row["run"]] for row in PLAN.experiments[experiment]]
    named = {
        json.dumps([sorted(s["objective"]), s["attack"]["trigger"]["name"], s["start_change"]]): s
        for s in specs
    }
    return digest([run_code(spec) for spec in named.values()])


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


def dataset_manifest(attack):
    """Return the unpoisoned manifest that an attack, given by its id, poisons."""
    return f"<results>/datasets/{PLAN.attacks[attack]['dataset']}/manifest.parquet"


def training_inputs(w):
    """Return the files that a training run reads, as its spec names them."""
    inputs = run_inputs(PLAN, w.id)
    evaluation = inputs.pop("evaluation")
    files = [*filter(None, inputs.values()), f"{evaluation}/manifest.parquet"]
    return of_results(files) + artefact_files(PLAN.runs[w.id])


def of_results(files):
    """Return files of the results, which are given relative to them."""
    return [f"<results>/{file}" for file in files]


def artefact_files(spec):
    """Return the values of artefacts that the step reads of an attack, a run or a filter."""
    return of_results(map(values_of, artefacts_read(spec)))


def maker_digest(artefact):
    """Return the digest of the code of an artefact's maker, without what it imports."""
    file = variants.source("artefact", PLAN.artefacts.specs[artefact]["make"])
    name = str(file.relative_to(FOLDER)) if file.is_relative_to(FOLDER) else str(file)
    return code_digests([file])[name]


def earlier_model(model):
    """Return what shows that the model of a pre-training run is there from which it goes on."""
    before = model_before(PLAN, model)
    return [f"<results>/pretraining/{before}/run.json"] if before else []


def taken_reference(w):
    """Return the metrics of the model whose accuracy is to be matched, if any."""
    reference = PLAN.models[f"{w.id}/{w.taken}"]["reference"]
    return [f"<results>/pretraining/{reference}/metrics.csv"] if reference else []


def take_options(w, input):
    """Return how the trainer is told which model of a pre-training is wanted."""
    taken = PLAN.models[f"{w.id}/{w.taken}"]["taken"]
    folder = [w.taken] if taken == "nearest_accuracy" else []
    reference = ["--reference", input.reference] if input.get("reference") else []
    return ["--take", str(taken), *folder, *reference]


def labelling_inputs(w):
    """Return the files that labelling reads."""
    spec = PLAN.labels[w.id]
    files = [f"splits/{spec['split_id']}/manifest.parquet"]
    files += [f"evaluation/{spec['evaluation']}/classes.json"]
    files += [f"pretraining/{spec['start']}/model.pt"] if spec["start"] else []
    return of_results(files)


def run_rows(experiment):
    """Return an experiment's run table as CSV text: its runs, what varies, their folders."""
    columns = list(dict.fromkeys(key for row in experiment for key in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(experiment)
    return text.getvalue()


def declared_runs(experiment):
    """Return the file with an experiment's run table; its name has a digest of its content."""
    return f"<results>/workflow/runs/{experiment}-{digest(PLAN.experiments[experiment])}.csv"


def declared_artefacts(experiment):
    """Return the file with an experiment's artefacts; its name has a digest of its content."""
    return f"<results>/workflow/artefacts/{experiment}-{digest(PLAN.reports[experiment])}.json"


def artefact_reports(experiment):
    """Return the reports of an experiment's artefacts."""
    made = dict.fromkeys(row["id"] for row in PLAN.reports[experiment])
    return [f"<results>/artefacts/{name}/report.json" for name in made]


def filtered_classes(experiment):
    """Return what filters of an experiment's start models drop, counted by class."""
    runs = [PLAN.runs[row["run"]] for row in PLAN.experiments[experiment]]
    filters = dict.fromkeys(run["filter_id"] for run in runs if run.get("filter_id"))
    return [f"<results>/filters/{one}/classes-of-{evaluation_id()}.csv" for one in filters]


def figure_spec(experiment, figure):
    """Return the file with a figure's declaration; its name has a digest of its content."""
    declared = config["experiments"][experiment]["figures"][figure]
    return f"<results>/workflow/figures/{experiment}-{figure}-{digest(declared)}.json"


def run_files(experiment):
    """Return what is read of each run of an experiment."""
    folders = dict.fromkeys(row["folder"] for row in PLAN.experiments[experiment])
    names = ["metrics.csv", "timings.csv", "run.json"]
    return [f"<results>/{folder}/{name}" for folder in folders for name in names]


def below_results(files):
    """Return files that are named relative to the results, as Snakemake is told of them."""
    return [f"<results>/{file}" for file in files]


def run_spec(folder):
    """Return the spec of the run of a model, given by its folder."""
    kind, run, *_ = Path(folder).parts
    return f"{WRITTEN}/specs/{kind}/{run}.json"


def declared_measures(experiment):
    """Return the file with what an experiment measures; its name has a digest of its content."""
    return f"<results>/workflow/measures/{declared_measures_name(PLAN, experiment)}.csv"


def cleaned_on(experiment):
    """Return each start model of an experiment with each clean split used on it, and its dataset."""
    runs = [PLAN.runs[row["run"]] for row in PLAN.experiments[experiment]]
    cleaned = [run for run in runs if run["kind"] == "cleaning"]
    return list(dict.fromkeys((r["start"], r["split_id"], r["dataset"]) for r in cleaned))


def contamination(experiment):
    """Return the counts of evaluation images in the datasets that starts were trained on."""
    return [
        f"<results>/contamination/{dataset}-in-{evaluation_id()}.json"
        for _, _, dataset in cleaned_on(experiment)
    ]


def evaluation_id():
    """Return the id of the evaluation set that all models are measured on."""
    return PLAN.data.evaluation(config["evaluation"])


def figure_of(w):
    """Return the declaration of an experiment's figure."""
    return config["experiments"][w.experiment]["figures"][w.figure]


def points_under(w):
    """Return the file that a figure draws beneath its own points, or nothing."""
    under = figure_of(w).get("under", [])
    return under["points"] if isinstance(under, dict) else under


def experiment_files(experiment):
    """Return all that the target of an experiment's name makes."""
    folder = f"<results>/experiments/{experiment}"
    declared = config["experiments"][experiment]
    runs = [PLAN.runs[row["run"]] for row in PLAN.experiments[experiment]]
    sources = {PLAN.data.datasets[run["dataset"]]["source"] for run in runs}
    return [
        # Snakemake does not make a missing file again if what was made of it is there. These are
        # asked for, so that a deleted run or a changed declaration is noticed.
        *run_files(experiment),
        declared_runs(experiment),
        *(figure_spec(experiment, figure) for figure in declared["figures"]),
        f"{folder}/metrics.csv",
        f"{folder}/runs.html",
        *([f"{folder}/best.csv", f"{folder}/leaks.csv"] if declared["defence"] else []),
        *([f"{folder}/artefacts.csv"] if declared["artefacts"] else []),
        *artefact_reports(experiment),
        *filtered_classes(experiment),
        *measures_of(experiment),
        *(f"{folder}/{figure}.pdf" for figure in declared["figures"]),
        *(f"<results>/sources/{source}/losses.csv" for source in sorted(sources)),
    ]


def measures_of(experiment):
    """Return the measures of an experiment's models, and their table."""
    if experiment not in PLAN.measured:
        return []
    return [
        *below_results(measure_files(PLAN, experiment)),
        declared_measures(experiment),
        f"<results>/experiments/{experiment}/measures.csv",
    ]


def everything():
    """Return what `all` makes: its experiments, the table of all their runs, the graphs."""
    return [
        *dict.fromkeys(file for name in config["all"] for file in experiment_files(name)),
        "<results>/metrics.csv",
        "<results>/workflow/rules.svg",
        "<results>/workflow/jobs.svg",
    ]
