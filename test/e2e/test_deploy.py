"""The life of a deployment: deploy, scale, stop, start, remove; what the agents run is counted."""

import psycopg
import pytest

from cloud import Client, deterministic_tar, manifest, wait_until


@pytest.fixture
def cloud(shared):
    """The shared cloud; deployments made by the test are removed after it."""
    yield shared
    for row in shared.cluster.rows("SELECT name FROM a67.deployment"):
        shared.cluster.execute("SELECT a67.deployment_remove(%s)", row["name"])
    wait_gone(shared)
    shared.wait_nothing_runs()


def wait_gone(cloud):
    wait_until("no deployment is left", lambda: cloud.cluster.rows(
        "SELECT name, status FROM a67.deployment"), until=lambda rows: not rows, timeout=40)


def command(cloud, verb, *arguments):
    slots = ", ".join(["%s"] * len(arguments))
    cloud.cluster.execute(f"SELECT a67.deployment_{verb}({slots})", *arguments)


def test_deploy_answers_from_three_nodes(cloud):
    cloud.deploy("hello", replicas=3)
    answers = cloud.wait_serving("hello", 3)
    places = {text.split(" from ")[1].split(",")[0] for text in answers.values()}
    assert len(places) == 3, answers
    assert all("release 1" in text for text in answers.values())
    assert all(len(pids) == 1 for pids in cloud.processes("hello").values())
    row = cloud.wait_deployment("hello", "running")
    assert (row["replicas_desired"], row["replicas_running"]) == (3, 3)


def test_environment_reaches_the_app(cloud):
    cloud.deploy("greeter", env={"GREETING": "bonjour"})
    (answer,) = cloud.wait_serving("greeter", 1).values()
    assert answer.startswith("bonjour from ")


def test_scale_up_and_down(cloud):
    cloud.deploy("hello", replicas=1)
    (first,) = cloud.wait_serving("hello", 1)
    command(cloud, "scale", "hello", 4)
    assert first in cloud.wait_serving("hello", 4)
    command(cloud, "scale", "hello", 2)
    cloud.wait_serving("hello", 2)
    cloud.wait_deployment("hello", "running")
    wait_until("two processes are left", lambda: sum(map(len, cloud.processes("hello").values())),
               until=lambda count: count == 2)
    command(cloud, "scale", "hello", 0)
    cloud.wait_nothing_runs()


def test_stop_and_start(cloud):
    cloud.deploy("hello", replicas=2)
    command(cloud, "stop", "hello")
    cloud.wait_nothing_runs()
    cloud.wait_deployment("hello", "stopped")
    assert cloud.answers("hello") == {}
    command(cloud, "start", "hello")
    cloud.wait_serving("hello", 2)
    cloud.wait_deployment("hello", "running")


def test_remove_leaves_nothing(cloud):
    cloud.deploy("hello", replicas=3)
    urls = list(cloud.wait_serving("hello", 3))
    command(cloud, "remove", "hello")
    wait_gone(cloud)
    cloud.wait_nothing_runs()
    assert cloud.cluster.value("SELECT count(*) FROM a67.replica") == 0
    assert cloud.cluster.value("SELECT count(*) FROM a67.endpoint") == 0
    # Packages may be kept for the next time; nothing of a replica may.
    wait_until("no unpacked app is left", lambda: [
        str(path) for agent in cloud.agents.values() for path in agent.state.rglob("hello.py")],
        until=lambda left: not left)
    for agent in cloud.agents.values():
        assert list((agent.state / "apps").iterdir()) == []
    assert all(refuses(url) for url in urls)


def refuses(url):
    try:
        Client(url, timeout=2).get()
        return False
    except OSError:
        return True


def test_remove_while_it_is_starting(cloud):
    cloud.create(manifest("hello", cloud.put_package(), replicas=3))
    command(cloud, "remove", "hello")
    wait_gone(cloud)
    cloud.wait_nothing_runs()


def test_the_name_is_free_again_after_removal(cloud):
    cloud.deploy("hello")
    command(cloud, "remove", "hello")
    wait_gone(cloud)
    cloud.deploy("hello")


def test_worker_app_needs_no_port(cloud):
    package = cloud.cluster.value("SELECT a67.package_put(%s)", deterministic_tar(
        {"loop.py": "import signal\nprint('works', flush=True)\nsignal.pause()\n"}))
    cloud.create(manifest("quiet", package, app_type="worker", health_check=None, replicas=2,
                          entrypoint=["python3", "loop.py"]))
    cloud.wait_deployment("quiet", "running")
    assert sum(map(len, cloud.processes("quiet").values())) == 2


@pytest.mark.parametrize("verb, arguments", [
    ("scale", ("nobody", 1)), ("stop", ("nobody",)), ("start", ("nobody",)),
    ("remove", ("nobody",)), ("remove", ("00000000-0000-0000-0000-000000000000",)),
])
def test_commands_for_an_unknown_deployment_are_refused(cloud, verb, arguments):
    with pytest.raises(psycopg.Error) as caught:
        command(cloud, verb, *arguments)
    assert caught.value.sqlstate == "PT404"


@pytest.mark.parametrize("count", [-1, 1001, None])
def test_scale_refuses_impossible_counts(cloud, count):
    cloud.deploy("hello")
    with pytest.raises(psycopg.Error) as caught:
        command(cloud, "scale", "hello", count)
    assert caught.value.sqlstate.startswith("22")
    cloud.wait_serving("hello", 1)


def test_the_second_deployment_of_a_name_is_refused(cloud):
    cloud.deploy("hello")
    with pytest.raises(psycopg.errors.UniqueViolation):
        cloud.deploy("hello")
