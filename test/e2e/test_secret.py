"""Secrets and env values from the API to the app: sealed on the way, replaced while apps run, told to nobody."""

import json
import signal
import threading

import pytest

from cloud import Client, deterministic_tar, manifest, wait_until
from conftest import bring_up
from secret_app import APP

HEALTH = {"path": "/", "interval": "200ms", "timeout": "200ms", "retries": 15}


@pytest.fixture(scope="module")
def cloud():
    """Three nodes. The monitor looks seldom: a node whose agent is away for a moment is not given up."""
    for cloud in bring_up(("oak", "elm", "ash"), settings={"a67.monitor_interval": "20s"}):
        cloud.package = cloud.put_package(deterministic_tar({"app.py": APP}))
        yield cloud


@pytest.fixture(scope="module")
def operator(cloud):
    token = cloud.cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '2 hours')")
    return cloud.cluster.client(token)


@pytest.fixture
def deploy(cloud, operator):
    """Deploys the app over the API and waits until it runs; removed after the test."""
    made = []

    def make(name, replicas=1, **changes):
        answer = operator.post("/api/v1/deployments", manifest(
            name, cloud.package, entrypoint=["python3", "app.py"], replicas=replicas, health_check=HEALTH, **changes))
        assert answer.status == 202, answer.text
        made.append(name)
        wait_until(f"{name} runs", lambda: looks(cloud, name), timeout=40, until=lambda seen: len(seen) == replicas)
        cloud.wait_deployment(name, "running")

    yield make
    for name in made:
        operator.request("DELETE", f"/api/v1/deployments/{name}")
    wait_until("they are gone", lambda: cloud.cluster.value("SELECT count(*) FROM a67.deployment"), timeout=40,
               until=lambda count: count == 0)


def store(client, name, value, status=None):
    answer = client.put(f"/api/v1/secrets/{name}", {"value": value})
    assert answer.status in ((200, 201) if status is None else (status,)), answer.text
    return answer.json()


def looks(cloud, name):
    """What each replica says of itself, by its endpoint."""
    return {one["url"]: Client(one["url"], timeout=2).get().json() for one in cloud.endpoints(name)}


def wait_value(cloud, name, value, replicas=1, timeout=40):
    """All replicas have the value in their files, and the deployment has settled."""
    seen = wait_until(f"{name} has {value}", lambda: looks(cloud, name), timeout, until=lambda found: len(found) == replicas
                      and all(one["files"]["PASSWORD"] == value for one in found.values()))
    cloud.wait_deployment(name, "running")
    return seen


def releases(cloud, version):
    return cloud.cluster.value("SELECT count(*) FROM a67.audit WHERE action = 'secret.release' AND subject LIKE %s",
                               f'%" version {version} to replica %')


def test_env_and_secret_reach_the_app(cloud, operator, deploy):
    store(operator, "reach", "canary-reach", 201)
    deploy("reach", env={"GREETING": "canary-greeting"}, secrets={"PASSWORD": "reach"})
    (seen,) = looks(cloud, "reach").values()
    assert seen["env"]["GREETING"] == "canary-greeting" and seen["env"]["PASSWORD"] == "canary-reach"
    assert seen["files"] == {"PASSWORD": "canary-reach"}


def test_awkward_values_arrive_as_they_are(cloud, operator, deploy):
    value = 'q"uote \\ back\nline\ttab \u20ac \U0001f511 \u0001 =x' + "x" * 60000
    store(operator, "awkward", value)
    deploy("awkward", env={"E": 'e"\n\u20ac'}, secrets={"PASSWORD": "awkward"})
    (seen,) = looks(cloud, "awkward").values()
    assert seen["env"]["PASSWORD"] == value and seen["files"]["PASSWORD"] == value and seen["env"]["E"] == 'e"\n\u20ac'


