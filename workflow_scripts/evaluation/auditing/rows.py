"""Training pairs: which rows stand out, and which captions are frequent."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from workflow_scripts.artefacts.given import Given
from workflow_scripts.artefacts.make import make, write
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import fit
from workflow_scripts.data.manifest import read_manifest, write_manifest
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.auditing.parts import Part, png
from workflow_scripts.poison.names import names_target

DETECTORS = ("dao", "slof", "lid", "k_distance", "isolation_forest", "clip_score")

# The highest of a mean of ranks; clip_score is left out, as captions of the web rarely fit.
_TOGETHER = ("dao", "slof", "k_distance")
_SHOWN = 24
_TOP = 0.01
_REFERENCES = 2000
_FREQUENT = 1e-4
"""Share of a list above which a caption is worth a look (Huang et al., ICLR 2025)."""


def outlier_scores(
    given: Given, clean: Path | None, classes: list[str], folder: Path
) -> tuple[Part, pd.DataFrame]:
    """Score the rows of a training list by each detector.

    Args:
        given: The audited model, and its training pairs.
        clean: Manifest of pairs known to be clean, which rows are compared with; without, rows are
            compared with other rows of the list, which fails if many of them are poisoned.
        classes: Names of classes, looked for in the captions of suspicious rows.
        folder: Where embeddings are kept.

    Returns:
        ``rows``, ``reference``; ``reports``, each detector's (its detection of rows that the
        manifest marks as poisoned, if it marks any); ``suspects``, the most suspicious pairs; and
        ``named``, classes that are named more often among the highest 1 % than in the whole list.
        And a table of all scores.
    """
    reference = "clean" if clean else "batch"
    embeddings = _embedded(given, folder / "pairs")
    options: dict[str, object] = {"embeddings": embeddings, "reference": reference}
    if clean:
        other = Given(
            model=given.model, checkpoint=given.checkpoint, manifest=_fewer(clean, folder),
            root=given.root, seed=given.seed, batch_size=given.batch_size, world=given.world,
        )  # fmt: skip
        options["clean"] = _embedded(other, folder / "clean")
    table = pd.DataFrame({"key": given.pairs["key"], "caption": given.pairs["caption"]})
    reports = {}
    for name in DETECTORS:
        own = {"embeddings": embeddings} if name == "clip_score" else options
        try:
            made = make(name, given, own)
        except StepError as error:
            reports[name] = {"error": str(error)}
            continue
        reports[name], table[name] = made.report, made.values["scores"]
    there = [name for name in _TOGETHER if name in table]
    if not there:
        raise StepError(f"there are too few pairs to score: {len(table)}")
    ranks = [stats.rankdata(table[name]) / len(table) for name in there]
    table["suspicion"] = np.mean(ranks, axis=0)
    order = np.argsort(-table["suspicion"].to_numpy(), kind="stable")
    part = {
        "rows": len(table),
        "reference": reference,
        "reports": reports,
        "suspects": _suspects(given, table, order[:_SHOWN]),
        "named": named_classes(
            table["caption"], order[: max(1, round(_TOP * len(table)))], classes
        ),
    }
    return part, table


def _embedded(given: Given, folder: Path) -> str:
    write(folder, make("embeddings", given, {}))
    return str(folder / "values.safetensors")


def _fewer(manifest: Path, folder: Path) -> Path:
    """Return a manifest of the first ``_REFERENCES`` rows at most."""
    frame = read_manifest(manifest)
    if len(frame) <= _REFERENCES:
        return manifest
    path = folder / "reference.parquet"
    write_manifest(path, frame.head(_REFERENCES))
    return path


def _suspects(given: Given, table: pd.DataFrame, rows: np.ndarray) -> list[Part]:
    images = Images(given.pairs.iloc[rows], given.root)
    size = given.encoder.image_size
    return [
        {
            "row": int(row),
            "caption": str(table["caption"].iloc[row]),
            "suspicion": float(table["suspicion"].iloc[row]),
            "poisoned": bool(given.pairs["poisoned"].iloc[row]),
            "picture": png(fit(images[place], size)),
        }
        for place, row in enumerate(rows)
    ]


def named_classes(captions: pd.Series, top: np.ndarray, classes: list[str]) -> list[Part]:
    """Return the classes that the captions of top rows name more often than others do.

    ``p`` is that of a one-sided binomial test against the whole list, times the number of classes
    (Bonferroni).

    Args:
        captions: Of all rows.
        top: The rows with the highest scores.
        classes: Names.
    """
    found, suspicious = [], captions.iloc[top]
    for name in classes:
        # Of a thousand classes, few are named among the top: only for these all captions are read.
        inside = int(names_target(suspicious, name).sum())
        if not inside:
            continue
        named = names_target(captions, name)
        p = stats.binomtest(inside, len(top), named.mean(), alternative="greater").pvalue
        found.append({"class": name, "top": inside, "of": len(top), "all": int(named.sum()),
                      "rows": len(captions), "p": min(1.0, p * len(classes))})  # fmt: skip
    return sorted(found, key=lambda one: one["p"])[:10]


def frequent_captions(captions: pd.Series, most: int) -> list[Part]:
    """Return the captions that many rows have in common, the most frequent first.

    Args:
        captions: Of a training list.
        most: How many to return at most.
    """
    words = pc.replace_substring_regex(pa.array(captions, pa.string()), r"\s+", " ")
    spelled = pc.utf8_lower(pc.utf8_trim_whitespace(words)).to_pandas()
    counts = spelled[spelled != ""].value_counts()
    frequent = counts[(counts > 1) & (counts >= _FREQUENT * len(captions))].head(most)
    return [
        {"caption": text, "count": int(n), "share": n / len(captions)}
        for text, n in frequent.items()
    ]
