"""The whole server crashes or stops: apps go on serving, and afterwards everything is as before."""

import signal
import socket
import time

import pytest

from cloud import Client, manifest, wait_until


def test_postmaster_crash_recovers(make_cloud):
    cloud = make_cloud("oak", "elm", "ash", fsync=True)
    cloud.deploy("hello", replicas=3)
    before = cloud.apps()
    urls = list(cloud.answers("hello"))
    cloud.cluster.kill9()
    for url in urls:
        assert Client(url).get().status == 200, "apps serve while the controller is dead"
    cloud.cluster.start()
    cloud.cluster.wait_listening()
    cloud.wait_nodes("ready", "oak", "elm", "ash")
    cloud.wait_serving("hello", 3)
    for worker in ("monitor", "reconciler"):
        cloud.cluster.wait_ticks(worker, 3)
    assert cloud.apps() == before
    assert sorted(cloud.answers("hello")) == sorted(urls)


def test_crash_in_the_middle_of_a_deployment(make_cloud):
    """Killed right after the commit that ordered it: what was acknowledged is done, once."""
    cloud = make_cloud("oak", "elm", "ash", fsync=True)
    package = cloud.put_package()
    cloud.create(manifest("hello", package, replicas=3))
    cloud.cluster.kill9()
    cloud.cluster.start()
    cloud.cluster.wait_listening()
    cloud.wait_serving("hello", 3, timeout=60)
    cloud.wait_deployment("hello", "running")
    wait_until("three processes run, no more", cloud.apps,
               until=lambda apps: sum(len(pids) for one in apps.values()
                                      for pids in one.values()) == 3)


def test_port_zero_is_any_free_port_and_published(make_cloud):
    cloud = make_cloud("oak", settings={"a67.port": "0"})
    assert cloud.cluster.value("SELECT port FROM a67.listener") > 1024
    assert cloud.cluster.value("SHOW a67.port") == "0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["fast", "smart"])
def test_shutdown_is_quick_while_apps_run(make_cloud, number):
    cloud = make_cloud("oak", "elm")
    cloud.deploy("hello", replicas=2)
    before = cloud.apps()
    begin = time.monotonic()
    cloud.cluster.stop(number, timeout=20)
    assert time.monotonic() - begin < 5
    assert cloud.apps() == before


def test_taken_port_is_reported_and_taken_over_later(make_cloud):
    """Somebody else has the port: the server runs, the listener says so and tries again."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        cloud = make_cloud()
        cloud.cluster.stop()
        cloud.cluster.configure(**{"a67.port": str(port)})
        cloud.cluster.start()
        wait_until("the log names the port", lambda: str(port) in
                   cloud.cluster.log.read_text(errors="replace"))
        assert cloud.cluster.value("SELECT 1") == 1
    assert cloud.cluster.wait_listening(timeout=60).endswith(f":{port}")