def test_no_answer_row_or_log_shows_a_value(cloud, operator, deploy):
    store(operator, "quiet", "canary-quiet")
    deploy("quiet", env={"GREETING": "canary-env"}, secrets={"PASSWORD": "quiet"})
    store(operator, "quiet", "canary-quiet-2")
    wait_value(cloud, "quiet", "canary-quiet-2")
    for path in ("secrets", "deployments", "deployments/quiet", "events?limit=1000", "nodes", "alerts"):
        answer = operator.get(f"/api/v1/{path}")
        assert answer.status == 200 and "canary" not in answer.text, answer.text
    assert operator.get("/api/v1/deployments/quiet").json()["releases"][0]["manifest"]["env"] == {"GREETING": None}
    tables = cloud.cluster.rows("SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
                                " WHERE schemaname = 'a67_internal'")
    for table in tables:
        assert cloud.cluster.value(f"SELECT count(*) FROM {table['name']} t WHERE t::text LIKE '%%canary%%'"
                                   " OR t::text LIKE '%%63616e617279%%'") == 0, table["name"]
    assert "canary" not in cloud.cluster.log.read_text()
    for agent in cloud.agents.values():
        assert "canary" not in agent.log.read_text()
        for path in agent.state.rglob("*"):
            if path.is_file() and not path.is_symlink() and "apps" not in path.parts:
                assert b"canary" not in path.read_bytes(), path


# -- replacement -------------------------------------------------------------------------------------


def test_restart_one_by_one_keeps_the_app_serving(cloud, operator, deploy):
    store(operator, "roll", "old")
    deploy("roll", replicas=3, secrets={"PASSWORD": "roll"})
    before = looks(cloud, "roll")
    silent, rounds, end = [], [], threading.Event()

    def ask():
        while not end.is_set():
            good = 0
            for url in before:
                try:
                    good += Client(url, timeout=1).get().status == 200
                except OSError:
                    pass
            rounds.append(good)
            if good == 0:
                silent.append(len(rounds))

    asking = threading.Thread(target=ask)
    asking.start()
    store(operator, "roll", "new")
    after = wait_value(cloud, "roll", "new", 3)
    end.set()
    asking.join()
    assert silent == [] and min(rounds) < 3 <= max(rounds), rounds
    assert set(after) == set(before)
    assert all(after[url]["pid"] != before[url]["pid"] and after[url]["env"]["PASSWORD"] == "new" for url in before)


def test_signal_rereads_in_the_same_process(cloud, operator, deploy):
    store(operator, "hup", "old")
    deploy("hup", replicas=2, secrets={"PASSWORD": "hup"}, on_secret_change="SIGHUP")
    before = looks(cloud, "hup")
    for value in ("second", "third"):
        store(operator, "hup", value)
        after = wait_value(cloud, "hup", value, 2)
        after = wait_until("it was read", lambda: looks(cloud, "hup"), until=lambda found: len(found) == 2
                           and all(one["read"] == {"PASSWORD": value} for one in found.values()))
    assert {url: one["pid"] for url, one in after.items()} == {url: one["pid"] for url, one in before.items()}
    assert all(one["signals"] == 2 for one in after.values())


def test_only_what_names_it_is_touched(cloud, operator, deploy):
    store(operator, "mine", "old")
    store(operator, "other", "old")
    deploy("first", secrets={"PASSWORD": "mine"})
    deploy("second", secrets={"PASSWORD": "other"})
    before = looks(cloud, "second")
    store(operator, "mine", "new")
    wait_value(cloud, "first", "new")
    assert looks(cloud, "second") == before


def test_agent_killed_in_between(cloud, operator, deploy):
    """Its app goes on with the old secret; the next agent brings the new one."""
    store(operator, "away", "old")
    deploy("away", secrets={"PASSWORD": "away"})
    (place,) = cloud.endpoints("away")
    agent = cloud.agents[place["node"]]
    store(operator, "away", "new")
    agent.kill()
    agent.restart()
    wait_value(cloud, "away", "new")
    assert [len(pids) for pids in cloud.processes("away").values()] == [1]


def test_node_that_was_away_gets_it_and_the_audit_came_first(cloud, operator, deploy):
    """Nothing arrived, and yet it is noted: the row is there before the request leaves."""
    store(operator, "late", "old")
    deploy("late", secrets={"PASSWORD": "late"}, on_secret_change="SIGUSR1")
    (place,) = cloud.endpoints("late")
    agent = cloud.agents[place["node"]]
    agent.kill()
    version = store(operator, "late", "new")["version"]
    subject = f'secret "late" version {version} to replica %'
    noted = wait_until("the hand-out is noted", lambda: cloud.cluster.rows(
        "SELECT subject FROM a67.audit WHERE action = 'secret.release' AND subject LIKE %s", subject))
    assert place["node"] in noted[0]["subject"]
    seen = Client(place["url"]).get().json()
    assert seen["files"] == {"PASSWORD": "old"} and seen["signals"] == 0
    agent.restart()
    seen = wait_until("the signal", lambda: Client(place["url"]).get().json(), timeout=70,
                      until=lambda one: one["signals"] == 1)
    assert seen["read"] == {"PASSWORD": "new"}
    cloud.wait_deployment("late", "running")


