"""What the ingress survives: reloads under load, the death of each process in turn, configurations that HAProxy refuses,
PostgreSQL away, being switched off and on."""

import re
import signal

import psycopg
import pytest

from conftest import CLOUDS
from cloud import process, wait_until
from cloud.edge import Edge, Load

# Every test has a deployment that serves, and looks at it from outside.
HOST = "steady.apps.test"


@pytest.fixture(scope="module")
def edge():
    with Edge(**{"a67.ingress_directory": "a67_ingress"}) as one:
        CLOUDS.append(one)
        node = one.node("steady")
        deployment = one.deployment("steady")
        one.steady = [one.app(deployment, node) for _ in range(2)]
        one.node_id, one.deployment_id = node, deployment
        one.wait_routed(*one.steady)
        yield one
        CLOUDS.remove(one)


@pytest.fixture(autouse=True)
def steady(edge):
    edge.wait_answer(HOST)
    wait_until("nothing is wrong", lambda: edge.cluster.rows("SELECT * FROM a67.alert WHERE resolved_at IS NULL"),
               until=lambda rows: not rows)


def requests(edge):
    return edge.cluster.value("SELECT sum(requests) FROM a67_internal.replica_traffic t JOIN a67_internal.replica r USING (replica_id) "
                              "WHERE r.deployment_id = %s", edge.deployment_id)


def counted(edge, least):
    """Waits until so many requests were counted, and what is still being counted is."""
    wait_until(f"{least} requests were counted", lambda: requests(edge), until=lambda now: now >= least)
    edge.cluster.wait_ticks("ingress", 2)
    return requests(edge)


def open_alert(edge, key):
    return edge.cluster.rows("SELECT * FROM a67.alert WHERE dedup_key = %s AND resolved_at IS NULL", key)


def test_reload_loses_nothing(edge):
    before = edge.workers()[0]
    with Load(edge, HOST) as load, Load(edge, HOST, method="POST", threads=2) as posts:
        load.wait_more(100)
        for number in range(3):
            app = edge.app(edge.deployment(f"more{number}"), edge.node_id)
            edge.wait_routed(app)
            edge.wait_answer(f"more{number}.apps.test")
            load.wait_more(50)
            posts.wait_more(20)
    assert edge.workers()[0] != before, "new backends need a reload"
    assert not load.lost and not posts.lost


def test_servers_and_weights_need_no_reload(edge):
    before = edge.workers()
    app = edge.app(edge.deployment_id, edge.node_id)
    edge.wait_routed(app)
    edge.cluster.execute("UPDATE a67_internal.node_observed SET status = 'degraded' WHERE node_id = %s", edge.node_id)
    edge.cluster.wait_ticks("ingress", 2)
    edge.cluster.execute("UPDATE a67_internal.node_observed SET status = 'ready' WHERE node_id = %s", edge.node_id)
    edge.stop(app)
    edge.wait_routed(app, state="out")
    app.kill()
    assert edge.workers()[0] == before[0]


def test_counters_outlive_reloads_and_the_worker(edge):
    before = counted(edge, 0)
    for number in range(3):
        for _ in range(40):
            assert edge.get(HOST).status == 200
        if number == 0:
            edge.app(edge.deployment("counted"), edge.node_id)
            edge.wait_answer("counted.apps.test")
        elif number == 1:
            edge.cluster.worker("ingress").kill()
    assert counted(edge, before + 120) == before + 120


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_worker_dies(edge, number):
    haproxies = {one.pid for one in edge.processes()}
    with Load(edge, HOST) as load:
        worker = edge.cluster.worker("ingress")
        load.wait_more(50)
        worker.kill(number)
        # A crash restarts all backends; HAProxy notices nothing of it.
        wait_until("another one runs", lambda: edge.cluster.worker_pid("ingress"), until=lambda pid: pid not in (None, worker.pid))
        load.wait_more(50)
        app = edge.app(edge.deployment_id, edge.node_id)
        edge.wait_routed(app)
        edge.stop(app)
        edge.wait_routed(app, state="out")
        app.kill()
    assert not load.lost
    assert {one.pid for one in edge.processes()} == haproxies, "the running HAProxy was found again"


