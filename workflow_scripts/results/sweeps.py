"""The size of each defence's sweep; unequal sweeps are reported."""

import pandas as pd

from workflow_scripts.results.selection import cleaned_models
from workflow_scripts.results.table import varied_columns

_SAME = 0.05  # smaller relative differences in pairs are due to the batch size


def work_sentence(metrics: pd.DataFrame) -> str:
    """Return a sentence on whether all defences of a tidy table used sweeps of the same size.

    A sweep consists of the learning rates, epochs and pairs used to clean one start model by one
    defence, at one value of each varied column.
    """
    sweeps = _sweeps(metrics)
    defences = sweeps["defence"].nunique()
    rates, texts = sweeps["rates"].nunique(), sweeps["text"].unique()
    if len(texts) == 1:
        rows = "All defences" if defences > 1 else "All rows"
        other = "" if rates == 1 else ", with different learning rates"
        return f"{rows} have the same sweep: {texts[0]} for each start model{other}."
    each = [
        f"{defence}: {' or '.join(group['text'].unique())}"
        for defence, group in sweeps.groupby("defence", sort=False)
    ]
    rows = "Defences" if defences > 1 else "Rows"
    return f"{rows} have unequal sweeps; a larger one favours a defence. {'; '.join(each)}."


def _sweeps(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row per sweep: ``defence``, ``rates`` and its size as ``text``."""
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
    if len(rates) != len(runs):  # published points lack learning rates
        searched = f"{len(runs)} runs"
    least, most = epochs.min(), epochs.max()
    if most == 0:
        return f"{len(runs)} run{'s' if len(runs) != 1 else ''} without training"
    long = f"{most}" if least == most else f"{least} to {most}"
    on = "" if pd.isna(pairs) else f" on about {float(f'{pairs:.1e}'):,.0f} pairs"
    return f"{searched} x {long} epochs{on}"
