import os
import shutil
import signal
from multiprocessing import forkserver
from pathlib import Path

import pytest

READY = Path(__file__).parents[1] / "nltk_data"


def pytest_collection_modifyitems(items):
    """Run the longest tests first, so that no worker is left alone with them at the end."""
    items.sort(key=lambda item: "tests/workflow/" not in item.nodeid)


@pytest.fixture(scope="module", autouse=True)
def own_fork_server():
    """A fork server that has imported what the module's step preloads, as in a separate process.

    With that of an earlier module, each worker of a download would import img2dataset.
    """
    server = forkserver._forkserver
    if server._forkserver_pid is not None:
        # It would not end by itself while a forked child of this process lives.
        os.kill(server._forkserver_pid, signal.SIGKILL)
    server._stop()


@pytest.fixture(scope="session")
def small_wordnet(tmp_path_factory):
    """A folder of nltk data whose WordNet has one of 200 synsets, because reading all is slow."""
    folder = tmp_path_factory.mktemp("nltk_data")
    corpus = shutil.copytree(READY / "corpora/wordnet", folder / "corpora/wordnet")
    for part in ("noun", "verb", "adj", "adv"):
        kept = set()
        for n, line in enumerate((corpus / f"data.{part}").read_text().splitlines()):
            offset, _, kind, *_ = [*line.split(), "", "", ""]
            named = " picture " in line.partition("|")[0]
            # Satellites of adjectives (s) refer to other synsets.
            if kind != "s" and (named or n % 200 == 0):
                kept.add(offset)
        index = (corpus / f"index.{part}").read_text().splitlines()
        lines = [line if line.startswith("  ") else _with_offsets(line, kept) for line in index]
        (corpus / f"index.{part}").write_text("".join(f"{line}\n" for line in lines if line))
    return folder


def _with_offsets(line, kept):
    """Return a line of an index with only some of its synsets, "" if none is left."""
    lemma, part, number, *rest = line.split()
    offsets = [offset for offset in rest[-int(number) :] if offset in kept]
    pointers = rest[: -int(number) - 2]
    words = [lemma, part, len(offsets), *pointers, len(offsets), 0, *offsets]
    return " ".join(map(str, words)) if offsets else ""


@pytest.fixture
def heard():
    """Make signals reach child processes, even if the tests run in the background (nohup, &)."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