@pytest.mark.parametrize("which", ["worker", "master"])
def test_haproxy_is_killed(edge, which):
    dying = edge.processes()
    before = counted(edge, 0)
    victim = edge.master() if which == "master" else process.look(edge.workers()[0])
    victim.kill()
    wait_until("all of it is new", lambda: [one for one in dying if one.alive()], until=lambda left: not left)
    edge.wait_answer(HOST)
    edge.wait_routed(*edge.steady)
    assert edge.get(HOST).status == 200
    assert counted(edge, before + 1) > before, "counters never fall"


def test_state_is_corrected(edge):
    backend, server = edge.deployment_id, edge.steady[0].id
    pid = edge.workers()[0]
    edge.ask(f"@!{pid} set weight {backend}/{server} 0;@!{pid} set server {backend}/{edge.steady[1].id} state maint;"
             f"@!{pid} set maxconn server {backend}/{server} 3")
    edge.ask(f"@!{pid} add server {backend}/stranger 127.0.0.1:1;@!{pid} enable server {backend}/stranger")
    def state():
        return edge.cluster.rows("SELECT server, status, weight > 0 AS weighs, slots > 3 AS wide FROM a67_internal._ingress_observed(%s) "
                                 "WHERE backend = %s AND server IS NOT NULL",
                                 edge.ask(f"@!{pid} show info;@!{pid} show stat -1 6 -1"), str(backend))
    wait_until("as it should be", state, until=lambda rows: len(rows) == 2 and all(
        row["status"] == "UP" and row["weighs"] and row["wide"] for row in rows))
    edge.wait_routed(*edge.steady)


def test_refused_configuration_is_not_used(edge):
    pid, text = edge.workers()[0], (edge.folder() / "haproxy.cfg").read_text()
    edge.cluster.configure(**{"a67.ingress_certificate_file": "missing.pem"})
    edge.cluster.execute("SELECT pg_reload_conf()")
    alert = wait_until("an alert says so", lambda: open_alert(edge, "ingress-config"))[0]
    assert "missing.pem" in alert["message"] and alert["severity"] == "critical"
    assert edge.get(HOST).status == 200 and edge.workers()[0] == pid
    assert (edge.folder() / "haproxy.cfg").read_text() == text
    # What needs no reload goes on.
    app = edge.app(edge.deployment_id, edge.node_id)
    edge.wait_routed(app)
    edge.stop(app)
    edge.cluster.configure(**{"a67.ingress_certificate_file": ""})
    edge.cluster.execute("SELECT pg_reload_conf()")
    wait_until("it is resolved", lambda: not open_alert(edge, "ingress-config"))
    edge.wait_routed(app, state="out")
    app.kill()


def test_down_is_told(edge):
    edge.cluster.configure(**{"a67.haproxy_path": "/bin/false"})
    edge.cluster.execute("SELECT pg_reload_conf()")
    edge.cluster.wait_ticks("ingress", 2)
    edge.master().kill()
    wait_until("an alert says so", lambda: open_alert(edge, "ingress-down"))
    edge.cluster.configure(**{"a67.haproxy_path": "/usr/sbin/haproxy"})
    edge.cluster.execute("SELECT pg_reload_conf()")
    edge.wait_answer(HOST)
    wait_until("it is resolved", lambda: not open_alert(edge, "ingress-down"))


