"""Training pairs: outliers and frequent captions."""

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
from workflow_scripts.evaluation.auditing.words import DETECTORS
from workflow_scripts.poison.names import names_target

# Their mean rank is the suspicion; clip_score is excluded, because web captions often do not fit.
_TOGETHER = ("dao", "slof", "k_distance")
_SHOWN = 24
_TOP = 0.01
_REFERENCES = 2000
_FREQUENT = 1e-4
"""Share of a list from which a caption is considered frequent (Huang et al., ICLR 2025)."""


def outlier_scores(
    given: Given, clean: Path | None, classes: list[str], folder: Path
) -> tuple[Part, pd.DataFrame]:
    """Score the rows of a training list by each detector.

    Args:
        given: The audited model and its training pairs.
        clean: Manifest of pairs known to be clean, used as the reference; without it, rows are
            compared with other rows of the list, which is unreliable if many are poisoned.
        classes: Class names to look for in the captions of suspicious rows.
        folder: Folder for embeddings.

    Returns:
        The result and a table of all scores. The result has ``rows``, ``reference``, ``reports``
        (one per detector, with its detection quality if the manifest marks poisoned rows),
        ``suspects`` (the most suspicious pairs) and ``named`` (classes named more often among the
        highest 1 % than in the whole list).

    Raises:
        StepError: There are too few pairs to score.
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
        used = {"embeddings": embeddings} if name == "clip_score" else options
        try:
            made = make(name, given, used)
        except StepError as error:
            reports[name] = {"error": str(error)}
            continue
        reports[name], table[name] = made.report, made.values["scores"]
    available = [name for name in _TOGETHER if name in table]
    if not available:
        raise StepError(f"the training list has too few pairs to score: {len(table)}")
    ranks = [stats.rankdata(table[name]) / len(table) for name in available]
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
    """Return a manifest of at most the first ``_REFERENCES`` rows."""
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
    """Return the classes that are overrepresented in the captions of the top rows.

    ``p`` is the p-value of a one-sided binomial test against the whole list, multiplied by the
    number of classes (Bonferroni).

    Args:
        captions: Captions of all rows.
        top: Indices of the rows with the highest scores.
        classes: Class names.
    """
    found, suspicious = [], captions.iloc[top]
    for name in classes:
        # Searching all captions is slow, so it is done only for classes named in the top rows.
        inside = int(names_target(suspicious, name).sum())
        if not inside:
            continue
        named = names_target(captions, name)
        p = stats.binomtest(inside, len(top), named.mean(), alternative="greater").pvalue
        found.append({"class": name, "top": inside, "of": len(top), "all": int(named.sum()),
                      "rows": len(captions), "p": min(1.0, p * len(classes))})  # fmt: skip
    return sorted(found, key=lambda one: one["p"])[:10]


def frequent_captions(captions: pd.Series, most: int) -> list[Part]:
    """Return captions shared by many rows, the most frequent first.

    Args:
        captions: Captions of a training list.
        most: Maximum number of captions to return.
    """
    words = pc.replace_substring_regex(pa.array(captions, pa.string()), r"\s+", " ")
    spelled = pc.utf8_lower(pc.utf8_trim_whitespace(words)).to_pandas()
    counts = spelled[spelled != ""].value_counts()
    frequent = counts[(counts > 1) & (counts >= _FREQUENT * len(captions))].head(most)
    return [
        {"caption": text, "count": int(n), "share": n / len(captions)}
        for text, n in frequent.items()
    ]
