"""New releases with real agents: each strategy, good and bad releases, orders of the owner, the API."""

import json

import psycopg
import pytest

from cloud import manifest, wait_until
from cloud.traffic import Traffic

# Hopeless at once: an agent does not try it again.
BROKEN = {"entrypoint": ["./nowhere"]}


@pytest.fixture
def cloud(shared):
    """The shared cloud; deployments made by the test are removed after it."""
    yield shared
    for row in shared.cluster.rows("SELECT name FROM a67.deployment"):
        shared.cluster.execute("SELECT a67.deployment_remove(%s)", row["name"])
    wait_until("no deployment is left", lambda: shared.cluster.rows(
        "SELECT name, status FROM a67.deployment"), until=lambda rows: not rows, timeout=40)
    shared.wait_nothing_runs()


def update(cloud, name, package, /, **changes):
    """Orders a new release; returns its rollout's id."""
    whole = manifest(name, package, **{"replicas": None, **changes})
    return cloud.cluster.value("SELECT a67.deployment_update(%s, %s::jsonb) #>> '{rollout,id}'", name, json.dumps(whole))


def rollout(cloud, rollout_id):
    return cloud.cluster.row("SELECT * FROM a67.rollout WHERE rollout_id = %s", rollout_id)


def wait_rollout(cloud, rollout_id, *states, timeout=40):
    return wait_until(f"rollout becomes {' or '.join(states)}", lambda: rollout(cloud, rollout_id), timeout,
                      until=lambda row: row["state"] in states)


def wait_release(cloud, name, release, count):
    """Waits until exactly count endpoints answer, all of that release; returns the answers."""
    found = wait_until(f"{count} endpoints of release {release}", lambda: cloud.answers(name), timeout=40,
                       until=lambda answers: len(answers) == count
                       and all(f"release {release}," in text for text in answers.values()))
    wait_until("as many processes run, no more", lambda: cloud.processes(name),
               until=lambda processes: len(processes) == count and all(len(pids) == 1 for pids in processes.values()))
    return found


def order(cloud, verb, name):
    cloud.cluster.execute(f"SELECT a67.deployment_{verb}(%s)", name)


@pytest.mark.parametrize("strategy, least", [
    ({"type": "rolling"}, 2),
    ({"type": "rolling", "max_surge": 0, "max_unavailable": 1}, 1),
    ({"type": "blue_green", "observe": "500ms", "test": {"path": "/health"}}, 2),
    ({"type": "canary", "steps": [50, 100], "step_interval": "1s"}, 2),
    ({"type": "recreate"}, 0),
], ids=["rolling", "rolling_unavailable", "blue_green", "canary", "recreate"])
def test_a_good_release(cloud, strategy, least):
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    with Traffic(cloud, "hello", least) as traffic:
        begun = update(cloud, "hello", package, strategy=strategy)
        row = wait_rollout(cloud, begun, "succeeded", "rolled_back", "failed")
        wait_release(cloud, "hello", 2, 2)
    assert row["state"] == "succeeded", row
    assert traffic.requests > 0 and not traffic.troubles, traffic.troubles[:5]
    cloud.wait_deployment("hello", "running")


@pytest.mark.parametrize("strategy", [
    {"type": "rolling"}, {"type": "blue_green"}, {"type": "canary"}, {"type": "recreate"},
], ids=lambda one: one["type"])
def test_a_release_that_cannot_start_goes_back(cloud, strategy):
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    before = cloud.processes("hello")
    with Traffic(cloud, "hello", 0 if strategy["type"] == "recreate" else 2) as traffic:
        begun = update(cloud, "hello", package, strategy=strategy, **BROKEN)
        row = wait_rollout(cloud, begun, "rolled_back", timeout=90)
        wait_release(cloud, "hello", 1, 2)
    assert "replicas failed" in row["reason"]
    assert not traffic.troubles, traffic.troubles[:5]
    if strategy["type"] != "recreate":
        assert cloud.processes("hello") == before, "the old ones were not touched"
    found = wait_until("running again", lambda: cloud.deployment("hello"), until=lambda d: d["status"] == "running")
    assert found["release"] == 1 and "rolled back" in found["status_reason"]
    failures = cloud.cluster.value("SELECT a67.deployment_get('hello') -> 'failures'")
    assert len(failures) >= 3 and all("nowhere" in one["error"] for one in failures)
    assert cloud.cluster.value("""SELECT count(*) FROM a67.alert WHERE resolved_at IS NULL AND severity = 'warning'
                                  AND message LIKE 'rollout of deployment "hello" to release 2 goes back%%'""") == 1