def test_without_postgresql(edge):
    with Load(edge, HOST) as load:
        load.wait_more(20)
        edge.cluster.stop()
        load.wait_more(100)
        edge.cluster.start()
        edge.cluster.worker("ingress")
        load.wait_more(20)
    assert not load.lost
    with Load(edge, HOST) as load:
        load.wait_more(20)
        edge.cluster.kill9()
        load.wait_more(100)
        edge.cluster.start()
        load.wait_more(20)
    assert not load.lost
    app = edge.app(edge.deployment_id, edge.node_id)
    edge.wait_routed(app)
    edge.stop(app)
    edge.wait_routed(app, state="out")
    app.kill()


def test_nothing_of_the_server_is_inherited(edge):
    for one in edge.processes():
        environment = process.environment(one.pid)
        assert not [name for name in environment if name.startswith(("PG", "A67"))], environment
        links = process.run(["ls", "-l", f"/proc/{one.pid}/fd"])
        assert not re.search(r"base/|pg_wal|server\.log|global/", links), links
    assert edge.folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name, value", [
    ("ingress_address", "localhost"), ("ingress_address", "127.0.0.1:80"), ("ingress_port", "0"), ("ingress_port", "65536"),
    ("ingress_domain", ""), ("ingress_domain", "Apps.test"), ("ingress_domain", "a..b"), ("ingress_domain", "a b"), ("ingress_domain", "a,b"),
    ("ingress_domain", "-a.b"), ("ingress_domain", "a-.b"), ("ingress_public", "1.2.3.4,"), ("ingress_public", "1.2.3.4,x"),
    ("ingress_public", "a.b,c.d"), ("ingress_certificate_file", "a b.pem"), ("ingress_certificate_file", "a\nb"),
    ("ingress_directory", ""), ("ingress_directory", "a/"), ("ingress_directory", "-x"), ("ingress_directory", "a;b"),
    ("ingress_directory", "x" * 81), ("haproxy_path", "/bin/sh -c x"), ("haproxy_path", "$(x)"), ("dns_nameservers", "a.b, c.d"),
    ("dns_ttl", "0"), ("drain_timeout", "-1")])
def test_settings_are_checked(edge, name, value):
    with pytest.raises(psycopg.Error):
        edge.cluster.execute(f"ALTER SYSTEM SET a67.{name} = '{value}'")


@pytest.mark.parametrize("name, value", [
    ("ingress_public", "1.2.3.4,::1"), ("ingress_public", "edge.example.org"), ("dns_nameservers", "a.b,c.d"),
    ("trusted_proxies", "10.0.0.0/8, ::1"), ("ingress_address", "::1")])
def test_settings_that_are_good(edge, name, value):
    """HAProxy takes what follows from them."""
    edge.cluster.configure(**{f"a67.{name}": value})
    edge.cluster.execute("SELECT pg_reload_conf()")
    wait_until("the setting is there", lambda: edge.cluster.value(f"SHOW a67.{name}"), until=lambda now: now == value)
    text = edge.cluster.value("SELECT a67_internal._ingress_config()")
    digest = re.search(r"description (\S+)", text)[1]
    wait_until("it runs", lambda: edge.ask(f"@!{edge.workers()[0]} show info"), until=lambda info: digest in info)
    edge.cluster.configure(**{f"a67.{name}": None})
    edge.cluster.execute("SELECT pg_reload_conf()")


def test_off_and_on(edge):
    edge.cluster.configure(**{"a67.ingress": "off"})
    edge.cluster.execute("SELECT pg_reload_conf()")
    # A client that keeps an idle connection open may hold it for 75 s.
    wait_until("HAProxy ends", edge.processes, timeout=100, until=lambda left: not left)
    edge.wait_routed(*edge.steady, state="out")
    rows = edge.cluster.rows("SELECT kind FROM a67.endpoint WHERE deployment = 'steady'")
    assert [row["kind"] for row in rows] == ["replica", "replica"]
    edge.cluster.configure(**{"a67.ingress": "on"})
    edge.cluster.execute("SELECT pg_reload_conf()")
    edge.wait_answer(HOST)
    edge.wait_routed(*edge.steady)
