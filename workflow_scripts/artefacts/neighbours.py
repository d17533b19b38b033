"""Nearest-neighbour distances for local outlier scores.

A row is represented by the embedding of its image. Its references are the images and texts of other
pairs. Distances are Euclidean, between unnormalised embeddings.

Source: Huang et al., ICLR 2025 (arXiv 2502.01385), and the code published with it, in which the
references are the other rows of the same batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import faiss
import numpy as np
import torch
from torch import Tensor

from workflow_scripts.artefacts.detecting import detection_report
from workflow_scripts.artefacts.given import Given, Made
from workflow_scripts.artefacts.makers.embeddings import hashes
from workflow_scripts.artefacts.values import values_in
from workflow_scripts.common.errors import StepError

BLOCK = 2048
"""Rows of a batch in the published code: 4 GPUs with 512 pairs each."""

Reference = Literal["batch", "full", "clean"]
Variant = Literal["published", "corrected"]


@dataclass(frozen=True)
class Neighbourhood:
    """The k + 1 smallest distances around n rows, ascending along the last axis.

    Attributes:
        own: float64 [n, k + 1], distances from each row to its nearest references.
        theirs: float64 [n, k, k + 1], distances from each of the row's k nearest references to
            their nearest references.
    """

    own: np.ndarray
    theirs: np.ndarray


Score = Callable[[Neighbourhood], np.ndarray]


@dataclass(frozen=True)
class Embedded:
    """Embeddings of pairs: ``images`` and ``texts`` float32 [n, d], ``keys`` uint64 [n] hashes."""

    images: np.ndarray
    texts: np.ndarray
    keys: np.ndarray

    @classmethod
    def read(cls, path: str) -> "Embedded":
        """Read the values of an artefact of the maker ``embeddings``."""
        return cls(*values_in(path, "images", "texts", "keys"))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: np.ndarray) -> "Embedded":
        return Embedded(self.images[rows], self.texts[rows], self.keys[rows])

    @property
    def references(self) -> np.ndarray:
        """Images followed by texts, float32 [2n, d]."""
        return np.concatenate([self.images, self.texts])


def embedded_pairs(given: Given, embeddings: str) -> Embedded:
    """Return the embeddings of the pairs that a maker is given.

    Raises:
        StepError: The embeddings are missing or belong to other pairs.
    """
    pairs = Embedded.read(embeddings)
    if not np.array_equal(pairs.keys, hashes(given.pairs["key"])):
        raise StepError(
            f"{embeddings} has embeddings of other pairs; refer to an artefact of the same pairs"
        )
    return pairs


def clean_pairs(clean: str | None) -> Embedded:
    """Return the embeddings of the clean reference pairs.

    Raises:
        StepError: The option ``clean`` is not set, or the embeddings are missing.
    """
    if clean is None:
        raise StepError(
            "'reference: clean' requires the option 'clean', the embeddings of clean pairs; refer "
            "to an artefact of the maker embeddings with 'pairs: cleaning'"
        )
    return Embedded.read(clean)


def local_outliers(
    given: Given,
    score: Score,
    *,
    embeddings: str,
    neighbours: int,
    reference: Reference,
    variant: Variant,
    clean: str | None,
) -> Made:
    """Score all pairs by their neighbourhoods.

    Args:
        given: The pairs.
        score: Maps a neighbourhood of n rows to float [n], high for outliers. As in the published
            code, NaN and infinite scores become 1000, and -inf becomes 0.
        embeddings: The embeddings of the pairs.
        neighbours: Number of neighbours k.
        reference: Where neighbours are searched: ``batch`` for random blocks of about ``BLOCK``
            rows, ``full`` for all rows, or ``clean`` for the pairs in ``clean``.
        variant: ``published`` reproduces two indexing errors of the published code, see
            :func:`published_neighbourhood`.
        clean: The embeddings of the clean pairs.

    Returns:
        ``scores``, float64 [rows], and the report.

    Raises:
        StepError: There are too few references, or ``variant`` is ``published`` and ``reference``
            is not ``batch``.
    """
    pairs = embedded_pairs(given, embeddings)
    if reference == "batch":
        parts = _in_blocks(pairs, neighbours, variant, given)
    elif variant == "published":
        raise StepError("'variant: published' requires 'reference: batch'; set one of the two")
    else:
        parts = _against_all(
            pairs, clean_pairs(clean) if reference == "clean" else pairs, neighbours
        )
    scores = np.zeros(len(pairs))
    with np.errstate(divide="ignore", invalid="ignore"):
        for rows, neighbourhood in parts:
            scores[rows] = np.nan_to_num(score(neighbourhood), nan=1000, posinf=1000, neginf=0)
    return scored(given, scores)


def scored(given: Given, scores: np.ndarray) -> Made:
    """Return the scores of the given pairs, with a report of how well they detect poison."""
    scores = np.asarray(scores, np.float64)
    poisoned = given.pairs["poisoned"].to_numpy(bool)
    return Made({"scores": scores}, detection_report(scores, poisoned))


def random_blocks(given: Given, rows: int) -> list[np.ndarray]:
    """Split all rows randomly into blocks of nearly equal size, at most ``BLOCK`` rows each."""
    order = given.generator("blocks").permutation(rows)
    return np.array_split(order, max(1, -(-rows // BLOCK)))


def _in_blocks(
    pairs: Embedded, k: int, variant: Variant, given: Given
) -> Iterator[tuple[np.ndarray, Neighbourhood]]:
    find = published_neighbourhood if variant == "published" else corrected_neighbourhood
    for rows in random_blocks(given, len(pairs)):
        block = torch.from_numpy(pairs[rows].references).to(given.device)
        yield rows, find(block, k)


def published_neighbourhood(references: Tensor, k: int) -> Neighbourhood:
    """Return the neighbourhoods of a block's rows, as computed by the published code.

    The distances of a row exclude its own pair, but the published code makes two errors for the
    distances of its neighbours. They include the neighbour itself, at distance 0. And indices into
    the list without the own pair are used as indices into the list of all references, so that an
    image is read up to one row too early, and a text one or two rows.

    Args:
        references: float32 [2n, d], images followed by the texts of the same pairs.
        k: Number of neighbours.
    """
    rows = len(references) // 2
    _check_enough(2 * rows - 2, k)
    # Not as a matrix product, which is imprecise for small distances.
    distances = torch.cdist(references, references, compute_mode="donot_use_mm_for_euclid_dist")
    others = ~torch.eye(rows, dtype=torch.bool, device=references.device)
    without = [part[others].view(rows, rows - 1) for part in distances[:rows].split(rows, dim=1)]
    own, places = torch.cat(without, dim=1).topk(k + 1, largest=False)
    nearest = distances.topk(k + 1, largest=False).values
    return _neighbourhood(own, nearest, places[:, :k])


def corrected_neighbourhood(references: Tensor, k: int) -> Neighbourhood:
    """Return the neighbourhoods of a block's rows, where all distances exclude the own pair.

    Args:
        references: float32 [2n, d], images followed by the texts of the same pairs.
        k: Number of neighbours.
    """
    rows = len(references) // 2
    _check_enough(2 * rows - 2, k)
    distances = torch.cdist(references, references, compute_mode="donot_use_mm_for_euclid_dist")
    pair = torch.arange(2 * rows, device=references.device)
    distances[pair, pair] = torch.inf
    distances[pair, (pair + rows) % (2 * rows)] = torch.inf
    nearest, places = distances.topk(k + 1, largest=False)
    return _neighbourhood(nearest[:rows], nearest, places[:rows, :k])


def _neighbourhood(own: Tensor, references: Tensor, places: Tensor) -> Neighbourhood:
    return Neighbourhood(own.double().cpu().numpy(), references[places].double().cpu().numpy())


def _against_all(
    pairs: Embedded, others: Embedded, k: int
) -> Iterator[tuple[np.ndarray, Neighbourhood]]:
    """Yield rows and their neighbourhoods among the pairs ``others``, found by exact search."""
    references = others.references
    index = faiss.IndexFlatL2(references.shape[1])
    index.add(references)
    _check_enough(len(references) - 2, k)
    own_pair = _own_pairs(others.keys, others.keys)
    table, _ = _nearest(index, references, references, np.tile(own_pair, (2, 1)), k)
    own_pair = _own_pairs(pairs.keys, others.keys)
    for start in range(0, len(pairs), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(pairs)))
        own, places = _nearest(index, references, pairs.images[rows], own_pair[rows], k)
        yield rows, Neighbourhood(own, table[places[:, :k]])


def _own_pairs(keys: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the reference indices of each pair's image and text, int64 [n, 2]; -1 if absent."""
    order = np.argsort(among)
    places = order[np.searchsorted(among, keys, sorter=order).clip(max=len(among) - 1)]
    present = among[places] == keys
    images = np.where(present, places, -1)
    return np.stack([images, np.where(present, places + len(among), -1)], axis=1)


