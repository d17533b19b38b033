"""Make WordNet 3.0 ready, once, in a folder as nltk lays it out: ``<output>/corpora/wordnet``.

It is taken, in this order, from --dict, from what is there already, from nltk's own download, and
from where distributions put their package (Debian's wordnet-base). Synonyms must be the same
everywhere, so the words in it are compared with those of WordNet 3.0, whoever has packed it.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.captions.synonyms import FILES, WORDS, WordNet
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic_folder, read_json, write_json

# WordNet.digest() of WordNet 3.0, taken from Debian's wordnet-base 1:3.0-37. Its bytes are not
# Princeton's (16 definitions are mended in it), its words are.
WORDNET_3_0 = "ccfd1629731d85df0c386e11dd282404e069f2e8fa9d423ec1f591c0bb6ff060"

USUAL_FOLDERS = (
    "/usr/share/wordnet",
    "/usr/share/wordnet-3.0/dict",
    "/usr/local/WordNet-3.0/dict",
    "/usr/local/share/WordNet/dict",
)
_TIMEOUT = 120.0  # seconds

# The lexicographer files, lexnames(5WN); nltk wants a list of them, distributions leave it out.
_LEXNAMES = """
adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute
noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group
noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant
noun.possession noun.process noun.quantity noun.relation noun.shape noun.state
noun.substance noun.time verb.body verb.change verb.cognition verb.communication
verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion
verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl
"""
_NUMBERS = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and make WordNet ready."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of nltk data")
    parser.add_argument("--dict", type=Path, help="folder with WordNet's files (data.noun, ...)")
    options = parser.parse_args(arguments)
    make_ready(options.output, options.dict)


def make_ready(output: Path, given: Path | None = None) -> None:
    """Put WordNet's files into ``output``, unless they are there, and say what they are.

    Raises:
        StepError: WordNet is nowhere to be had, or what was found cannot be read.
    """
    folder, report = output / "corpora" / "wordnet", output / "wordnet.json"
    if given is not None:
        _copy(given, folder)
        source = str(given)
    elif _is_there(folder, FILES):
        source = read_json(report)["source"] if report.exists() else "found there"
    else:
        source = _find(folder)
    found = WordNet(folder).digest()
    known = found == WORDNET_3_0
    write_json(report, {"source": source, "digest": found, "wordnet_3_0": known})
    if not known:
        print(
            f"warning: WordNet in {folder}, from {source}, has other words than WordNet 3.0 "
            f"(digest {found[:16]}..., expected {WORDNET_3_0[:16]}...): augmented captions will "
            "differ from those made elsewhere",
            file=sys.stderr,
        )
    print(f"WordNet{' 3.0' if known else ''} is ready in {folder} (source: {source})")


def _find(folder: Path) -> str:
    trouble = _download(folder)
    if not trouble:
        return "nltk's download"
    for usual in map(Path, USUAL_FOLDERS):
        if _is_there(usual):
            print(f"WordNet could not be downloaded ({trouble}); {usual} is taken instead")
            _copy(usual, folder)
            return str(usual)
    raise StepError(
        f"WordNet could not be downloaded ({trouble}) and is not installed; install your system's "
        "package of WordNet 3.0 (Debian, Ubuntu: apt-get install wordnet-base) and try again, or "
        "give its folder with --dict"
    )


def _is_there(folder: Path, names: Sequence[str] = WORDS) -> bool:
    return all((folder / name).is_file() for name in names)


def _download(folder: Path) -> str:
    """Download nltk's package ``wordnet``; return why that failed, or nothing."""
    with tempfile.TemporaryDirectory() as temporary:
        # nltk's own limits add up to a quarter of an hour; only a process surely ends in time.
        command = [sys.executable, "-W", "ignore", "-m", "nltk.downloader"]
        command += ["-q", "-e", "-d", temporary, "wordnet"]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TIMEOUT,
                check=False,
            )
            # It exits with 0 even so.
            if not any(Path(temporary, "corpora").glob("wordnet*")):
                return " ".join(done.stdout.replace("[nltk_data]", "").split()) or "it did not say"
            _unpack(Path(temporary, "corpora"), folder)
        except subprocess.TimeoutExpired:
            return f"nothing after {_TIMEOUT:.0f} seconds"
        except (OSError, zipfile.BadZipFile, StepError) as error:
            return " ".join(str(error).split()) or type(error).__name__
    return ""


def _unpack(corpora: Path, folder: Path) -> None:
    if not _is_there(corpora / "wordnet"):
        with zipfile.ZipFile(corpora / "wordnet.zip") as package:
            for name in WORDS:
                if f"wordnet/{name}" in package.namelist():
                    package.extract(f"wordnet/{name}", corpora)
    _copy(corpora / "wordnet", folder)


def _copy(source: Path, folder: Path) -> None:
    if not _is_there(source):
        raise StepError(f"{source} has no WordNet (the files {', '.join(WORDS)})")
    if source.resolve() == folder.resolve():
        return
    with atomic_folder(folder) as temporary:
        for name in WORDS:
            shutil.copyfile(source / name, temporary / name)
        (temporary / "lexnames").write_text(_lexnames())
        # nltk reads no file that others may write, as the group may by a umask of 002.
        for path in temporary.iterdir():
            path.chmod(0o644)


def _lexnames() -> str:
    return "".join(
        f"{number:02d}\t{name}\t{_NUMBERS[name.partition('.')[0]]}\n"
        for number, name in enumerate(_LEXNAMES.split())
    )


if __name__ == "__main__":
    run_step(main)
