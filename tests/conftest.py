import signal

import pytest


def pytest_collection_modifyitems(items):
    """Run the longest tests first, so that no worker is left alone with them at the end."""
    items.sort(key=lambda item: "tests/workflow/" not in item.nodeid)


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