def test_blue_green_asks_before_it_switches(cloud):
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    before = cloud.processes("hello")
    begun = update(cloud, "hello", package, strategy={"type": "blue_green", "test": {"path": "/nowhere"}})
    row = wait_rollout(cloud, begun, "rolled_back")
    assert row["reason"].startswith("the smoke test failed: ") and row["reason"].endswith(" answered 404")
    wait_release(cloud, "hello", 1, 2)
    assert cloud.processes("hello") == before


ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read())"


@pytest.mark.parametrize("path, state", [("/health", "succeeded"), ("/nowhere", "rolled_back")])
def test_blue_green_runs_a_command(cloud, path, state):
    package = cloud.put_package()
    cloud.deploy("hello", package=package)
    begun = update(cloud, "hello", package, strategy={
        "type": "blue_green", "observe": "0s", "test": {"command": ["python3", "-c", ASK, "{url}" + path]}})
    row = wait_rollout(cloud, begun, "succeeded", "rolled_back")
    assert row["state"] == state, row
    if state == "rolled_back":
        assert "the command ended with status 1" in row["reason"] and "404" in row["reason"]
    wait_release(cloud, "hello", 2 if state == "succeeded" else 1, 1)


def test_orders_of_the_owner(cloud):
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    begun = update(cloud, "hello", package, strategy={"type": "canary", "steps": [50, 100], "step_interval": "1h"})
    wait_until("a canary serves", lambda: rollout(cloud, begun), timeout=40,
               until=lambda row: (row["phase"], row["weight"]) == ("observe", 50))
    order(cloud, "pause", "hello")
    cloud.cluster.wait_ticks("reconciler", 5)
    assert (rollout(cloud, begun)["state"], len(cloud.endpoints("hello"))) == ("paused", 3)
    order(cloud, "abort", "hello")
    assert wait_rollout(cloud, begun, "aborted")["reason"] == "aborted by its owner"
    wait_release(cloud, "hello", 1, 2)
    begun = update(cloud, "hello", package, strategy={"type": "canary", "step_interval": "1h"})
    order(cloud, "promote", "hello")
    wait_rollout(cloud, begun, "succeeded")
    wait_release(cloud, "hello", 3, 2)
    order(cloud, "rollback", "hello")
    wait_until("release 1 again", lambda: cloud.deployment("hello"), timeout=40, until=lambda row: row["release"] == 1)
    wait_release(cloud, "hello", 1, 2)


def test_a_second_release_is_refused_or_supersedes(cloud):
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    first = update(cloud, "hello", package, **BROKEN)
    with pytest.raises(psycopg.Error) as caught:
        update(cloud, "hello", package)
    assert caught.value.sqlstate == "PT409" and first in caught.value.diag.message_detail
    with Traffic(cloud, "hello", 2) as traffic:
        second = cloud.cluster.value("SELECT a67.deployment_update('hello', %s::jsonb, supersede => true) #>> '{rollout,id}'",
                                     json.dumps(manifest("hello", package, replicas=None)))
        wait_rollout(cloud, second, "succeeded")
    assert rollout(cloud, first)["state"] == "aborted"
    wait_release(cloud, "hello", 3, 2)
    assert not traffic.troubles


def test_scaling_on_the_way(cloud):
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    begun = update(cloud, "hello", package)
    cloud.cluster.execute("SELECT a67.deployment_scale('hello', 4)")
    wait_rollout(cloud, begun, "succeeded")
    wait_release(cloud, "hello", 2, 4)
    begun = update(cloud, "hello", package, replicas=1)
    wait_rollout(cloud, begun, "succeeded")
    wait_release(cloud, "hello", 3, 1)
    begun = update(cloud, "hello", package)
    cloud.cluster.execute("SELECT a67.deployment_scale('hello', 0)")
    wait_rollout(cloud, begun, "succeeded")
    cloud.wait_nothing_runs()


