"""Export finished results as a Workflow Run RO-Crate: a folder to archive or to share.

Inputs  <results>/workflow/config.json, the experiments that it lists under `all`, their runs.
Outputs <output>: ro-crate-metadata.json, the workflow's code, the whole config, each run's spec,
        metrics and run.json, and the experiments' tables and figures. Secrets are removed from
        all configs.

Large files (models, manifests, tokens) are not copied but identified by the URI of their SHA-256
digest (RFC 6920). A model that one run produces and another starts from is thus one entity, and
copies elsewhere can be verified.

Profile: Workflow Run Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5
"""

import argparse
import base64
import mimetypes
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity
from rocrate.rocrate import ROCrate
from tqdm import tqdm

from workflow_scripts.common.code_version import FOLDER, git_version
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic_folder, digest, read_json, sha256
from workflow_scripts.common.redact import redact
from workflow_scripts.data.overlay import file_of_base
from workflow_scripts.results.table import RUN_COLUMNS, read_csv

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
_LICENCE = "https://spdx.org/licenses/MIT"
_CODE = ("Snakefile", "config.yaml", "rules", "workflow_scripts", "envs", "profiles",
         "requirements.lock", "requirements-torch.lock", "README.md", "LICENSE",
         "CITATION.cff")  # fmt: skip
_RESULTS_OF_A_RUN = ("metrics.csv", "timings.csv", "run.json")
_TABLES = {".csv", ".html", ".md", ".rst"}
_FIGURES = {".png", ".pdf", ".svg"}


