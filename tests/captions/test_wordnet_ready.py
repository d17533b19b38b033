"""WordNet from a local folder, read as NLTK's own reader does."""

import random
import re
import shutil
import subprocess
from pathlib import Path

import nltk.data
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader

from workflow_scripts.captions import wordnet
from workflow_scripts.captions.eda import clean
from workflow_scripts.captions.synonyms import FILES, WordNet
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json

READY = Path(__file__).parents[2] / "nltk_data/corpora/wordnet"


class Reader(WordNetCorpusReader):
    # Spares the seconds in which NLTK maps the synsets to other languages.
    def map_wn(self, version="wordnet"):
        return None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder made from files as Debian has them: without lexnames."""
    folder = tmp_path_factory.mktemp("wordnet")
    shutil.copytree(READY, folder / "dict", ignore=shutil.ignore_patterns("lexnames"))
    wordnet.main(["--output", str(folder / "data"), "--dict", str(folder / "dict")])
    return folder / "data"


@pytest.fixture
def reader(made, monkeypatch):
    monkeypatch.setattr(nltk.data, "path", [str(made)])
    return Reader(str(made / "corpora/wordnet"), None)


@pytest.mark.filterwarnings("ignore:The multilingual functions")
def test_synonyms_are_those_that_nltks_reader_finds(made, reader):
    ours = WordNet(made / "corpora/wordnet")
    lemmas = sorted(name for name in reader.all_lemma_names() if clean(name) == [name])
    words = random.Random(0).sample(lemmas, 1000)
    words += [word + ending for word in words[:200] for ending in ("s", "ed", "ing", "er")]
    words += ["dogs", "women", "better", "ran", "went", "photographs", "galore", "xyzzy"]
    for word in words:
        names = {name for synset in reader.synsets(word) for name in synset.lemma_names()}
        spaced = (re.sub("[_-]", " ", name.lower()) for name in names)
        expected = {" ".join(re.sub("[^a-z ]", "", name).split()) for name in spaced}
        assert ours.synonyms(word) == tuple(sorted(expected - {word, ""})), word


def test_nltk_knows_the_lexicographer_files(made):
    lines = (made / "corpora/wordnet/lexnames").read_text().splitlines()
    assert len(lines) == 45
    assert lines[0] == "00\tadj.all\t3"
    assert lines[18] == "18\tnoun.person\t1"
    assert lines[44] == "44\tadj.ppl\t3"


def test_a_second_time_finds_it_there(made, capsys):
    before = (made / "corpora/wordnet").stat().st_mtime_ns
    wordnet.main(["--output", str(made)])
    assert (made / "corpora/wordnet").stat().st_mtime_ns == before
    assert "is ready" in capsys.readouterr().out


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(StepError, match=FILES[0]):
        wordnet.main(["--output", str(tmp_path / "data"), "--dict", str(tmp_path)])
    assert not (tmp_path / "data").exists()


def test_another_edition_is_used_with_a_warning_and_recorded(made, tmp_path, capsys):
    other = shutil.copytree(made / "corpora/wordnet", tmp_path / "dict")
    with (other / "noun.exc").open("a") as file:
        file.write("foos foo\n")
    wordnet.main(["--output", str(tmp_path / "data"), "--dict", str(other)])
    assert "other words than WordNet 3.0" in capsys.readouterr().err
    assert read_json(tmp_path / "data/wordnet.json")["wordnet_3_0"] is False
    assert read_json(made / "wordnet.json")["wordnet_3_0"] is True


def test_a_damaged_wordnet_is_refused(made, tmp_path):
    other = shutil.copytree(made / "corpora/wordnet", tmp_path / "dict")
    data = (other / "data.noun").read_bytes()
    (other / "data.noun").write_bytes(data[: len(data) // 2])
    with pytest.raises(StepError, match="remove the folder"):
        wordnet.main(["--output", str(tmp_path / "data"), "--dict", str(other)])


def downloads(monkeypatch, leave, says=""):
    """Stand in for nltk's downloader: ``leave`` puts files into the folder that it is given."""

    def run(command, **_):
        leave(Path(command[command.index("-d") + 1]) / "corpora")
        return subprocess.CompletedProcess(command, 0, says)

    monkeypatch.setattr(wordnet.subprocess, "run", run)


def test_what_nltk_downloads_is_unpacked(made, tmp_path, monkeypatch):
    def leave(corpora):
        shutil.make_archive(str(corpora / "wordnet"), "zip", made / "corpora", "wordnet")

    downloads(monkeypatch, leave)
    wordnet.main(["--output", str(tmp_path)])
    found = read_json(tmp_path / "wordnet.json")
    assert found["source"] == "nltk's download"
    assert found["wordnet_3_0"]


def test_neither_downloaded_nor_installed_it_says_what_to_install(tmp_path, monkeypatch):
    downloads(monkeypatch, lambda corpora: None, "no network")
    monkeypatch.setattr(wordnet, "USUAL_FOLDERS", ())
    with pytest.raises(StepError, match=r"no network.*wordnet-base.*--dict"):
        wordnet.main(["--output", str(tmp_path)])
