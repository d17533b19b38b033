"""Checks the figures of experiments: their kinds, options, columns and selected runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workflow_scripts.common import columns, variants
from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.check_variants import check_variant
from workflow_scripts.experiments.dotted import listed, varied_keys
from workflow_scripts.experiments.layers import Settings, cleaning_settings, pretraining_settings
from workflow_scripts.experiments.slugs import CAPTIONS, RATE, column_value, start_columns
from workflow_scripts.experiments.slugs import columns as columns_of

Spec = dict[str, Any]

# Keys of a figure that are not options of its kind; `under` is an option of some kinds.
_OF_ANY_KIND = ("kind", "where", "caption")
# Names of the other files in the folder of an experiment.
TABLES = ("artefacts", "best", "leaks", "measures", "metrics", "metrics_long", "runs")


def check_figures(config: Spec) -> None:
    """Check all figures of all experiments.

    Raises:
        StepError: The first error; the message names the key.
    """
    # Labels of all starts and defences: an override may remove some from an experiment.
    labels = {
        declared["label"] for key in ("starts", "defences") for declared in config[key].values()
    }
    for name, experiment in config["experiments"].items():
        if not experiment["figures"]:
            continue
        values = _values(config, name)
        for figure, declared in experiment["figures"].items():
            place = f"experiments.{name}.figures.{figure}"
            if figure in TABLES:
                raise StepError(
                    f"config: {place!r} has the name of a table of the experiment; rename the "
                    "figure"
                )
            _check_figure(declared, place, values, labels)
            kind = declared["kind"]
            if variants.attribute("figure", kind, "SHOWS_CLEANED", False) and not values["defence"]:
                raise StepError(
                    f"config: {place!r} draws cleaned models, but 'experiments.{name}.defence' is "
                    "empty; add a defence, or use 'kind: dynamics'"
                )


def _check_figure(
    declared: Spec, place: str, values: dict[str, set[Any] | None], labels: set[str]
) -> None:
    def place_of(option: str | None) -> str:
        return f"{place}.{option}" if option else f"{place}.kind"

    options = {k: v for k, v in declared.items() if k not in _OF_ANY_KIND}
    kind = declared["kind"]
    check_variant("figure", kind, options, place_of)
    known = variants.options("figure", kind)
    for option, value in options.items():
        if option in known and "'column'" in known[option].annotation and value is not None:
            for column in value if isinstance(value, list) else [value]:
                _check_column(column, f"{place}.{option}", values)
    _check_order(place, options, known, values, labels)
    _check_under(f"{place}.under", declared.get("under"))
    for rule in listed(options.get("select", [])):
        column = str(rule).removeprefix("lowest_")
        if column in columns.HELDOUT_COLUMNS and column not in values:
            raise StepError(
                f"config: '{place}.select' is {rule!r}, but no pairs are held out; raise "
                "'cleaning.data.held_out', or use another rule"
            )
    for column, wanted in declared.get("where", {}).items():
        _check_column(column, f"{place}.where", values)
        existing = values[column]
        if existing is not None:
            listed_values = wanted if isinstance(wanted, list) else [wanted]
            _check_where(listed_values, f"{place}.where.{column}", existing, labels)


def _check_order(
    place: str,
    options: Spec,
    known: dict[str, variants.Option],
    values: dict[str, set[Any] | None],
    labels: set[str],
) -> None:
    by = options.get("by", known["by"].default if "by" in known else None)
    existing = values.get(by) if isinstance(by, str) else None
    renamed = set((options.get("labels") or {}).values())
    for value in options.get("order") or []:
        if existing and value not in existing | labels | renamed:
            raise StepError(
                f"config: '{place}.order' names {value!r}, which is not a value of the column "
                f"{by!r}; "
                f"{nearest(str(value), map(str, existing))}"
            )


def _check_under(place: str, under: Any) -> None:
    path = under["points"] if isinstance(under, dict) else under
    if path is not None and Path(path).suffix not in (".json", ".parquet"):
        raise StepError(
            f"config: {place!r} is {path!r}, but must be a metrics.parquet or a .json file of "
            "published points"
        )


def _check_column(column: str, place: str, values: Iterable[str]) -> None:
    if column not in values:
        raise StepError(
            f"config: {place!r} names {column!r}, which is not a column of the experiment's "
            f"metrics; {nearest(column, values)}"
        )


def _check_where(wanted: list[Any], place: str, existing: set[Any], labels: set[str]) -> None:
    """Check that each value exists, and that the experiment has at least one of them."""
    absent = not existing.intersection(wanted)
    for value in wanted:
        if absent or value not in existing | labels:
            texts = sorted(map(str, existing))
            hint = nearest(str(value), texts) if texts else "the column has no values"
            if texts and hint.startswith("did"):
                hint += (
                    f" (the {'labels' if existing <= labels else 'values'} are {', '.join(texts)})"
                )
            raise StepError(
                f"config: {place!r} selects {value!r}, which no run of the experiment has; {hint}"
            )


def _values(config: Spec, name: str) -> dict[str, set[Any] | None]:
    """Return the columns of an experiment's metrics, each with its set of values.

    The values are None if they are not known in advance.
    """
    experiment = config["experiments"][name]
    sweeps = [config["defences"][defence].get("vary", {}) for defence in experiment["defence"]]
    values: dict[str, set[Any] | None] = dict.fromkeys((*columns.RUN_COLUMNS, *columns.NUMBERS))
    values["start_label"] = {config["starts"][start]["label"] for start in experiment["start"]}
    values["defence"] = {config["defences"][defence]["label"] for defence in experiment["defence"]}
    values["kind"] = {"pretraining", "cleaning"} | (
        {"baseline"} if experiment["baseline"] else set()
    )
    starts = [r for s in experiment["start"] for r in pretraining_settings(config, name, s)]
    cleaned = [r for d in experiment["defence"] for r in cleaning_settings(config, name, d)]
    numbers = range(1, 1 + max((len(parts_of(run["attack"])) for run in starts), default=0))
    if len(numbers) > 1:
        parts = [
            columns.MEAN_COLUMN,
            *(f"{columns.PART_COLUMN}{number}" for number in numbers),
        ]
        values |= dict.fromkeys(parts)
    by_start, by_cleaning = [experiment["vary_start"]], [experiment["vary"], *sweeps]
    of_start = start_columns(config, experiment)
    if cleaned and not any(run["data.held_out"] for run in cleaned):
        for column in columns.HELDOUT_COLUMNS:
            del values[column]
    if experiment["defence"]:
        values["learning_rate"] = _values_of(RATE, by_cleaning, cleaned)
    for runs, grids, names in ((starts, by_start, of_start), (cleaned, by_cleaning, {})):
        for key in dict.fromkeys(k for grid in grids for k in varied_keys(grid)):
            if key != RATE and (runs or not experiment["defence"]):
                values[names.get(key, key)] = _values_of(key, grids, runs)
    return values


def _values_of(key: str, grids: list[Any], runs: list[Settings]) -> set[Any]:
    """Return the values of a dotted key: those listed in grids and those of the runs."""
    varied = [value for grid in grids for part in listed(grid) for value in part.get(key, [])]
    # The default captions depend on the victims, so they are known only for a run.
    given = [column_value(value) for value in varied if key != CAPTIONS or value is not None]
    if key == RATE:  # runs without epochs have no learning rate
        own = [run[key] if run["epochs"] else None for run in runs]
    else:
        own = [columns_of(run.spec, [key])[key] for run in runs]
    return {_hashable(value) for value in [*given, *own]}


def _hashable(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value
