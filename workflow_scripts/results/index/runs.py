"""Details of each run on the page: attack, settings, budget, code and cost."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.attacks import Spec, named, without_trigger
from workflow_scripts.common.columns import KNOWLEDGE_COLUMN, SWEEP_COLUMN
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.common.tower_passes import tower_passes
from workflow_scripts.results.formatting import column_text, value_text
from workflow_scripts.results.run_table import Code, code_of, read_record

NO_ATTACK = "none"
# Spec keys that are not settings of a defence: execution, inputs, budget and replicate.
_NOT_SETTINGS = (
    "accumulation", "attack", "checkpoint", "compile", "device", "epochs", "evaluation_batch_size",
    "held_out", "inputs", "keep_selected", "kind", "measures", "model",
    "optimizer.learning_rate", "precision", "run", "seed", "staging", "wandb", "warmup_steps",
)  # fmt: skip
# A pre-training has no budget to compare; its model is named separately.
_NOT_OF_PRETRAINING = {*_NOT_SETTINGS} - {"epochs", "optimizer.learning_rate", "warmup_steps"}
_HIDDEN = ("attack.image_size", "attack.seed", "attack.templates")
# In an attack with parts, these are settings of its first part.
_BY_PART = ("attack.captions.name", "attack.parts", "attack.poisoned", "attack.target",
            "attack.victims.name")  # fmt: skip
# Texts of built-in variants; others are shown by their names.
_TRIGGERS = {
    "blended": "blended noise",
    "checker": "checkered patch",
    "image_blend": "blended image",
    "nashville": "Nashville filter",
    "patch": "learned patch",
    "random": "random patch",
    "sig": "sinusoidal signal",
    "text": "red word",
    "triangles": "blended triangles",
    "warped": "warp",
    "yellow": "yellow patch",
}
_OBJECTIVES = {
    "mmcl": "MMCL",
    "roclip": "RoCLIP",
    "siglip": "SigLIP",
    "siglip_bias": "SigLIP with bias",
    "ssl": "SSL",
}


@dataclass(frozen=True)
class Run:
    """A run: its row of runs.csv, its run.json and the version of its code."""

    row: Mapping[str, Any]
    record: Mapping[str, Any]
    code: Code

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec that the run was trained with."""
        return self.record["spec"]

    @property
    def sweep(self) -> dict[str, Any]:
        """The settings of the defence's own sweep, by dotted key, besides the learning rate."""
        text = self.row.get(SWEEP_COLUMN)
        return json.loads(text) if isinstance(text, str) and text else {}

    @property
    def hours(self) -> float:
        """Device-hours (GPU, or CPU process)."""
        return self.record["wall_seconds"] * self.record["hardware"]["processes"] / 3600


