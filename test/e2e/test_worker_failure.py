"""The controller's own processes end, politely or not: they come back, and nothing is doubled.

SIGKILL of any process attached to shared memory makes PostgreSQL restart all of them: that is the
point of those cases. Apps are counted by their processes, not by what the tables say.
"""

import signal
import threading

import pytest

from cloud import Client, process, wait_until
from conftest import bring_up

WORKERS = ("launcher", "listener", "monitor", "notifier", "reconciler", "telemetry")


@pytest.fixture(scope="module")
def cloud():
    for cloud in bring_up(("oak", "elm", "ash")):
        cloud.deploy("hello", replicas=2)
        yield cloud


def healed(cloud, name, pid, before):
    """The worker has another process, all workers tick, the same apps run, heartbeats arrive."""
    wait_until(f"worker {name} has another process", lambda: cloud.cluster.worker_pid(name),
               timeout=40, until=lambda now: now and now != pid)
    cloud.cluster.wait_listening()
    cloud.wait_nodes("ready", "oak", "elm", "ash")
    for worker in ("monitor", "reconciler"):
        cloud.cluster.wait_ticks(worker, 3)
    assert cloud.apps() == before
    cloud.wait_serving("hello", 2)


@pytest.mark.parametrize("name", WORKERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_worker_heals(cloud, name, number):
    before = cloud.apps()
    worker = cloud.cluster.worker(name)
    worker.kill(number)
    wait_until(f"the process of worker {name} ends", worker.alive, until=lambda there: not there)
    healed(cloud, name, worker.pid, before)


def test_work_ordered_while_the_reconciler_is_dead_is_done(cloud):
    cloud.cluster.worker("reconciler").kill(signal.SIGTERM)
    cloud.cluster.execute("SELECT a67.deployment_scale('hello', 3)")
    cloud.wait_serving("hello", 3)
    cloud.cluster.worker("reconciler").kill(signal.SIGTERM)
    cloud.cluster.execute("SELECT a67.deployment_scale('hello', 2)")
    cloud.wait_serving("hello", 2)
    wait_until("two processes are left", cloud.apps,
               until=lambda apps: sum(map(len, apps.values())) == 2)


def api_workers(cloud):
    return [row["pid"] for row in cloud.cluster.rows(
        "SELECT pid FROM pg_stat_activity WHERE usename = 'a67_authenticator'")]


def waiting(cloud):
    """(pid,) of the api worker whose request waits for a lock."""
    return [(row["pid"],) for row in cloud.cluster.rows(
        "SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE NOT l.granted AND a.query LIKE '%/rpc/deployment_stop%'")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_api_worker_killed_in_the_middle_of_a_request(cloud, number):
    """The client gets an error or a closed connection, never silence; the next is served."""
    token = cloud.cluster.value("SELECT a67.token_create((SELECT user_id FROM"
                                " a67_internal.\"user\" WHERE is_operator))")
    client = Client(cloud.cluster.listener_url(), token, timeout=20)
    wait_until("an api worker is there", lambda: client.rpc("version").status,
               until=lambda status: status == 200)
    results = []

    def ask():
        try:
            results.append(client.rpc("deployment_stop", deployment="hello").status)
        except OSError as error:
            results.append(error)

    holder = cloud.cluster.connect(autocommit=False)
    try:
        holder.execute("LOCK TABLE a67_internal.deployment IN ACCESS EXCLUSIVE MODE")
        asking = threading.Thread(target=ask)
        asking.start()
        ((pid,),) = wait_until("the request waits for the lock", lambda: waiting(cloud))
        process.look(pid).kill(number)
        asking.join(timeout=15)
        assert not asking.is_alive(), "the client was left without an answer"
    finally:
        holder.close()
    assert not isinstance(results[0], int) or results[0] >= 500, results
    cloud.cluster.wait_listening()
    wait_until("the next request is served", lambda: client.rpc("version").status,
               until=lambda status: status == 200)
    assert pid not in api_workers(cloud)
    cloud.wait_deployment("hello", "running")
    assert cloud.deployment("hello")["desired_state"] == "running", "a failed request did nothing"
    cloud.wait_serving("hello", 2)
