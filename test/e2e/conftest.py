"""Fixtures of the end-to-end tests: a shared cloud for tests that leave it whole, a cloud of one's
own for tests that break things. When a test fails, the server's log and views and the agents' logs
are printed with it.
"""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cloud import Cloud  # noqa: E402  (the path comes first)

NAMES = ("oak", "elm", "ash", "fir")
CLOUDS = []


def pytest_configure(config):
    """A time-out's SIGTERM ends as Ctrl-C does: with every fixture torn down."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number, frame):
    raise KeyboardInterrupt


def pytest_runtest_setup(item):
    for cloud in CLOUDS:
        cloud.mark()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when in ("setup", "call"):
        for cloud in CLOUDS:
            report.sections.append((f"cloud in {cloud.cluster.folder}", cloud.report()))


def bring_up(names, **options):
    """Generator of one cloud with these nodes; ended when it is closed or exhausted."""
    cloud = Cloud(**options)
    CLOUDS.append(cloud)
    try:
        with cloud:
            cloud.join(*names)
            yield cloud
    finally:
        CLOUDS.remove(cloud)


@pytest.fixture(scope="session")
def shared():
    """Four nodes for everybody: a test here removes what it made and kills nothing."""
    yield from bring_up(NAMES)


@pytest.fixture
def make_cloud():
    """Brings up a cloud for this test alone: make_cloud("oak", "elm", settings={…})."""
    living = []

    def make(*names, **options):
        living.append(bring_up(names, **options))
        return next(living[-1])

    yield make
    for bringing in reversed(living):
        bringing.close()
