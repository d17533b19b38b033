"""The generated part of a figure's caption: what it is based on, and its main numbers.

Inputs  metrics.parquet (collect.py or published.py) and the figure's declaration.
Outputs <output>: reStructuredText for the report, with the runs behind the figure and the main
        numbers of each start model and group. It reports measurements without interpreting them.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import atomic
from workflow_scripts.results.best_page import RULE_NAMES
from workflow_scripts.results.figure import chosen_runs
from workflow_scripts.results.formatting import (
    column_text,
    percent_text,
    rst_text,
    threshold_text,
    value_text,
)
from workflow_scripts.results.selection import (
    ACCURACY,
    ASR,
    RECOVERY,
    at_edge,
    baseline_models,
    best_below,
    cleaned_models,
    oracle_free_choice,
    start_models,
    with_scores,
)
from workflow_scripts.results.table import read_table, varied_columns

_MOST = 12  # lines; longer captions are not read
_HALF = 0.5

Labels = Mapping[str, str]


def reading(metrics: pd.DataFrame, spec: dict[str, Any]) -> str:
    """Return the numbers behind the figure declared by ``spec``, as reStructuredText.

    Args:
        metrics: The tidy table.
        spec: The figure's declaration; ``kind``, ``where``, ``accuracy``, ``asr``, ``select``,
            ``asr_below``, ``tolerance`` and ``labels`` are used here.
    """
    metrics, labels = chosen_runs(metrics, spec.get("where", {})), spec.get("labels") or {}
    metrics = with_scores(metrics, spec.get("accuracy", ACCURACY), spec.get("asr", ASR))
    cleaned = cleaned_models(metrics)
    if cleaned.empty or spec["kind"] == "dynamics":
        lines = list(_pretrained(metrics, labels))
        title = "Accuracy (ASR) at the end of pre-training"
    else:
        select = spec.get("select", "best_below")
        rules = [r for r in ([select] if isinstance(select, str) else select) if r != "start"]
        choices = [_Choice(r, spec.get("asr_below", 0.05), spec.get("tolerance", 1)) for r in rules]
        lines = list(_cleaned(metrics, cleaned, choices, labels))
        title = "Accuracy (ASR) of the start models"
        if choices:
            title += " and of the cleaned models with " + ", and with ".join(
                choice.words for choice in choices
            )
    more = len(lines) - _MOST
    shown = lines[:_MOST] + ([f"and {more} more; see the tables"] if more > 0 else [])
    bullets = "\n".join(f"- {rst_text(line)}" for line in shown)
    behind = _behind(metrics, cleaned)
    return f"**Based on** {behind}\n\n**Numbers.** {title}:\n\n{bullets}\n"


@dataclass(frozen=True)
class _Choice:
    """A selection rule, as in the figures' option ``select``."""

    rule: str
    asr_below: float
    tolerance: float

    @property
    def words(self) -> str:
        if self.rule == "best_below":
            return f"the highest accuracy at an ASR < {threshold_text(self.asr_below)}"
        name = RULE_NAMES[self.rule]
        return f"the {name[0].lower()}{name[1:]}, regardless of the ASR"

    def of(self, models: pd.DataFrame, start_accuracy: float) -> str:
        """Return the numbers of the selected model as text."""
        if self.rule == "best_below":
            label = best_below(models, self.asr_below)
        else:
            label = oracle_free_choice(self.rule, models, start_accuracy, self.tolerance)
        return "none" if label is None else _chosen(models, models.loc[label])


def _behind(metrics: pd.DataFrame, cleaned: pd.DataFrame) -> str:
    starts = metrics["start"].nunique()
    text = f"{starts} start model{'s' if starts > 1 else ''}"
    if not cleaned.empty:
        runs = cleaned["run"].nunique()
        rates = cleaned["learning_rate"].dropna().unique()
        text += f", {runs} cleaning run{'s' if runs > 1 else ''}"
        if len(rates) > 1:
            ends = f"{value_text(min(rates))} to {value_text(max(rates))}"
            text += f" with {len(rates)} learning rates from {ends}"
        text += f", {len(cleaned)} cleaned models (one per epoch)"
    images, triggered = metrics["images"].max(), metrics["asr_images"].max()
    if pd.isna(images) or pd.isna(triggered):
        return f"{text}."
    return f"{text}, each evaluated on {images:,} clean and {triggered:,} triggered images."


