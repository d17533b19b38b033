"""Synthetic metrics in the shape of the demo's: 2 start models, 3 defences, 3 rates, 4 epochs."""

import json

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.results.table import METRIC_COLUMNS, order

IMAGES, ASR_IMAGES = 1480, 1440
STARTS = {"MMCL": (0.60, 0.95), "MMCL+SSL": (0.70, 0.88)}
DEFENCES = {"MMCL": 1.0, "SSL": 0.3, "CleanCLIP": 1.3}
RATES = {3e-4: 0.15, 1e-3: 0.9, 3e-3: 1.6}


def epoch_row(random, run, epoch, accuracy, asr):
    top1 = random.binomial(IMAGES, accuracy) / IMAGES
    asr1 = random.binomial(ASR_IMAGES, asr) / ASR_IMAGES
    values = [epoch, 100 * epoch, 6400 * epoch, 3 - epoch / 5]
    values += [top1, *(min(1, top1 + k / 20) for k in (1, 2, 3))]
    values += [asr1, *(min(1, asr1 + k / 20) for k in (1, 2, 3)), top1 / 2]
    return {"run": run} | dict(zip(METRIC_COLUMNS, values, strict=True))


def made_runs():
    """Yield the row of runs.csv and the epochs of each synthetic run."""
    random = np.random.default_rng(7)
    for label, (accuracy, asr) in STARTS.items():
        start = f"{label.lower().replace('+', '_')}-0000aaaa"
        row = {"run": start, "kind": "pretraining", "start": start, "start_label": label,
               "defence": "", "learning_rate": 1e-3}  # fmt: skip
        yield (
            row,
            [epoch_row(random, start, e, accuracy * (e + 1) / 9, asr * (e / 8)) for e in range(9)],
        )
        for defence, strength in DEFENCES.items():
            for rate, speed in RATES.items():
                run = f"{start}-{defence.lower()}-{rate:g}"
                cleaned = row | {"run": run, "kind": "cleaning", "defence": defence,
                                 "learning_rate": rate}  # fmt: skip
                yield cleaned, [
                    epoch_row(
                        random, run, e, accuracy + 0.01 * e * (1 if defence != "SSL" else -speed),
                        asr * np.exp(-0.7 * e * speed * strength),
                    )
                    for e in range(5)
                ]  # fmt: skip


@pytest.fixture
def metrics():
    """A tidy table."""
    rows = [row | epoch for row, epochs in made_runs() for epoch in epochs]
    return order(
        pd.DataFrame(rows).assign(
            seconds=1.0, samples_per_second=640.0, images=IMAGES, asr_images=ASR_IMAGES
        )
    )


@pytest.fixture
def baseline(metrics):
    """Rows of a clean control for each start model."""
    rows = metrics[metrics["kind"] == "pretraining"]
    return rows.assign(
        run="clean-" + rows["run"], kind="baseline", top1=rows["top1"] + 0.01, asr_top1=0.02
    )


@pytest.fixture
def experiment(tmp_path):
    """A results folder with the synthetic runs; the value is the path of runs.csv."""
    rows = []
    for row, epochs in made_runs():
        folder = tmp_path / "runs" / row["run"]
        folder.mkdir(parents=True)
        table = pd.DataFrame(epochs)
        table.to_csv(folder / "metrics.csv", index=False)
        times = table[["run", "epoch"]].assign(seconds=1.5, samples_per_second=640.0)
        times[times["epoch"] > 0].to_csv(folder / "timings.csv", index=False)
        counts = {"images": IMAGES, "asr_images": ASR_IMAGES}
        (folder / "run.json").write_text(json.dumps({"evaluation": counts}))
        rows.append(row | {"folder": folder})
    path = tmp_path / "experiments" / "main" / "runs.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
