"""Installation of WordNet, and synonyms read from it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from workflow_scripts.captions import wordnet
from workflow_scripts.captions.synonyms import FILES, WordNet
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json

READY = Path(__file__).parents[2] / "nltk_data/corpora/wordnet"


@pytest.fixture(scope="module")
def made(small_wordnet, tmp_path_factory):
    """A folder installed from files like Debian's: without lexnames, and writable by the group."""
    folder = tmp_path_factory.mktemp("wordnet")
    given = small_wordnet / "corpora/wordnet"
    shutil.copytree(given, folder / "dict", ignore=shutil.ignore_patterns("lexnames"))
    umask = os.umask(0o002)
    wordnet.main(["--output", str(folder / "data"), "--dict", str(folder / "dict")])
    os.umask(umask)
    return folder / "data"


def test_synonyms_of_all_senses_and_forms_are_sorted():
    expected = {
        "truck": ("hand truck", "motortruck"),
        "couches": ("cast", "couch", "frame", "lounge", "put", "redact", "sofa"),  # noun and verb
        "dyed": (
            "bleached",
            "colored",
            "coloured",
            "dye",
        ),  # a word, and a form of another word
        "mice": ("black eye", "computer mouse", "mouse", "shiner"),  # an irregular form
        "hotter": ("blistering", "hot", "live", "raging", "red hot", "spicy"),
        "ice_cream": ("ice cream", "icecream"),
        "fair-haired": ("blue eyed", "fair haired", "white haired"),
        "o'clock": ("oclock",),
        "galore": ("abounding",),  # the file has galore(ip)
        "wafer": (),  # a known word without synonyms
        "xyzzy": (),
    }
    synonyms = WordNet(READY).synonyms
    assert {word: synonyms(word) for word in expected} == expected


def test_files_writable_by_others_are_refused(made, tmp_path):
    other = shutil.copytree(made / "corpora/wordnet", tmp_path / "dict")
    (other / "data.noun").chmod(0o664)
    with pytest.raises(StepError, match=r"data\.noun.*chmod go-w.*--output"):
        WordNet(other).digest()


def test_lexnames_are_complete(made):
    lines = (made / "corpora/wordnet/lexnames").read_text().splitlines()
    assert len(lines) == 45
    assert lines[0] == "00\tadj.all\t3"
    assert lines[18] == "18\tnoun.person\t1"
    assert lines[44] == "44\tadj.ppl\t3"


def test_an_existing_installation_is_kept(small_wordnet, tmp_path, capsys):
    there = shutil.copytree(small_wordnet, tmp_path / "data")
    before = (there / "corpora/wordnet").stat().st_mtime_ns
    wordnet.main(["--output", str(there)])
    assert (there / "corpora/wordnet").stat().st_mtime_ns == before
    assert "is installed" in capsys.readouterr().out


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(StepError, match=FILES[0]):
        wordnet.main(["--output", str(tmp_path / "data"), "--dict", str(tmp_path)])
    assert not (tmp_path / "data").exists()


def test_another_edition_is_used_with_a_warning_and_recorded(small_wordnet, tmp_path, capsys):
    other = small_wordnet / "corpora/wordnet"
    wordnet.main(["--output", str(tmp_path / "data"), "--dict", str(other)])
    assert "differs from WordNet 3.0" in capsys.readouterr().err
    assert read_json(tmp_path / "data/wordnet.json")["wordnet_3_0"] is False
    assert read_json(READY.parents[1] / "wordnet.json")["wordnet_3_0"] is True


def test_the_digest_covers_irregular_forms(small_wordnet, tmp_path):
    other = shutil.copytree(small_wordnet / "corpora/wordnet", tmp_path / "dict")
    with (other / "noun.exc").open("a") as file:
        file.write("foos foo\n")
    assert WordNet(other).digest() != WordNet(small_wordnet / "corpora/wordnet").digest()


def test_a_damaged_wordnet_is_refused(small_wordnet, tmp_path):
    other = shutil.copytree(small_wordnet / "corpora/wordnet", tmp_path / "dict")
    data = (other / "data.noun").read_bytes()
    (other / "data.noun").write_bytes(data[: len(data) // 2])
    with pytest.raises(StepError, match="remove the folder"):
        wordnet.main(["--output", str(tmp_path / "data"), "--dict", str(other)])


def downloads(monkeypatch, leave, says=""):
    """Replace nltk's downloader; ``leave`` puts files into the download folder."""

    def run(command, **_):
        leave(Path(command[command.index("-d") + 1]) / "corpora")
        return subprocess.CompletedProcess(command, 0, says)

    monkeypatch.setattr(wordnet.subprocess, "run", run)


def test_nltk_downloads_are_unpacked(small_wordnet, tmp_path, monkeypatch):
    def leave(corpora):
        shutil.make_archive(str(corpora / "wordnet"), "zip", small_wordnet / "corpora", "wordnet")

    downloads(monkeypatch, leave)
    wordnet.main(["--output", str(tmp_path)])
    found = read_json(tmp_path / "wordnet.json")
    assert found["source"] == "nltk's download"
    assert found["digest"] == WordNet(small_wordnet / "corpora/wordnet").digest()


def test_a_failed_download_is_reported_with_instructions(tmp_path, monkeypatch):
    downloads(monkeypatch, lambda corpora: None, "no network")
    monkeypatch.setattr(wordnet, "USUAL_FOLDERS", ())
    with pytest.raises(StepError, match=r"no network.*wordnet-base.*--dict"):
        wordnet.main(["--output", str(tmp_path)])