class Crate:
    """Builder of the crate.

    Args:
        results: Folder of the results; copied files keep their paths relative to it.
        config: The whole config.
        staged: Temporary folder for the workflow's code; must exist until the crate is written.
    """

    def __init__(self, results: Path, config: Mapping[str, Any], staged: Path) -> None:
        self.results = results
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(_CONTEXT)
        experiments = ", ".join(config["all"])
        self.crate.name = f"CLIP backdoor cleaning: {experiments}"
        self.crate.description = (
            "CLIP models pre-trained on poisoned pairs, then fine-tuned on clean ones: accuracy "
            f"and attack success rate after every epoch. Experiments: {experiments}."
        )
        self.crate.license = self._context(
            _LICENCE, "CreativeWork", name="MIT", description="MIT License"
        )
        profiles = [
            self._context(uri, "CreativeWork", name=name, version=uri.rpartition("/")[2])
            for uri, name in PROFILES.items()
        ]
        self.crate.root_dataset["conformsTo"] = profiles
        self.workflow = self._add_workflow(staged)

    def _context(self, identity: str, kind: str, **properties: Any) -> ContextEntity:
        known = self.crate.get(identity)
        if known is not None:
            return known
        entity = ContextEntity(self.crate, identity, properties={"@type": kind, **properties})
        return self.crate.add(entity)

    def _add_workflow(self, staged: Path) -> Any:
        root, version = FOLDER.parent, git_version()
        for name in _CODE:
            if (root / name).is_dir():
                # Compiled code, and the container's image of gigabytes.
                left_out = shutil.ignore_patterns("__pycache__", "*.sif")
                shutil.copytree(root / name, staged / name, ignore=left_out)
                for file in (staged / name).rglob("*.yaml"):
                    file.write_text(redact(file.read_text()))
                self.crate.add_dataset(staged / name, f"code/{name}", properties={"name": name})
            elif name.endswith(".yaml"):
                (staged / name).write_text(redact((root / name).read_text()))
                self.file(staged / name, f"code/{name}")
            elif (root / name).is_file() and name != "Snakefile":
                self.file(root / name, f"code/{name}")
        properties = {"name": "clip-backdoor-cleaning", "version": _version(version),
                      "encodingFormat": "text/plain"}  # fmt: skip
        workflow = self.crate.add_workflow(
            root / "Snakefile", "code/Snakefile", main=True, lang="snakemake", properties=properties
        )
        workflow["license"] = self.crate.license
        return workflow

    def file(self, path: Path, place: str | None = None, **properties: Any) -> Any:
        """Add a file to be copied, and return its entity; None if it does not exist."""
        if not path.is_file():
            return None
        place = place or str(path.relative_to(self.results))
        known = self.crate.get(place)
        if known is not None:
            return known
        properties = {
            "name": place,
            "encodingFormat": _format(path),
            "sha256": sha256(path),
        } | properties
        return self.crate.add_file(path, place, properties=properties, record_size=True)

    def large(self, path: str, hexadecimal: str, role: str) -> Any:
        """Add a file by its digest without copying it, and return its entity."""
        text = base64.urlsafe_b64encode(bytes.fromhex(hexadecimal)).decode().rstrip("=")
        identity = f"ni:///sha-256;{text}"
        known = self.crate.get(identity)
        if known is not None:
            return known
        size = {"contentSize": str(Path(path).stat().st_size)} if Path(path).is_file() else {}
        properties = {
            "name": path,
            "description": f"{role}; not in the crate, identified by its SHA-256 digest",
            "encodingFormat": "application/octet-stream",
            "sha256": hexadecimal,
        }
        return self.crate.add_file(identity, properties=properties | size)

    def action(self, identity: str, instrument: Any, **properties: Any) -> None:
        """Add a completed action."""
        done = {"actionStatus": "http://schema.org/CompletedActionStatus"}
        self.crate.root_dataset.append_to(
            "mentions",
            self.crate.add_action(
                instrument,
                identity,
                properties={"@type": "CreateAction"} | done | properties,
            ),
        )

    def run(self, folder: Path) -> datetime:
        """Add a training run, and return its end time."""
        record = read_json(folder / "run.json")
        # Several models may be taken from one pre-training, each in a subfolder of the run.
        spec = self.file(folder / "spec.json") or self.file(folder.parent / "spec.json")
        results = [self.file(folder / name) for name in _RESULTS_OF_A_RUN]
        paths = _input_paths(record["spec"]["inputs"])
        inputs = [
            self.large(paths.get(role, role), hexadecimal, role.replace("_", " "))
            for role, hexadecimal in record["inputs"].items()
        ]
        model = folder / "model.pt"
        if model.is_file():
            results.append(self.large(str(model), sha256(model), "trained model"))
        end = datetime.fromisoformat(record["finished"])
        # The start of an interrupted run is unknown.
        start = end - timedelta(seconds=round(record["wall_seconds"]))
        times = {} if record["resumptions"] else {"startTime": start.isoformat()}
        name = "/".join(folder.relative_to(self.results).parts[1:])
        self.action(
            f"#run-{name}",
            self._trainer(record),
            name=f"{record['spec']['kind']}: {name}",
            description=_sentence(record),
            object=[entity for entity in (spec, *inputs) if entity is not None],
            result=[entity for entity in results if entity is not None],
            endTime=record["finished"],
            **times,
        )
        return end

    def _trainer(self, record: Mapping[str, Any]) -> ContextEntity:
        """Return the version of the training code that a run used, with its packages."""
        code, versions = record["code"], record["versions"]
        packages = [self._package(name, version) for name, version in versions.items()]
        return self._context(
            f"#training-code-{digest([code, versions])}",
            "SoftwareApplication",
            name="workflow_scripts.training.train",
            softwareVersion=_version(code),
            softwareRequirements=packages,
        )

    def _package(self, name: str, version: str) -> ContextEntity:
        url = f"https://pypi.org/project/{name}/{version}/"
        if name == "python":
            url = f"https://www.python.org/downloads/release/python-{version.replace('.', '')}/"
        properties = {"name": name, "softwareVersion": version, "url": url}
        return self._context(url, "SoftwareApplication", **properties)


def _format(path: Path) -> str:
    known = {".md": "text/markdown", ".rst": "text/x-rst"}
    return known.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"


def _version(code: Mapping[str, Any]) -> str:
    text = f"commit {code['commit'] or 'unknown'}"
    text += " with uncommitted changes" if code["dirty"] else ""
    return text + (f", code digest {code['digest']}" if "digest" in code else "")