def _cleaned(
    metrics: pd.DataFrame, cleaned: pd.DataFrame, choices: list[_Choice], labels: Labels
) -> Iterator[str]:
    """Yield one line per start model: its numbers, then the selected model of each group."""
    starts = start_models(metrics)
    names, controls = _start_names(starts, labels), _controls(metrics)
    groups = _varying(cleaned, ["defence", *_others(cleaned)])
    for start in starts.to_dict("records"):
        models = cleaned[cleaned["start"] == start["start"]]
        own = _varying(models, groups)
        learned = [c for c in choices if c.rule != "best_below" or not start[ASR] < c.asr_below]
        parted = models.groupby(own, sort=False, dropna=False) if own else [((), models)]
        before, parts = f"Start model {names[start['start']]}: {_numbers(start)}", []
        before += controls.get(start["start"], "")
        if len(learned) < len(choices):
            before += " (the attack was not learned)"
        for values, group in parted:
            chosen = ", ".join(choice.of(group, start[ACCURACY]) for choice in learned)
            name = f"{_group_name(own, values, labels)}: " if own else ""
            parts += [f"{name}{chosen}"] if chosen else []
        yield ". After cleaning: ".join(filter(None, [before, "; ".join(parts)]))


def _pretrained(metrics: pd.DataFrame, labels: Labels) -> Iterator[str]:
    """Yield one line per pre-training run: its final numbers, and when its ASR reached 50 %."""
    own = metrics[metrics["kind"] == "pretraining"].sort_values("epoch", kind="stable")
    names, controls = _start_names(start_models(metrics), labels), _controls(metrics)
    for start, epochs in own.groupby("start", sort=False):
        last = epochs.iloc[-1]
        above = epochs[epochs[ASR] >= _HALF]
        when = f"the ASR never reached {threshold_text(_HALF)}"
        if len(above):
            when = (
                f"the ASR first reached {threshold_text(_HALF)} after epoch "
                f"{above['epoch'].iloc[0]}: {_numbers(above.iloc[0])}"
            )
        end = f"{_numbers(last)} after epoch {last['epoch']}{controls.get(start, '')}"
        yield f"{names[start]}: {end}; {when}"


def _controls(metrics: pd.DataFrame) -> dict[str, str]:
    """Return the text about the clean control of each start model that has one."""
    return {
        control["start"]: f", clean control {_numbers(control)}"
        for control in baseline_models(metrics).to_dict("records")
    }


def _start_names(starts: pd.DataFrame, labels: Labels) -> dict[str, str]:
    """Return distinguishing names of the start models: the label and what varies between them."""
    columns = _varying(starts, _others(starts))
    return {
        row["start"]: ", ".join(
            filter(
                None, [row["start_label"], _group_name(columns, [row[c] for c in columns], labels)]
            )
        )
        for row in starts.to_dict("records")
    }


def _others(table: pd.DataFrame) -> list[str]:
    return [c for c in varied_columns(table) if c != "experiments"]


def _varying(table: pd.DataFrame, columns: list[str]) -> list[str]:
    return [c for c in columns if table[c].nunique(dropna=False) > 1]


def _group_name(columns: list[str], values: Any, labels: Labels) -> str:
    texts = [
        value_text(value, labels)
        if column == "defence"
        else f"{column_text(column, labels)} {value_text(value, labels)}"
        for column, value in zip(columns, values, strict=True)
    ]
    return ", ".join(texts)


def _chosen(models: pd.DataFrame, model: pd.Series) -> str:
    """Return the numbers of a selected model, its learning rate and its epoch."""
    parts = [f"recovery {percent_text(model[RECOVERY])}"] if RECOVERY in model.index else []
    if not pd.isna(model["learning_rate"]):
        edge = " (edge of the sweep)" if at_edge(models, model) else ""
        parts.append(f"learning rate {value_text(model['learning_rate'])}{edge}")
    return ", ".join([_numbers(model), *parts, f"epoch {model['epoch']}"])


def _numbers(model: Mapping[str, Any] | pd.Series) -> str:
    return f"{percent_text(model[ACCURACY])} ({percent_text(model[ASR])})"


def main(arguments: list[str] | None = None) -> None:
    """Write the numbers of one figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.parquet")
    parser.add_argument("--spec", required=True, help='JSON, e.g. {"kind": "scatter"}')
    parser.add_argument("--output", type=Path, required=True, help="<figure>.rst")
    options = parser.parse_args(arguments)
    text = reading(read_table(options.metrics), json.loads(options.spec))
    with atomic(options.output) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_step(main)