def test_reconciler_killed_in_between(cloud, operator, deploy):
    store(operator, "crash", "old")
    deploy("crash", replicas=2, secrets={"PASSWORD": "crash"})
    store(operator, "crash", "new")
    cloud.cluster.worker("reconciler").kill(signal.SIGTERM)
    wait_value(cloud, "crash", "new", 2)


# -- refusals ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bob(cloud):
    user = cloud.cluster.value("SELECT a67.user_create('bob@example.org')")
    return cloud.cluster.client(cloud.cluster.value("SELECT a67.token_create(%s, '1 hour')", user))


def test_secret_of_another_user_is_refused(cloud, operator, bob):
    store(operator, "hers", "canary-hers")
    assert bob.get("/api/v1/secrets").json() == []
    assert bob.request("DELETE", "/api/v1/secrets/hers").status == 404
    package = bob.put("/api/v1/packages", deterministic_tar({"app.py": APP})).json()["digest"]
    answer = bob.post("/api/v1/deployments", manifest("thief", package, secrets={"PASSWORD": "hers"}))
    assert answer.status == 400 and "/secrets/PASSWORD" in answer.json()["details"], answer.text
    assert [one["name"] for one in operator.get("/api/v1/secrets").json() if one["name"] == "hers"] == ["hers"]


def test_nobody_and_nodes_are_refused(cloud, operator):
    nobody = cloud.cluster.client()
    state = json.loads((cloud.agents["oak"].state / "node.json").read_text())
    node = cloud.cluster.client(state["node_token"])
    for client, status in ((nobody, 401), (node, 403)):
        assert client.get("/api/v1/secrets").status == status
        assert client.put("/api/v1/secrets/x", {"value": "y"}).status == status
        assert client.post("/api/v1/secrets", {"name": "x", "value": "y"}).status == status
        assert client.request("DELETE", "/api/v1/secrets/x").status == status


@pytest.mark.parametrize("name, body, field", [
    ("Upper", {"value": "canary"}, "name"), ("x", {"value": ""}, "value"), ("x", {"value": None}, "value"),
    ("x", {"value": "canary" * 20000}, "value"), ("x", {}, "value"), ("x", {"valu": "canary"}, "valu")])
def test_wrong_secret_is_named_without_its_value(operator, name, body, field):
    answer = operator.put(f"/api/v1/secrets/{name}", body)
    assert answer.status == 400 and field in answer.text and "canary" not in answer.text, answer.text


def test_secret_in_use_stays(cloud, operator, deploy):
    store(operator, "needed", "old")
    deploy("needs", secrets={"PASSWORD": "needed"})
    answer = operator.request("DELETE", "/api/v1/secrets/needed")
    assert answer.status == 409 and "needs" in answer.json()["details"]
    (row,) = [one for one in operator.get("/api/v1/secrets").json() if one["name"] == "needed"]
    assert row["deployments"] == ["needs"] and "value" not in row
    assert operator.request("DELETE", "/api/v1/deployments/needs").status == 202
    wait_until("it is free", lambda: operator.request("DELETE", "/api/v1/secrets/needed").status,
               timeout=40, until=lambda status: status == 204)
    assert operator.request("DELETE", "/api/v1/secrets/needed").status == 404


# -- the vault sealed --------------------------------------------------------------------------------


def test_sealed_vault_holds_up_what_needs_it_and_nothing_else(cloud, operator, deploy):
    store(operator, "held", "old")
    deploy("held", secrets={"PASSWORD": "held"})
    before = looks(cloud, "held")
    store(operator, "held", "new")
    wait_value(cloud, "held", "new")
    cloud.cluster.execute("SELECT a67.vault_seal()")
    try:
        answer = operator.put("/api/v1/secrets/held", {"value": "newer"})
        assert answer.status == 503, answer.text
        cloud.cluster.execute("SELECT a67.deployment_scale('held', 2)")
        cloud.cluster.wait_ticks("reconciler")
        assert set(looks(cloud, "held")) == set(before)
        assert cloud.cluster.value("SELECT version FROM a67.secret WHERE name = 'held'") == 2
    finally:
        cloud.cluster.execute("SELECT a67.vault_unseal()")
    wait_value(cloud, "held", "new", 2)
    store(operator, "held", "newest")
    wait_value(cloud, "held", "newest", 2)