def read_runs(table: pd.DataFrame, root: Path) -> list[Run]:
    """Read the run.json of each run.

    Args:
        table: Rows of runs.csv, one per run.
        root: Folder of the results.

    Raises:
        StepError: A run.json is missing.
    """
    found = []
    for row in table.to_dict("records"):
        record = read_record(root / row["folder"])
        found.append(Run(row, record, code_of(record)))
    return found


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping to dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    parts = (flat(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items())
    return {key: item for part in parts for key, item in part.items()}


def differing(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not all equal, in order of appearance."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return [key for key in keys if len({repr(table.get(key)) for table in tables}) > 1]


def attack_texts(runs: Iterable[Run]) -> list[str]:
    """Return a text per run on its attack: the trigger, and differences from the usual values.

    Paths and the settings of parts are included only if attacks could not be distinguished
    without them.
    """
    specs = [flat({"attack": _with_names(run.spec["attack"] or {})}) for run in runs]
    poisoned = [s for s in specs if s.get("attack.poisoned")]
    shown = [k for k in differing(poisoned) if k not in (*_HIDDEN, "attack.trigger.name")]
    usual = {k: Counter(repr(s[k]) for s in poisoned if k in s).most_common(1)[0][0] for k in shown}
    # Keys that only some attacks with the same name have are always shown.
    kept = {
        name: {k: v for k, v in usual.items() if all(k in s for s in poisoned if _name(s) == name)}
        for name in map(_name, poisoned)
    }
    full, short = (
        [
            _attack_text(spec, shown, kept[_name(spec)], brief=brief)
            if spec.get("attack.poisoned")
            else NO_ATTACK
            for spec in specs
        ]
        for brief in (False, True)
    )
    meanings = Counter(text for text, _ in set(zip(short, full, strict=True)))
    return [long if meanings[text] > 1 else text for text, long in zip(short, full, strict=True)]


def _with_names(attack: Spec) -> Spec:
    """Return an attack whose victims and captions are mappings."""
    names = {k: {"name": attack[k]} for k in ("victims", "captions") if type(attack.get(k)) is str}
    return attack | names


def _name(spec: Mapping[str, Any]) -> str:
    """Return the triggers of an attack's parts, or the victims of parts without a trigger."""
    whole = {
        "trigger": {"name": spec.get("attack.trigger.name", "unknown")},
        "victims": spec.get("attack.victims.name"),
    }
    parts = [whole | part for part in spec.get("attack.parts") or [{}]]
    names = [
        _words(named(one["victims"])[0])
        if without_trigger(one)
        else _TRIGGERS.get(one["trigger"]["name"], _words(one["trigger"]["name"]))
        for one in parts
    ]
    return " + ".join(names) + (", no trigger" if all(map(without_trigger, parts)) else "")


def _words(variant: str) -> str:
    """Return the name of a variant, which may be given by its file, as words."""
    return Path(variant).stem.replace("_", " ")


def _attack_text(
    spec: Mapping[str, Any], shown: Sequence[str], usual: Mapping[str, str], *, brief: bool
) -> str:
    left_out = _BY_PART if "attack.parts" in spec else ()
    others = [
        f"{spec[key]:,} poisoned pairs"
        if key == "attack.poisoned" and isinstance(spec[key], int)
        else f"{key.removeprefix('attack.').removeprefix('trigger.').removesuffix('.name')}: "
        f"{_short(spec[key])}".replace("_", " ")
        for key in shown
        if spec.get(key) is not None
        and repr(spec[key]) != usual.get(key)
        and not (brief and (key in left_out or "/" in str(spec[key])))
    ]
    return _name(spec) + (f" ({', '.join(others)})" if others else "")


def setting_texts(runs: Sequence[Run]) -> list[str]:
    """Return the settings of each run that differ from the usual ones of its defence.

    Seed, attack, budget and the settings of the defence's own sweep are not included.
    """
    specs = [_settings(run.spec, (*_NOT_SETTINGS, *run.sweep)) for run in runs]
    texts = [""] * len(runs)
    groups: dict[str, list[int]] = {}
    for n, run in enumerate(runs):
        groups.setdefault(run.row["defence"], []).append(n)
    for places in groups.values():
        varied = differing([specs[n] for n in places])
        usual = {
            k: Counter(repr(specs[n].get(k)) for n in places).most_common(1)[0][0] for k in varied
        }
        for n in places:
            other = [k for k in varied if repr(specs[n].get(k)) != usual[k]]
            texts[n] = ", ".join(f"{column_text(k)} {_short(specs[n].get(k))}" for k in other)
    return texts


def sweep_text(run: Run) -> str:
    """Return the settings of the sweep of a run's defence, except the learning rate."""
    return ", ".join(f"{column_text(key)} {_short(v)}" for key, v in flat(run.sweep).items())


def trial_text(run: Run) -> str:
    """Return the learning rate of a run and the other settings of its defence's sweep."""
    rate = run.row["learning_rate"]
    texts = ["" if pd.isna(rate) else f"learning rate {value_text(rate)}", sweep_text(run)]
    return ", ".join(filter(None, texts)) or "no training"


def _settings(spec: Mapping[str, Any], excluded: Iterable[str] = _NOT_SETTINGS) -> dict[str, Any]:
    return {
        key: value
        for key, value in flat(spec).items()
        if not any(key == other or key.startswith(f"{other}.") for other in excluded)
        # Paths of artefacts differ between start models.
        and not (isinstance(value, str) and "/" in value)
    }


def _short(value: Any) -> str:
    return value_text(value) if not isinstance(value, list) else "–".join(map(str, value))


def start_texts(runs: Sequence[Run], starts: Sequence[Run | None]) -> list[str]:
    """Return the label of each run's start model.

    Start models share a label if they differ only in seed and attack: settings of the pre-training
    in which start models of one label differ are appended, and labels that stand for different
    attacks on the same pre-training are joined.
    """
    texts = [str(run.row["start_label"]) for run in runs]
    found = {n: start for n, start in enumerate(starts) if start is not None}
    settings = {n: _pretraining(s.spec, str(runs[n].row["start"])) for n, s in found.items()}
    by_label: dict[str, dict[int, dict[str, Any]]] = {}
    for n, spec in settings.items():
        by_label.setdefault(texts[n], {})[n] = spec
    for specs in by_label.values():
        varied = [key for key in differing([*specs.values()]) if key in _shared(specs.values())]
        for n, spec in specs.items():
            others = ", ".join(
                _short(spec[key])
                if key == "model"
                else f"{column_text(key).lower()} {_short(spec[key])}"
                for key in varied
            )
            texts[n] += f" ({others})" if others else ""
    return _joined(texts, found, settings)


def _joined(
    texts: list[str], starts: Mapping[int, Run], settings: Mapping[int, Mapping[str, Any]]
) -> list[str]:
    """Join the labels of start models that differ only in seed and attack."""
    keys = _shared(settings.values())
    labels: dict[str, dict[str, set[str]]] = {}
    kinds: dict[int, str] = {}
    for n, start in starts.items():
        inputs, attack = start.spec["inputs"], start.spec["attack"] or {}
        # The pairs that a filter keeps depend on more than the attack.
        if not attack.get("poisoned") or settings[n]["filtered"]:
            continue
        continued = inputs.get("start") and Path(inputs["start"]).parent.name.rpartition("-")[0]
        same = {key: settings[n][key] for key in sorted(keys)}
        kinds[n] = repr((same, dataset_of(start), continued))
        attack = {key: value for key, value in attack.items() if key != "seed"}
        labels.setdefault(kinds[n], {}).setdefault(texts[n], set()).add(repr(attack))
    joined = list(texts)
    for n, kind in kinds.items():
        attacks = labels[kind].values()
        if len(set().union(*attacks)) == sum(map(len, attacks)):
            joined[n] = " / ".join(labels[kind])
    return joined


def _shared(specs: Collection[Mapping[str, Any]]) -> set[str]:
    """Return the keys of all specs; runs made by older code lack settings added since."""
    return set.intersection(*({*spec} for spec in specs)) if specs else set()


def dataset_of(run: Run) -> str:
    """Return the name of the dataset of a pre-training run."""
    return Path(run.spec["inputs"]["manifest"]).parent.name.split("-")[0]


def _pretraining(spec: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the settings of a pre-training, except its seed and attack.

    Args:
        spec: Spec of the run.
        model: Id of the start model: a run, or which of its epochs is taken.
    """
    settings = _settings(spec, _NOT_OF_PRETRAINING)
    terms = {key: settings.pop(key) for key in [*settings] if key.startswith("objective.")}
    taken, inputs = model.partition("/")[2].removeprefix("epoch-"), spec["inputs"]
    return {
        "model": spec["model"]["name"],
        "weights": Path(spec["model"].get("pretrained") or "random").name,
        "objective": " ".join(f"{k.partition('.')[2]} {_short(v)}" for k, v in terms.items()),
        # The digest of a matched start model differs between seeds.
        "start_epoch": "matched" if taken.startswith("matches") else taken or "last",
        "continued": inputs.get("start") is not None,
        "filtered": Path(inputs["manifest"]).parent.parent.name == "filters",
        **settings,
    }


def passes_of(run: Run) -> float:
    """Return the tower passes per training pair of a run; NaN if unknown."""
    try:
        return tower_passes(run.spec["objective"])
    except StepError:  # the user's own file with the loss term no longer exists
        return float("nan")


def split_report(run: Run, root: Path) -> Mapping[str, Any]:
    """Return the report of the split that a run was trained on, empty if there is none."""
    path = root / "splits" / Path(run.spec["inputs"]["manifest"]).parent.name / "report.json"
    return read_json(path) if path.is_file() else {}


def runs_frame(runs: Sequence[Run], root: Path) -> pd.DataFrame:
    """Return one row per run with the columns that the page groups and filters by.

    Returns:
        ``run``, ``folder``, ``kind``, ``start``, ``start_label``, ``defence``, ``learning_rate``;
        ``attack``, ``setting``, ``sweep``, ``trial`` and ``objective`` (texts); ``dataset``;
        ``start_seed`` (of the start model's pre-training; its id if that is unknown);
        ``split`` (the folder of the training pairs); ``seed``; ``pairs`` and ``poisoned_left`` of
        the cleaning data; ``epochs``; ``hours`` (device-hours); ``passes`` (tower passes per pair);
        ``knowledge`` of the defence (text).
    """
    frame = pd.DataFrame([run.row for run in runs])
    cleaning = [n for n, run in enumerate(runs) if run.row["kind"] == "cleaning"]
    settings = [""] * len(runs)
    for n, text in zip(cleaning, setting_texts([runs[n] for n in cleaning]), strict=True):
        settings[n] = text
    reports = [split_report(run, root) for run in runs]
    own = {run.row["run"]: run for run in runs if run.row["kind"] != "cleaning"}
    # A start model is a run, or one of its epochs: <run>/epoch-21.
    trained = [own.get(str(run.row["start"]).partition("/")[0]) for run in runs]
    starts = [start or run for start, run in zip(trained, runs, strict=True)]
    left = [report.get("poisoned_left", 0) for report in reports]
    return frame.assign(
        knowledge=frame.get(KNOWLEDGE_COLUMN, pd.Series("", frame.index)).fillna(""),
        start_label=start_texts(runs, trained),
        attack=attack_texts(runs),
        setting=[
            ", ".join(filter(None, [text, f"{n} residual poisoned pairs" if n else ""]))
            for text, n in zip(settings, left, strict=True)
        ],
        sweep=[sweep_text(run) for run in runs],
        trial=[trial_text(run) for run in runs],
        objective=[
            "+".join(_OBJECTIVES.get(name, name) for name in sorted(start.spec["objective"]))
            for start in starts
        ],
        start_seed=[
            int(start.spec["seed"]) if start else str(run.row["start"])
            for start, run in zip(trained, runs, strict=True)
        ],
        dataset=[dataset_of(start) for start in starts],
        split=[Path(run.spec["inputs"]["manifest"]).parent.name for run in runs],
        seed=[int(run.spec["seed"]) for run in runs],
        pairs=[report.get("pairs", 0) for report in reports],
        poisoned_left=left,
        epochs=[int(run.spec["epochs"]) for run in runs],
        hours=[run.hours for run in runs],
        passes=[passes_of(run) for run in runs],
    )
