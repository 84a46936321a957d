"""Fixtures of the end-to-end tests: a shared cloud for tests that leave it whole, a cloud of one's
own for tests that break things. When a test fails, the server's log and views and the agents' logs
are printed with it.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent_alone import AgentAlone  # noqa: E402  (the path comes first)
from cloud import Cloud, Cluster  # noqa: E402
from cloud.api import Api, haproxy, postgrest, program  # noqa: E402

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
def alone():
    """An agent that has not been started yet, and the controller that is played for it."""
    agent = AgentAlone()
    yield agent
    agent.destroy()


@pytest.fixture(scope="module")
def shared_agent():
    """One joined agent for tests that leave it whole."""
    agent = AgentAlone()
    agent.start()
    yield agent
    agent.destroy()


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


@pytest.fixture
def make_cluster():
    """Servers of this test alone, with the extension unless that is False; environment is the postmaster's."""
    made = []

    def make(settings=None, environment=None, fsync=False, extension=True):
        cluster = Cluster(settings=settings, fsync=fsync)
        cluster.environment = environment or {}
        made.append(cluster)
        return cluster.create(extension)

    yield make
    for cluster in made:
        cluster.destroy()


# -- the API, through every door that is here ------------------------------------------------------


@pytest.fixture(scope="session")
def api_cluster():
    """A server without nodes for the API tests; they make users of their own and change no setting."""
    if os.environ.get("A67_API_URL"):
        pytest.skip("A67_API_URL names a server that the test cannot look into")
    with Cluster(settings={"a67.rate_limits": "off", "a67.trusted_proxies": "127.0.0.1"}) as cluster:
        yield cluster


def doors():
    """Doors to test; one whose program is missing is left out, which test_door_is_there shows."""
    if os.environ.get("A67_API_URL"):
        return ["url"]
    return ["listener", *(door for door in ("haproxy", "postgrest") if program(door) is not None)]


def pytest_generate_tests(metafunc):
    """The API tests run once for each door; A67_API_URL (and A67_API_TOKEN_ADMIN) names one elsewhere."""
    if "api" in metafunc.fixturenames:
        metafunc.parametrize("api", doors(), indirect=True, scope="session")


@pytest.fixture(scope="session")
def api(request):
    """One door to the API."""
    if request.param == "url":
        yield Api("url", os.environ["A67_API_URL"], os.environ.get("A67_API_TOKEN_ADMIN"))
        return
    cluster = request.getfixturevalue("api_cluster")
    token = cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '2 hours')")
    url, daemon = cluster.listener_url(), None
    try:
        if request.param == "haproxy":
            daemon, urls = haproxy(cluster.folder, A67_LISTENER=url.removeprefix("http://"))
            url = daemon.wait_answering(urls["A67_BIND"])
        elif request.param == "postgrest":
            daemon, url = postgrest(cluster, cluster.value("SELECT a67_internal._jwks()::text"))
            daemon.wait_answering(url)
        yield Api(request.param, url, token)
    finally:
        if daemon is not None:
            daemon.stop()