def test_all_or_nothing(cloud):
    """A first release with atomic of which one part cannot run: nothing of it is left."""
    cloud.create(manifest("whole", cloud.put_package(), atomic=True, replicas=2, **BROKEN))
    found = cloud.wait_deployment("whole", "failed", timeout=90)
    cloud.wait_nothing_runs()
    assert found["status_reason"]
    assert cloud.cluster.value("SELECT jsonb_array_length(a67.deployment_get('whole') -> 'failures')") >= 5
    with pytest.raises(psycopg.Error) as caught:
        cloud.create(manifest("large", cloud.put_package(), atomic=True, replicas=1000, resources={"memory": "1GB"}))
    assert caught.value.sqlstate == "53000"


def test_watch_and_explain(cloud):
    package = cloud.put_package()
    notices = []
    with cloud.cluster.connect() as connection:
        connection.add_notice_handler(lambda one: notices.append(one.message_primary))
        cloud.create(manifest("hello", package, replicas=2))
        rows = connection.execute("SELECT status, progress FROM a67.deployment_watch('hello')").fetchall()
        assert rows[-1] == ("running", "2 of 2 replicas run")
        assert notices == [f"{status}: {progress}" for status, progress in rows]
        assert len(connection.execute("SELECT * FROM a67.deployment_watch('hello', '0')").fetchall()) == 1
    cloud.create(manifest("huge", package, replicas=1, affinity={"labels": {"moon": "full"}}) | {"replicas": 0})
    update(cloud, "hello", package, strategy={"type": "canary", "step_interval": "1h"})
    order(cloud, "pause", "hello")
    rows = cloud.cluster.rows("SELECT * FROM a67.deployment_explain('hello')")
    subjects = {row["subject"]: row for row in rows}
    assert "paused" in subjects["rollout"]["finding"] and "deployment_resume" in subjects["rollout"]["hint"]
    assert subjects["capacity"]["finding"] == "there is room"
    replicas = [row for row in rows if row["subject"].startswith("replica ")]
    assert len(replicas) >= 2 and all("score of the node" in row["detail"] for row in replicas)
    room = cloud.cluster.row("SELECT * FROM a67.deployment_explain('huge') WHERE subject = 'capacity'")
    assert room["finding"] == "no room for another replica" and "by labels" in room["detail"]


def test_routes(cloud):
    owner = cloud.cluster.client(cloud.cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '1 hour')"))
    other = cloud.cluster.client(cloud.cluster.value(
        "SELECT a67.token_create(a67.user_create('rollout@example.org'), '1 hour')"))
    package = cloud.put_package()
    cloud.deploy("hello", replicas=1, package=package)
    base = "/api/v1/deployments/hello"
    whole = manifest("hello", package, strategy={"type": "canary", "step_interval": "1h"})
    for action in ("pause", "resume", "abort", "promote", "rollback"):
        assert owner.post(f"{base}/{action}").status == 409
        assert other.post(f"{base}/{action}").status == 404
    assert owner.request("PUT", base, {**whole, "name": "bye"}).status == 400
    assert other.request("PUT", base, whole).status == 404
    answer = owner.request("PUT", base, whole)
    assert answer.status == 202 and answer.json()["rollout"]["to_release"] == 2, answer.text
    assert owner.request("PUT", base, whole).status == 409
    assert owner.post(f"{base}/pause").status == 202
    shown = owner.get(base).json()
    assert shown["rollout"]["state"] == "paused" and shown["rollout"]["strategy"] == "canary"
    explained = owner.get(f"{base}/explain")
    assert explained.status == 200 and explained.json()[0]["subject"] == "deployment"
    assert other.get(f"{base}/explain").status == 404
    assert owner.post(f"{base}/rollback").status == 202
    wait_until("it went back", lambda: owner.get(base).json(), timeout=40, until=lambda found: found["rollout"] is None)
    assert owner.get(base).json()["rollouts"][0]["state"] == "aborted"
