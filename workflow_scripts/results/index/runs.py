"""What the page tells about each run: its attack, settings, budget, code and cost."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common import passes
from workflow_scripts.common.attacks import named, without_trigger
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.results.runs import Code, code_of
from workflow_scripts.results.text import column_text, value_text

NO_ATTACK = "none"
# Not settings of a defence: how a run is carried out, its inputs, its budget, its replicate.
_NOT_SETTINGS = (
    "accumulation", "attack", "checkpoint", "compile", "device", "epochs", "evaluation_batch_size",
    "held_out", "inputs", "kind", "model", "optimizer.learning_rate", "precision", "run", "seed",
    "staging", "wandb", "warmup_steps",
)  # fmt: skip
_NOT_TOLD = ("attack.image_size", "attack.seed", "attack.templates")


@dataclass(frozen=True)
class Run:
    """A run of the experiments: its row of runs.csv, its record and the code that made it."""

    row: Mapping[str, Any]
    record: Mapping[str, Any]
    code: Code

    @property
    def spec(self) -> Mapping[str, Any]:
        """The run's spec, as it was trained."""
        return self.record["spec"]

    @property
    def hours(self) -> float:
        """Hours of a device (GPU, or process on the CPU)."""
        return self.record["wall_seconds"] * self.record["hardware"]["processes"] / 3600


def read_runs(table: pd.DataFrame, root: Path) -> list[Run]:
    """Read the record of each run.

    Args:
        table: Rows of runs.csv, one for each run.
        root: The results.

    Raises:
        StepError: A record is missing.
    """
    found = []
    for row in table.to_dict("records"):
        path = root / row["folder"] / "run.json"
        if not path.is_file():
            raise StepError(f"{path} does not exist; do the run first")
        record = read_json(path)
        found.append(Run(row, record, code_of(record)))
    return found


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as dotted keys to values that are no mappings."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    parts = (flat(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items())
    return {key: item for part in parts for key, item in part.items()}


def differing(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not all equal, in order of appearance."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return [key for key in keys if len({repr(table.get(key)) for table in tables}) > 1]


def attack_texts(runs: Iterable[Run]) -> list[str]:
    """Return the words for each run's attack: the trigger, and how it differs from most attacks."""
    specs = [flat({"attack": run.spec["attack"] or {}}) for run in runs]
    poisoned = [s for s in specs if s.get("attack.poisoned")]
    told = [k for k in differing(poisoned) if k not in (*_NOT_TOLD, "attack.trigger.name")]
    usual = {k: Counter(repr(s[k]) for s in poisoned if k in s).most_common(1)[0][0] for k in told}
    # Keys that only some attacks of a name have are shown for those that have them.
    kept = {
        name: {k: v for k, v in usual.items() if all(k in s for s in poisoned if _name(s) == name)}
        for name in map(_name, poisoned)
    }
    return [
        _attack_text(spec, told, kept[_name(spec)]) if spec.get("attack.poisoned") else NO_ATTACK
        for spec in specs
    ]


def _name(spec: Mapping[str, Any]) -> str:
    """Return the triggers of an attack's parts; of a part without one, its victims."""
    whole = {
        "trigger": {"name": spec.get("attack.trigger.name", "unknown")},
        "victims": spec.get("attack.victims.name", spec.get("attack.victims")),
    }
    parts = [whole | part for part in spec.get("attack.parts") or [{}]]
    chosen = [one["victims"] if without_trigger(one) else one["trigger"]["name"] for one in parts]
    return " + ".join(Path(named(one)[0]).stem for one in chosen)


def _attack_text(spec: Mapping[str, Any], told: Sequence[str], usual: Mapping[str, str]) -> str:
    others = [
        f"{key.removeprefix('attack.').removeprefix('trigger.').replace('_', ' ')} "
        f"{_short(spec[key])}"
        for key in told
        if spec.get(key) is not None and repr(spec[key]) != usual.get(key)
    ]
    return _name(spec) + (f" ({', '.join(others)})" if others else "")


def setting_texts(runs: Sequence[Run]) -> list[str]:
    """Return how each run differs from most runs of its defence.

    Learning rate, seed, attack and budget are told elsewhere.
    """
    specs = [_settings(run.spec) for run in runs]
    texts = [""] * len(runs)
    groups: dict[str, list[int]] = {}
    for n, run in enumerate(runs):
        groups.setdefault(run.row["defence"], []).append(n)
    for places in groups.values():
        told = differing([specs[n] for n in places])
        usual = {
            k: Counter(repr(specs[n].get(k)) for n in places).most_common(1)[0][0] for k in told
        }
        for n in places:
            other = [k for k in told if repr(specs[n].get(k)) != usual[k]]
            texts[n] = ", ".join(f"{column_text(k)} {_short(specs[n].get(k))}" for k in other)
    return texts


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in flat(spec).items()
        if not any(key == other or key.startswith(f"{other}.") for other in _NOT_SETTINGS)
        # An artefact's path differs between start models.
        and not (isinstance(value, str) and "/" in value)
    }


