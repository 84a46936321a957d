"""Agents, deployments and the ingress together: an app keeps its URL wherever it runs, and whatever dies."""

import pytest

from conftest import bring_up
from cloud import Client, manifest, wait_until
from cloud.edge import Load
from cloud.server import free_port

HOST = "{}.apps.test"


@pytest.fixture(scope="module")
def cloud():
    port = free_port()
    for one in bring_up(("oak", "elm", "ash"), settings={
            "a67.ingress": "on", "a67.ingress_port": port, "a67.ingress_domain": "apps.test", "a67.drain_timeout": "5s"}):
        one.port = port
        yield one


def get(cloud, name):
    return Client(f"http://127.0.0.1:{cloud.port}", timeout=5).request("GET", "/", headers={"Host": HOST.format(name)})


def routed(cloud, name):
    return cloud.cluster.value("SELECT count(*) FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id) "
                               "WHERE d.name = %s AND r.routed = 'in' AND r.desired_state = 'running'", name)


def deploy(cloud, name, replicas, **more):
    cloud.create(manifest(name, cloud.put_package(), replicas=replicas, **more))
    wait_until(f"{replicas} of {name} are routed", lambda: routed(cloud, name), 40, until=lambda now: now == replicas)
    wait_until(f"{name} answers", lambda: get(cloud, name).status, until=lambda status: status == 200)


def test_scaled_under_load(cloud):
    deploy(cloud, "shop", 1)
    with Load(cloud, HOST.format("shop")) as load:
        for replicas in (3, 1, 2):
            cloud.cluster.execute("SELECT a67.deployment_scale('shop', %s)", replicas)
            wait_until(f"{replicas} run and no other", lambda: cloud.replicas("shop"), 40, until=lambda rows, n=replicas: len(rows) == n)
            wait_until(f"{replicas} are routed", lambda: routed(cloud, "shop"), until=lambda now, n=replicas: now == n)
            load.wait_more(20)
    assert not load.lost, load.lost[:5]


def test_singleton_moves_when_its_node_dies(cloud):
    deploy(cloud, "alone", 1)
    before = cloud.replicas("alone")[0]
    cloud.agents[before["node"]].kill_node()
    after = wait_until("it runs elsewhere", lambda: [row for row in cloud.replicas("alone") if row["desired_state"] == "running"], 60,
                       until=lambda rows: len(rows) == 1 and rows[0]["node"] != before["node"] and rows[0]["state"] == "running")
    assert after[0]["replica_id"] != before["replica_id"]
    wait_until("at the same URL", lambda: get(cloud, "alone").status, until=lambda status: status == 200)
    wait_until("which is its endpoint", lambda: [row["url"] for row in cloud.cluster.rows(
        "SELECT url FROM a67.endpoint WHERE deployment = 'alone' AND kind = 'public'")],
        until=lambda urls: urls == [f"http://alone.apps.test:{cloud.port}/"])


def test_removed(cloud):
    deploy(cloud, "gone", 1)
    cloud.cluster.execute("SELECT a67.deployment_remove('gone')")
    wait_until("its URL is nobody's", lambda: get(cloud, "gone").status, until=lambda status: status == 404)
    wait_until("it is forgotten", lambda: cloud.cluster.rows("SELECT FROM a67.deployment WHERE name = 'gone'"), 40, until=lambda rows: not rows)
    assert not cloud.cluster.rows("SELECT FROM a67.route WHERE deployment = 'gone'")