def _nearest(
    index: faiss.Index, references: np.ndarray, queries: np.ndarray, left_out: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k + 1 nearest references: float64 distances, ascending, and int64 indices.

    Args:
        index: Index of the references.
        references: float32 [2m, d].
        queries: float32 [q, d].
        left_out: int64 [q, 2], indices of references to exclude for each query, or -1.
        k: Number of neighbours.

    Returns:
        Both [q, k + 1].
    """
    distances = np.empty((len(queries), k + 1))
    places = np.empty((len(queries), k + 1), np.int64)
    for start in range(0, len(queries), BLOCK):
        part = slice(start, start + BLOCK)
        _, found = index.search(queries[part], min(k + 3, len(references)))
        own = (found[:, :, None] == left_out[part][:, None]).any(2)
        found = np.take_along_axis(found, np.argsort(own, axis=1, kind="stable"), 1)[:, : k + 1]
        # The search uses matrix products, which are imprecise for small distances.
        exact = np.linalg.norm(
            queries[part][:, None].astype(np.float64) - references[found], axis=2
        )
        order = np.argsort(exact, axis=1, kind="stable")
        distances[part] = np.take_along_axis(exact, order, 1)
        places[part] = np.take_along_axis(found, order, 1)
    return distances, places


def _check_enough(references: int, k: int) -> None:
    if references < k + 1:
        raise StepError(
            f"{k} neighbours require at least {k + 1} references, but there are only {references}; "
            "lower 'neighbours'"
        )


def intrinsic_dimension(distances: np.ndarray) -> np.ndarray:
    """Return the maximum-likelihood estimate of local intrinsic dimensionality (LID).

    As in the published code: -k / Σ_j log(d_j / d_k + 1e-4) over j = 0 .. k - 1.

    Args:
        distances: Distances d_0 .. d_k, float64 [..., k + 1], ascending.

    Returns:
        float64 [...].
    """
    k = distances.shape[-1] - 1
    ratios = distances[..., :-1] / distances[..., -1:]
    return -k / np.log(ratios + 1e-4).sum(-1)
