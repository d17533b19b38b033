"""Install WordNet 3.0 in a folder with nltk's layout: ``<output>/corpora/wordnet``.

Sources are tried in this order: --dict, an existing installation in the folder, nltk's download,
and the usual folders of distribution packages (Debian's wordnet-base). To make sure that synonyms
are the same everywhere, the words are compared with those of WordNet 3.0.
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

# WordNet.digest() of WordNet 3.0, computed from Debian's wordnet-base 1:3.0-37. Debian corrected 16
# definitions of Princeton's files, but the words are the same.
WORDNET_3_0 = "ccfd1629731d85df0c386e11dd282404e069f2e8fa9d423ec1f591c0bb6ff060"

USUAL_FOLDERS = (
    "/usr/share/wordnet",
    "/usr/share/wordnet-3.0/dict",
    "/usr/local/WordNet-3.0/dict",
    "/usr/local/share/WordNet/dict",
)
_TIMEOUT = 120.0  # seconds

# The lexicographer files, lexnames(5WN). nltk requires this list, but distributions omit it.
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
    """Read the command line and install WordNet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of nltk data")
    parser.add_argument("--dict", type=Path, help="folder with WordNet's files (data.noun, ...)")
    options = parser.parse_args(arguments)
    make_ready(options.output, options.dict)


def make_ready(output: Path, given: Path | None = None) -> None:
    """Install WordNet's files in ``output`` if they are missing, and write a report on them.

    Args:
        output: Folder of nltk data.
        given: Folder with WordNet's files; replaces existing files.

    Raises:
        StepError: WordNet cannot be found or read.
    """
    folder, report = output / "corpora" / "wordnet", output / "wordnet.json"
    if given is not None:
        _copy(given, folder)
        source = str(given)
    elif _is_there(folder, FILES):
        source = read_json(report)["source"] if report.exists() else "existing files"
    else:
        source = _find(folder)
    found = WordNet(folder).digest()
    known = found == WORDNET_3_0
    write_json(report, {"source": source, "digest": found, "wordnet_3_0": known})
    if not known:
        print(
            f"warning: WordNet in {folder} (source: {source}) differs from WordNet 3.0 (digest "
            f"{found[:16]}..., expected {WORDNET_3_0[:16]}...), so augmented captions are not "
            "comparable with those of other installations",
            file=sys.stderr,
        )
    print(f"WordNet{' 3.0' if known else ''} is installed in {folder} (source: {source})")


def _find(folder: Path) -> str:
    failure = _download(folder)
    if not failure:
        return "nltk's download"
    for usual in map(Path, USUAL_FOLDERS):
        if _is_there(usual):
            print(f"WordNet could not be downloaded ({failure}); using {usual} instead")
            _copy(usual, folder)
            return str(usual)
    raise StepError(
        f"WordNet could not be downloaded ({failure}) and is not installed; install your system's "
        "package of WordNet 3.0 (Debian, Ubuntu: apt-get install wordnet-base) and try again, or "
        "set --dict to its folder"
    )


def _is_there(folder: Path, names: Sequence[str] = WORDS) -> bool:
    return all((folder / name).is_file() for name in names)


def _download(folder: Path) -> str:
    """Download nltk's package ``wordnet``; return the reason of a failure, or "" on success."""
    with tempfile.TemporaryDirectory() as temporary:
        # In a child process with a time-out, because nltk's retries may take a quarter of an hour.
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
            # The exit status is 0 even if the download failed.
            if not any(Path(temporary, "corpora").glob("wordnet*")):
                return " ".join(done.stdout.replace("[nltk_data]", "").split()) or "unknown error"
            _unpack(Path(temporary, "corpora"), folder)
        except subprocess.TimeoutExpired:
            return f"no response within {_TIMEOUT:.0f} seconds"
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
        raise StepError(f"{source} is not a WordNet folder (needs the files {', '.join(WORDS)})")
    if source.resolve() == folder.resolve():
        return
    with atomic_folder(folder) as temporary:
        for name in WORDS:
            shutil.copyfile(source / name, temporary / name)
        (temporary / "lexnames").write_text(_lexnames())
        # nltk refuses files that others can write, such as those created with a umask of 002.
        for path in temporary.iterdir():
            path.chmod(0o644)


def _lexnames() -> str:
    return "".join(
        f"{number:02d}\t{name}\t{_NUMBERS[name.partition('.')[0]]}\n"
        for number, name in enumerate(_LEXNAMES.split())
    )


if __name__ == "__main__":
    run_step(main)