def _short(value: Any) -> str:
    return value_text(value) if not isinstance(value, list) else "–".join(map(str, value))


def tower_passes(run: Run) -> float:
    """Return the tower passes for each pair of a run's training; NaN where they are unknown."""
    try:
        return passes.tower_passes(run.spec["objective"])
    except StepError:  # a loss term of a user's own file that is no longer there
        return float("nan")


def split_report(run: Run, root: Path) -> Mapping[str, Any]:
    """Return the counts of the split that a run was trained on, empty if there are none."""
    path = root / "splits" / Path(run.spec["inputs"]["manifest"]).parent.name / "report.json"
    return read_json(path) if path.is_file() else {}


def runs_frame(runs: Sequence[Run], root: Path) -> pd.DataFrame:
    """Return a row for each run with all that the page groups and filters by.

    Returns:
        ``run``, ``folder``, ``kind``, ``start``, ``start_label``, ``defence``, ``learning_rate``;
        ``attack``, ``setting`` and ``objective`` (texts); ``dataset``; ``seed`` and ``start_seed``;
        ``pairs`` and ``poisoned_left`` of the cleaning data; ``epochs``; ``hours`` of a device;
        ``passes`` of a tower for each pair.
    """
    frame = pd.DataFrame([run.row for run in runs])
    cleaning = [n for n, run in enumerate(runs) if run.row["kind"] == "cleaning"]
    settings = [""] * len(runs)
    for n, text in zip(cleaning, setting_texts([runs[n] for n in cleaning]), strict=True):
        settings[n] = text
    reports = [split_report(run, root) for run in runs]
    own = {run.row["run"]: run for run in runs if run.row["kind"] == "pretraining"}
    starts = [own.get(run.row["start"], run) for run in runs]
    left = [report.get("poisoned_left", 0) for report in reports]
    models = [run.spec["model"]["name"] for run in runs]
    label = frame["start_label"].astype(str)
    several = pd.Series(models).groupby(label).transform("nunique") > 1
    label = label.where(~several, label + pd.Series([f" ({model})" for model in models]))
    return frame.assign(
        start_label=label,
        attack=attack_texts(runs),
        setting=[
            ", ".join(filter(None, [text, f"{n} poisoned pairs left" if n else ""]))
            for text, n in zip(settings, left, strict=True)
        ],
        objective=["+".join(sorted(start.spec["objective"])) for start in starts],
        dataset=[Path(s.spec["inputs"]["manifest"]).parent.name.split("-")[0] for s in starts],
        seed=[int(run.spec["seed"]) for run in runs],
        pairs=[report.get("pairs", 0) for report in reports],
        poisoned_left=left,
        epochs=[int(run.spec["epochs"]) for run in runs],
        hours=[run.hours for run in runs],
        passes=[tower_passes(run) for run in runs],
    )
