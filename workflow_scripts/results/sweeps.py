"""How much was looked at for each defence: unequal sweeps are said, never hidden."""

import pandas as pd

from workflow_scripts.results.selection import cleaned_models
from workflow_scripts.results.table import varied_columns

_SAME = 0.05  # pairs that differ by less are the same, cut into batches of another size


def work_sentence(metrics: pd.DataFrame) -> str:
    """Return whether all cleaned models of a tidy table come from the same sweep, in one sentence.

    A sweep is the learning rates, the epochs and the pairs that a start model was cleaned with by
    one defence at one value of what else varies.
    """
    sweeps = _sweeps(metrics)
    defences = sweeps["defence"].nunique()
    rates, texts = sweeps["rates"].nunique(), sweeps["text"].unique()
    if len(texts) == 1:
        who = "Each defence" if defences > 1 else "Each line of the table"
        other = "" if rates == 1 else ", not the same learning rates"
        return f"{who} was given the same work: {texts[0]} for each start model{other}."
    each = [
        f"{defence}: {' or '.join(own['text'].unique())}"
        for defence, own in sweeps.groupby("defence", sort=False)
    ]
    who = "defences" if defences > 1 else "lines of the table"
    return f"Not all {who} were searched alike, and more is found by who looks at more. " + (
        "; ".join(each) + "."
    )


def _sweeps(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each sweep: ``defence``, ``rates`` and its size as ``text``."""
    cleaned = cleaned_models(metrics)
    last = cleaned.sort_values("epoch", kind="stable").drop_duplicates("run", keep="last")
    trained = last["epoch"].where(last["epoch"] > 0)
    last = last.assign(pairs=(last["samples_seen"] / trained).astype("float64"))
    if last["pairs"].max() < (1 + _SAME) * last["pairs"].min():
        last["pairs"] = last["pairs"].max()
    groups = ["start", "defence", *(c for c in varied_columns(metrics) if c != "experiments")]
    rows = [
        {"defence": runs["defence"].iloc[0], "rates": _rates(runs), "text": _text(runs)}
        for _, runs in last.groupby(groups, sort=False, dropna=False)
    ]
    return pd.DataFrame(rows)


def _rates(runs: pd.DataFrame) -> tuple[float, ...]:
    return tuple(sorted(runs["learning_rate"].dropna().unique()))


def _text(runs: pd.DataFrame) -> str:
    rates, epochs, pairs = _rates(runs), runs["epoch"], runs["pairs"].max()
    searched = f"{len(rates)} learning rates" if len(rates) != 1 else "1 learning rate"
    if len(rates) != len(runs):  # published points do not say their rates
        searched = f"{len(runs)} runs"
    least, most = epochs.min(), epochs.max()
    if most == 0:
        return f"{len(runs)} run{'s' if len(runs) != 1 else ''} without training"
    long = f"{most}" if least == most else f"{least} to {most}"
    on = "" if pd.isna(pairs) else f" on about {float(f'{pairs:.1e}'):,.0f} pairs"
    return f"{searched} x {long} epochs{on}"
