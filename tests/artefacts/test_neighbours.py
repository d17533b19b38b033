"""Local outlier scores, compared with plain loops over all distances."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from workflow_scripts.artefacts import neighbours
from workflow_scripts.artefacts.given import Given
from workflow_scripts.artefacts.make import make
from workflow_scripts.artefacts.makers import (
    dao,
    isolation_forest,
    k_distance,
    lid,
    slof,
    trivial_score,
)
from workflow_scripts.artefacts.makers.embeddings import hashes
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.manifest import write_manifest

K = 4


def _points(rows=40, far=5, d=6, seed=0):
    """Images in one cluster except for the last ``far`` ones; texts in another cluster."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(rows, d)).astype(np.float32)
    images[rows - far :] = 15 * rng.normal(size=(far, d))
    return images, rng.normal(50, 1, size=(rows, d)).astype(np.float32)


def _store(folder, images, texts, name="values", first=0):
    keys = pd.Series([f"{first + n:05d}" for n in range(len(images))], dtype="string")
    save_file(
        {"images": images, "texts": texts, "keys": hashes(keys)}, folder / f"{name}.safetensors"
    )
    return keys


@pytest.fixture
def given(tmp_path):
    images, texts = _points()
    keys = _store(tmp_path, images, texts)
    places = {"tar": "x.tar", "offset": 0, "size": 1, "caption": "x"}
    poisoned = np.arange(len(keys)) >= 35
    write_manifest(
        tmp_path / "m.parquet", pd.DataFrame({"key": keys, **places, "poisoned": poisoned})
    )
    given = Given(manifest=tmp_path / "m.parquet", world=ProcessGroup(0, 1, torch.device("cpu")))
    given.embeddings = str(tmp_path / "values.safetensors")
    return given


def _distance(a, b):
    return math.dist(a.astype(float), b.astype(float))


def _nearest(point, references, left_out):
    """Return (distance, index) of all references except some, ascending."""
    found = [(_distance(point, r), n) for n, r in enumerate(references) if n not in left_out]
    return sorted(found)


def _lid(distances):
    return -K / sum(math.log(d / distances[K] + 1e-4) for d in distances[:K])


def _plain(images, texts, own_pair):
    """Return all four scores of each row by their formulas, with own pairs excluded."""
    references = [*images, *texts]
    table = []
    for place, point in enumerate(references):
        pair = {place % len(images), place % len(images) + len(images)}
        table.append([d for d, _ in _nearest(point, references, pair)])
    scores = []
    for row, point in enumerate(images):
        near = _nearest(point, references, own_pair(row))
        own, around = [d for d, _ in near], [table[place] for _, place in near[:K]]
        scores.append(
            (
                own[K],
                _lid(own),
                sum(own[K] / o[K] for o in around) / K,
                sum(_lid(o) * math.log(own[K] / o[K]) for o in around) / K,
            )
        )
    return np.array(scores).T


@pytest.mark.parametrize("reference", ["batch", "full"])
def test_scores_match_their_formulas(given, reference):
    images, texts = _points()
    expected = _plain(images, texts, lambda row: {row, row + len(images)})
    for maker, scores in zip((k_distance, lid, slof, dao), expected, strict=True):
        made = maker.make(given, embeddings=given.embeddings, neighbours=K, reference=reference)
        np.testing.assert_allclose(made.values["scores"], scores, rtol=1e-4)


def test_trivial_scores_are_known_without_a_model(tmp_path):
    captions = pd.Series(["four", "höö", "sixsix"], dtype="string[pyarrow]")
    rows = {"key": ["a", "b", "c"], "tar": "x.tar", "offset": 0, "size": [7, 9, 8]}
    write_manifest(
        tmp_path / "m.parquet",
        pd.DataFrame(rows | {"caption": captions, "poisoned": [False, True, False]}),
    )
    given = Given(manifest=tmp_path / "m.parquet", world=ProcessGroup(0, 1, torch.device("cpu")))
    sizes = trivial_score.make(given, by="file_size")
    assert sizes.values["scores"].tolist() == [7, 9, 8]
    assert sizes.report["auroc"] == 1
    lengths = trivial_score.make(given, by="caption_length").values["scores"]
    assert lengths.tolist() == [4, 3, 6]
    assert len(set(trivial_score.make(given).values["scores"])) == 3


