"""The steps tokenize and augment, called like by the workflow."""

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from open_clip import SimpleTokenizer

from workflow_scripts.captions import augment, chunks, tokenize
from workflow_scripts.captions.eda import clean
from workflow_scripts.captions.tokens import Tokenizer
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.open_clip_files import MAX_WORD, without_long_words
from workflow_scripts.common.workers import worker_pool
from workflow_scripts.data.manifest import write_manifest

ROOT = Path(__file__).parents[2]
LENGTH = 16
ODD = [
    'Woman \N{DOG FACE}\twith a "quoted" word &amp; an entity',
    "犬の写真",
    "  Don't,   it’s a well-known café <end_of_text> 1,234  ",
    "a very long caption about a dog " * 300,
    "the",
    "!",
]
PLAIN = ["A photo of a happy dog in the park", "An old house near the big river"]
PLAIN = PLAIN * (chunks.FEW // 2)  # too many to be processed without worker processes


def manifest(folder: Path, captions: list[str]) -> Path:
    frame = pd.DataFrame({"key": [f"k{n}" for n in range(len(captions))], "caption": captions})
    frame = frame.assign(tar="a.tar", offset=0, size=1, poisoned=False)
    write_manifest(folder / "manifest.parquet", frame)
    return folder / "manifest.parquet"


def arguments(source: Path, output: Path, workers: int = 1) -> list[str]:
    names = f"--manifest {source} --output {output} --context-length {LENGTH} --workers {workers}"
    return names.split()


def augmented(source: Path, output: Path, workers: int = 1, wordnet: Path = ROOT / "nltk_data"):
    options = ["--seed", "0", "--wordnet", str(wordnet)]
    augment.main(arguments(source, output, workers) + options)
    return pd.read_parquet(output / "augmented.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    source = manifest(folder, ODD + PLAIN)
    tokenize.main(arguments(source, folder / "one"))
    return source, folder / "one", augmented(source, folder / "one")


def test_tokens_equal_those_of_open_clip(made):
    _, folder, table = made
    for name, captions in (("tokens", ODD + PLAIN), ("augmented", list(table["augmented"]))):
        tokens = np.load(folder / f"{name}.npy", mmap_mode="r")
        assert tokens.dtype == np.uint16
        assert tokens.shape == (len(captions), LENGTH)
        assert np.array_equal(tokens, SimpleTokenizer(context_length=LENGTH)(captions).numpy())


def odd_captions(seed: int, count: int = 1500) -> list[str]:
    """Return random texts of words, entities, wrongly decoded text and arbitrary characters."""
    draw = random.Random(seed)
    scripts = [(32, 127), (0xA0, 0x250), (0x300, 0x340), (0x370, 0x600), (0x2000, 0x2300)]
    wide = [(0x3000, 0x3100), (0xFB00, 0xFB07), (0xFF00, 0xFFEF), (0x1F300, 0x1F400)]
    pools = [range(*ends) for ends in (*scripts, *wide, (0, 0xD800), (0xE000, 1 << 20))]
    words = "Dog photo don't it’s “so” Café cafe\u0301 – ﬁne ＡＢ ΣΑΣ İ ſ 犬 1,234 \t \n \x1c \x85"
    traps = "&amp; &amp &copy &#39; &lt;b> ＆amp; && â€™ Ã© <end_of_text> 'LL \xa0 \u200d \ufeff"
    fixed = [*words.split(" "), *words.split(" "), *traps.split(" "), "& "]

    def piece() -> str:
        if draw.random() < 0.6:
            return draw.choice(fixed)
        pool = draw.choice(pools)
        return "".join(chr(draw.choice(pool)) for _ in range(draw.randint(1, 5)))

    return [
        draw.choice([" ", "", " "]).join(piece() for _ in range(draw.randint(0, 10)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("length", [5, 77])
def test_tokens_of_random_texts_equal_those_of_open_clip(length):
    captions = odd_captions(length)
    expected = SimpleTokenizer(context_length=length)(captions).numpy()
    made = Tokenizer(length)(captions)
    assert [c for c, a, b in zip(captions, made, expected, strict=True) if (a != b).any()] == []


def test_words_of_any_length_have_the_first_tokens_of_open_clip():
    for letters in (500, MAX_WORD + 1):
        word = "".join(random.choices("abcdefghij", k=letters))
        tokenizer = Tokenizer(LENGTH)
        expected = SimpleTokenizer(context_length=LENGTH)([word])
        assert tokenizer([word]).tolist() == expected.tolist()
        assert max(map(len, tokenizer._tokenizer.cache)) < 100
        assert without_long_words(f"a {word} b").split()[::2] == ["a", "b"]


def test_words_of_random_texts_are_lower_case_letters():
    for caption in odd_captions(1):
        kept = caption.replace("'", "").replace("’", "").lower()
        assert clean(caption) == re.sub("[^a-z]", " ", kept).split()


def test_the_table_has_a_row_for_each_pair_and_no_empty_text(made):
    _, _, table = made
    assert list(table) == ["key", "caption", "operation", "augmented"]
    assert list(table["caption"]) == ODD + PLAIN
    assert (table["augmented"].str.strip() != "").all()
    kept = [bool(clean(caption)) for caption in ODD + PLAIN]
    assert list(table["operation"] != "none") == kept


def test_the_four_operations_are_equally_likely(made):
    shares = made[2]["operation"].iloc[len(ODD) :].value_counts(normalize=True)
    assert len(shares) == 4
    assert shares.between(0.2, 0.3).all()


def test_output_does_not_depend_on_workers_or_hash_seed(made, tmp_path):
    source, folder, _ = made
    for step in ("tokenize", "augment"):
        command = [sys.executable, "-m", f"workflow_scripts.captions.{step}"]
        command += arguments(source, tmp_path, workers=3)
        if step == "augment":
            command += ["--seed", "0", "--wordnet", "nltk_data"]
        environment = os.environ | {"PYTHONHASHSEED": "7"}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["augmented.npy", "augmented.parquet", "tokens.npy"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_changed_caption_changes_only_its_row(made, tmp_path):
    _, folder, table = made
    captions = ODD + PLAIN
    captions[7] = "Something else entirely, a red bicycle"
    other = augmented(manifest(tmp_path, captions), tmp_path / "other")
    assert list(np.flatnonzero(table["augmented"] != other["augmented"])) == [7]
    changed = np.load(folder / "augmented.npy") != np.load(tmp_path / "other/augmented.npy")
    assert list(np.flatnonzero(changed.any(axis=1))) == [7]


def test_a_missing_wordnet_is_reported_with_instructions(tmp_path):
    source = manifest(tmp_path, ["a dog"])
    with pytest.raises(StepError, match="make setup"):
        augmented(source, tmp_path / "out", wordnet=tmp_path / "nowhere")
    assert not list(tmp_path.glob("out/*"))


def test_a_killed_worker_is_reported_in_one_sentence():
    with worker_pool(1) as pool, pytest.raises(StepError, match="lack of memory"):
        list(chunks.in_order(pool, os._exit, [(1,)], ahead=2))


def test_a_killed_step_gives_the_same_files_when_repeated(made, tmp_path):
    source, folder, _ = made
    command = [sys.executable, "-m", "workflow_scripts.captions.augment", "--seed", "0"]
    command += [*arguments(source, tmp_path, workers=2), "--wordnet", "nltk_data"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (tmp_path / ".augmented.partial.npy").exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "augmented.npy").exists()
    augmented(source, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"augmented.npy", "augmented.parquet"}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_an_empty_manifest_gives_empty_arrays(tmp_path):
    source = manifest(tmp_path, [])
    tokenize.main(arguments(source, tmp_path))
    assert len(augmented(source, tmp_path)) == 0
    for name in ("tokens", "augmented"):
        assert np.load(tmp_path / f"{name}.npy").shape == (0, LENGTH)


def test_a_context_too_short_for_words_is_refused(tmp_path):
    source = manifest(tmp_path, ["a dog"])
    options = ["--manifest", str(source), "--output", str(tmp_path), "--context-length", "2"]
    with pytest.raises(StepError, match="at least 3"):
        tokenize.main(options)
