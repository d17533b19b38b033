"""What a figure shows, in numbers: the part of its caption that nobody has to write.

Needs   metrics.parquet (collect.py or published.py) and the figure's declaration.
Makes   <output>: reStructuredText for the report, with the runs behind the figure, and for each
        start model and group the numbers that the figure is about. It says what was measured,
        never what that means.
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
from workflow_scripts.results.figure import chosen_runs
from workflow_scripts.results.selection import (
    ACCURACY,
    ASR,
    RECOVERY,
    at_edge,
    baseline_models,
    best_below,
    cleaned_models,
    honest_choice,
    start_models,
)
from workflow_scripts.results.table import read_table, varied_columns
from workflow_scripts.results.text import percent_text, rst_text, threshold_text, value_text

_MOST = 12  # lines; a caption that is longer is not read
_HALF = 0.5


def reading(metrics: pd.DataFrame, spec: dict[str, Any]) -> str:
    """Return what the figure that ``spec`` declares shows of ``metrics``, as reStructuredText.

    Args:
        metrics: The tidy table.
        spec: The figure's declaration; ``kind``, ``where``, ``select``, ``asr_below`` and
            ``tolerance`` matter here.
    """
    metrics = chosen_runs(metrics, spec.get("where", {}))
    cleaned = cleaned_models(metrics)
    if cleaned.empty or spec["kind"] == "dynamics":
        lines = list(_pretrained(metrics))
        title = "Accuracy (ASR) at the end of pre-training"
    else:
        select = spec.get("select", "best_below")
        rules = [r for r in ([select] if isinstance(select, str) else select) if r != "start"]
        choices = [_Choice(r, spec.get("asr_below", 0.05), spec.get("tolerance", 1)) for r in rules]
        lines = list(_cleaned(metrics, cleaned, choices))
        title = "; of those cleaned, ".join(
            ["Accuracy (ASR) of the start models", *(choice.words for choice in choices)]
        )
    more = len(lines) - _MOST
    shown = lines[:_MOST] + ([f"and {more} more, in the tables beside"] if more > 0 else [])
    bullets = "\n".join(f"- {rst_text(line)}" for line in shown)
    behind = _behind(metrics, cleaned)
    return f"**Behind it:** {behind}\n\n**At this scale.** {title}:\n\n{bullets}\n"


@dataclass(frozen=True)
class _Choice:
    """How a model is chosen of those that were looked at: as the figures' option ``select``."""

    rule: str
    asr_below: float
    tolerance: float

    @property
    def words(self) -> str:
        if self.rule == "best_below":
            return f"of the highest accuracy with ASR < {threshold_text(self.asr_below)}"
        return f"of the {self.rule.replace('_', ' ')}, whatever its ASR"

    def of(self, models: pd.DataFrame, start_accuracy: float) -> str:
        """Return the chosen model's numbers as text."""
        if self.rule == "best_below":
            label = best_below(models, self.asr_below)
        else:
            label = honest_choice(self.rule, models, start_accuracy, self.tolerance)
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
        text += f", {len(cleaned)} cleaned models (one for each epoch)"
    images, triggered = metrics["images"].max(), metrics["asr_images"].max()
    if pd.isna(images) or pd.isna(triggered):
        return f"{text}."
    return f"{text}, each evaluated on {images:,} images, and on {triggered:,} triggered ones."


def _cleaned(metrics: pd.DataFrame, cleaned: pd.DataFrame, choices: list[_Choice]) -> Iterator[str]:
    """Yield a line for each start model: itself, then the chosen one of each group cleaned."""
    starts = start_models(metrics)
    names, twins = _start_names(starts), _twins(metrics)
    groups = _varying(cleaned, ["defence", *_others(cleaned)])
    for start in starts.to_dict("records"):
        models = cleaned[cleaned["start"] == start["start"]]
        own = _varying(models, groups)
        learned = [c for c in choices if c.rule != "best_below" or not start[ASR] < c.asr_below]
        parted = models.groupby(own, sort=False, dropna=False) if own else [((), models)]
        before, parts = f"Start model {names[start['start']]}: {_numbers(start)}", []
        before += twins.get(start["start"], "")
        if len(learned) < len(choices):
            before += ", the attack was not learned"
        for values, group in parted:
            chosen = ", ".join(choice.of(group, start[ACCURACY]) for choice in learned)
            name = f"{_group_name(own, values)}: " if own else ""
            parts += [f"{name}{chosen}"] if chosen else []
        yield ". Cleaned, ".join(filter(None, [before, "; ".join(parts)]))


def _pretrained(metrics: pd.DataFrame) -> Iterator[str]:
    """Yield a line for each pre-training run: its end, and when its ASR passed one half."""
    own = metrics[metrics["kind"] == "pretraining"].sort_values("epoch", kind="stable")
    names, twins = _start_names(start_models(metrics)), _twins(metrics)
    for start, epochs in own.groupby("start", sort=False):
        last = epochs.iloc[-1]
        above = epochs[epochs[ASR] >= _HALF]
        when = f"ASR never at {threshold_text(_HALF)} or above"
        if len(above):
            when = (
                f"ASR at {threshold_text(_HALF)} or above first after epoch "
                f"{above['epoch'].iloc[0]}: {_numbers(above.iloc[0])}"
            )
        end = f"{_numbers(last)} after epoch {last['epoch']}{twins.get(start, '')}"
        yield f"{names[start]}: {end}; {when}"


def _twins(metrics: pd.DataFrame) -> dict[str, str]:
    """Return what is said beside each start model that has a twin without poison."""
    return {
        twin["start"]: f", without poison {_numbers(twin)}"
        for twin in baseline_models(metrics).to_dict("records")
    }


def _start_names(starts: pd.DataFrame) -> dict[str, str]:
    """Return what tells the start models apart: the label, and what was varied in them."""
    columns = _varying(starts, _others(starts))
    return {
        row["start"]: ", ".join(
            filter(None, [row["start_label"], _group_name(columns, [row[c] for c in columns])])
        )
        for row in starts.to_dict("records")
    }


def _others(table: pd.DataFrame) -> list[str]:
    return [c for c in varied_columns(table) if c != "experiments"]


def _varying(table: pd.DataFrame, columns: list[str]) -> list[str]:
    return [c for c in columns if table[c].nunique(dropna=False) > 1]


def _group_name(columns: list[str], values: Any) -> str:
    texts = [
        value_text(value) if column == "defence" else f"{column} {value_text(value)}"
        for column, value in zip(columns, values, strict=True)
    ]
    return ", ".join(texts)


def _chosen(models: pd.DataFrame, model: pd.Series) -> str:
    """Return the numbers of a chosen model, and which of the run's epochs it is."""
    told = [f"recovery {percent_text(model[RECOVERY])}"] if RECOVERY in model.index else []
    if not pd.isna(model["learning_rate"]):
        edge = ", the edge of the sweep" if at_edge(models, model) else ""
        told.append(f"learning rate {value_text(model['learning_rate'])}{edge}")
    return ", ".join([_numbers(model), *told, f"epoch {model['epoch']}"])


def _numbers(model: Mapping[str, Any] | pd.Series) -> str:
    return f"{percent_text(model[ACCURACY])} ({percent_text(model[ASR])})"


def main(arguments: list[str] | None = None) -> None:
    """Write what one figure shows."""
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