@pytest.mark.parametrize("maker", [k_distance, slof, dao, isolation_forest])
def test_outlying_points_have_the_highest_scores(given, maker):
    options = {} if maker is isolation_forest else {"neighbours": 8}
    made = maker.make(given, embeddings=given.embeddings, **options)
    assert set(np.argsort(made.values["scores"])[-5:]) == set(range(35, 40))
    assert made.report["auroc"] == 1
    assert made.report["prevalence"] == 5 / 40


def test_the_published_variant_has_its_two_indexing_errors():
    images, texts = _points(rows=9, far=0)
    images[:] += 49  # moves images to the texts, which then become neighbours
    references = [*images, *texts]
    found = neighbours.published_neighbourhood(torch.tensor(np.array(references)), K)
    for row, point in enumerate(images):
        near = _nearest(point, references, {row, row + 9})
        np.testing.assert_allclose(found.own[row], [d for d, _ in near[: K + 1]], rtol=1e-5)
        for number, (_, place) in enumerate(near[:K]):
            image = place < 9
            early = place - (place > row) if image else place - 1 - (place - 9 > row)
            own = [d for d, _ in _nearest(references[early], references, set())]
            np.testing.assert_allclose(found.theirs[row, number], own[: K + 1], rtol=1e-5)
            assert found.theirs[row, number, 0] == 0


def test_only_the_published_variant_depends_on_the_row_order():
    images, texts = _points()
    order = np.random.default_rng(1).permutation(len(images))

    def scores(find, rows):
        references = np.concatenate([images[rows], texts[rows]])
        near = find(torch.from_numpy(references), K)
        return dao.score(near)

    corrected, published = neighbours.corrected_neighbourhood, neighbours.published_neighbourhood
    rows = np.arange(len(images))
    np.testing.assert_allclose(scores(corrected, order), scores(corrected, rows)[order], rtol=1e-5)
    assert not np.allclose(scores(published, order), scores(published, rows)[order], rtol=1e-2)


def test_a_clean_reference_excludes_the_row_itself(given, tmp_path):
    images, texts = _points()
    _store(tmp_path, images[10:30], texts[10:30], "clean", first=10)
    made = k_distance.make(
        given,
        embeddings=given.embeddings,
        neighbours=K,
        reference="clean",
        clean=str(tmp_path / "clean.safetensors"),
    )
    references = [*images[10:30], *texts[10:30]]
    for row in (0, 10, 17, 39):
        own = {row - 10, row + 10} if 10 <= row < 30 else set()
        expected = _nearest(images[row], references, own)[K][0]
        assert made.values["scores"][row] == pytest.approx(expected, rel=1e-5)


def test_rows_are_scored_in_random_blocks_of_nearly_equal_size(given, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 15)
    blocks = neighbours.random_blocks(given, 40)
    assert [len(block) for block in blocks] == [14, 13, 13]
    assert sorted(np.concatenate(blocks)) == list(range(40))


def test_the_documented_maker_scores_pairs(given, tmp_path):
    page = (Path(__file__).parents[2] / "docs/extending.md").read_text()
    code = next(block for block in page.split("```python\n")[1:] if "def make(" in block)
    (tmp_path / "my_norms.py").write_text(code.partition("```")[0])
    options = {"embeddings": given.embeddings, "power": 0.5}
    made = make(str(tmp_path / "my_norms.py"), given, options)
    images, _ = _points()
    np.testing.assert_allclose(made.values["scores"], np.linalg.norm(images, axis=1), rtol=1e-5)
    assert made.report["auroc"] > 0.9


def test_invalid_options_are_clear_errors(given):
    with pytest.raises(StepError, match="lower 'neighbours'"):
        dao.make(given, embeddings=given.embeddings, neighbours=78)
    with pytest.raises(StepError, match="'reference: batch'"):
        dao.make(given, embeddings=given.embeddings, reference="full", variant="published")
    with pytest.raises(StepError, match="the option 'clean'"):
        dao.make(given, embeddings=given.embeddings, reference="clean")