def _input_paths(inputs: Mapping[str, Any]) -> dict[str, str]:
    evaluation, manifest = Path(inputs["evaluation"]), Path(inputs["manifest"])
    paths = {role: path for role, path in inputs.items() if isinstance(path, str)}
    # The base is known only while the overlay's manifest exists.
    overlays = ("manifest", "tokens", "augmented") if manifest.is_file() else ()
    bases = {f"base_{r}": file_of_base(paths[r], manifest) for r in overlays if r in paths}
    return (
        paths
        | {role: str(file) for role, file in bases.items() if file is not None}
        | {
            "evaluation_manifest": str(evaluation / "manifest.parquet"),
            "evaluation_classes": str(evaluation / "classes.json"),
        }
    )


def _sentence(record: Mapping[str, Any]) -> str:
    spec, hardware = record["spec"], record["hardware"]
    resumed = len(record["resumptions"])
    rate = spec["optimizer"]["learning_rate"]
    trained = (
        f"{spec['epochs']} epochs of {', '.join(spec['objective'])} with learning rate {rate:g}"
    )
    return (
        f"{trained if spec['epochs'] else 'No training'}, by {hardware['processes']} "
        f"process{'es' if hardware['processes'] > 1 else ''} on {hardware['device']}, in "
        f"{record['wall_seconds']:.0f} seconds"
        + (f", resumed {resumed} time{'s' if resumed > 1 else ''}" if resumed else "")
    )


def run_folders(results: Path, experiments: Sequence[str]) -> list[Path]:
    """Return the folders of the experiments' runs and of their start models, without duplicates.

    Raises:
        StepError: An experiment or a run is not finished.
    """
    folders: list[Path] = []
    for experiment in experiments:
        table = read_csv(
            results / "experiments" / experiment / "runs.csv", (*RUN_COLUMNS, "folder")
        )
        folders += map(Path, table["folder"])
    found: dict[Path, None] = {}
    for folder in folders:
        _add_with_starts(results, folder, found)
    return [results / folder for folder in found]


def _add_with_starts(results: Path, folder: Path, found: dict[Path, None]) -> None:
    """Add a run's folder, preceded by those of the runs that its model descends from."""
    record = results / folder / "run.json"
    if not record.is_file():
        raise StepError(f"{record} does not exist; finish the runs before exporting")
    start = read_json(record)["spec"]["inputs"].get("start")
    if start:
        # The results may have been moved, so only the path within them is used.
        parts = Path(start).parent.parts
        place = len(parts) - 1 - parts[::-1].index("pretraining")
        _add_with_starts(results, Path(*parts[place:]), found)
    found[folder] = None


def export(results: Path, output: Path) -> None:
    """Write the crate of ``results`` to the folder ``output``.

    Raises:
        StepError: The config does not exist, or an experiment in it is not finished.
    """
    path = results / "workflow" / "config.json"
    if not path.is_file():
        raise StepError(f"{path} does not exist; run the target `all` first")
    config = read_json(path)
    folders = run_folders(results, config["all"])
    with atomic_folder(output) as temporary, tempfile.TemporaryDirectory() as staged:
        crate = Crate(results, config, Path(staged))
        ends = [crate.run(folder) for folder in tqdm(folders, mininterval=5)]
        shown = [results / "metrics.csv", *sorted((results / "workflow").glob("*.svg"))]
        shown += sorted(results.glob("sources/*/losses.csv"))
        for name in config["all"]:
            shown += sorted((results / "experiments" / name).glob("[!.]*"))
        kept = [crate.file(file) for file in shown if file.suffix in _TABLES | _FIGURES]
        crate.action(
            "#workflow-run",
            crate.workflow,
            name="snakemake all",
            description="All steps from the URL lists to the tables and figures",
            object=crate.file(path),
            result=[entity for entity in kept if entity is not None],
            endTime=max(ends).isoformat(),
        )
        crate.crate.write(temporary)


def main(arguments: list[str] | None = None) -> None:
    """Export the finished results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True, help="folder, e.g. results/demo")
    parser.add_argument("--output", type=Path, required=True, help="folder of the crate")
    options = parser.parse_args(arguments)
    export(options.results, options.output)


if __name__ == "__main__":
    run_step(main)
