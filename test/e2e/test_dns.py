"""PowerDNS on the views: names follow the replicas, nothing else is to be seen."""

import re
import subprocess

import psycopg
import pytest

from conftest import CLOUDS
from cloud import process, wait_until
from cloud.edge import Edge
from cloud.server import free_port

ZONE = "apps.test"


class Dns:
    """A pdns_server that asks this cluster, and dig."""

    def __init__(self, cluster):
        self.cluster, self.port = cluster, free_port()
        cluster.execute("CREATE ROLE pdns LOGIN; GRANT a67_dns TO pdns; ALTER ROLE pdns SET search_path = a67_dns")
        folder = process.make_directory(cluster.folder / "pdns", mode=0o755)
        settings = {
            "launch": "gpgsql", "gpgsql-host": cluster.socket, "gpgsql-user": "pdns", "gpgsql-dbname": "postgres",
            "local-address": "127.0.0.1", "local-port": self.port, "socket-dir": folder, "setuid": "", "setgid": "",
            "daemon": "no", "guardian": "no", "cache-ttl": 0, "query-cache-ttl": 0, "negquery-cache-ttl": 0,
            "zone-cache-refresh-interval": 0, "security-poll-suffix": "", "loglevel": 5, "write-pid": "no",
            "distributor-threads": 1, "version-string": "anonymous",
        }
        (folder / "pdns.conf").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self.popen = process.spawn(["/usr/sbin/pdns_server", f"--config-dir={folder}"], folder / "pdns.log")
        self.process = process.look(self.popen.pid)
        self.log = folder / "pdns.log"

    def end(self):
        self.process.kill()
        self.popen.wait(timeout=10)

    def dig(self, name, kind="A", *more):
        done = subprocess.run(["dig", "@127.0.0.1", "-p", str(self.port), "+norecurse", "+time=2", "+tries=1", *more, name, kind],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ConnectionError(done.stdout + process.tail(self.log))
        return done.stdout

    def status(self, name, kind="A"):
        return re.search(r"status: (\w+)", self.dig(name, kind))[1]

    def answers(self, name, kind="A"):
        return sorted(line.split()[-1] for line in self.dig(name, kind, "+noall", "+answer").splitlines())

    def serial(self):
        return int(self.dig(ZONE, "SOA", "+short").split()[2])

    def wait(self, name, wanted, kind="A"):
        wait_until(f"{name} {kind} is {wanted}", lambda: self.answers(name, kind), until=lambda now: now == sorted(wanted))


@pytest.fixture(scope="module")
def edge():
    """The ingress is off: names lead to nodes."""
    with Edge(**{"a67.ingress": "off", "a67.dns_ttl": "7s"}) as one:
        CLOUDS.append(one)
        one.dns = Dns(one.cluster)
        try:
            wait_until("pdns answers", lambda: one.dns.status(ZONE, "SOA"), until=lambda status: status == "NOERROR")
            yield one
        finally:
            one.dns.end()
            CLOUDS.remove(one)


def replica(edge, deployment, node, port=1):
    return edge.cluster.value("""
        INSERT INTO a67_internal.replica (deployment_id, release, node_id, memory_bytes, cpu, state, port, pushed_generation)
        VALUES (%s, 1, %s, 1, 0, 'running', %s, 1) RETURNING replica_id""", deployment, node, port)


def test_names_follow_nodes(edge):
    dns = edge.dns
    assert dns.status("shop.apps.test") == "NXDOMAIN"
    deployment = edge.deployment("shop")
    assert dns.status("shop.apps.test") == "NXDOMAIN", "no replica yet"
    one, two, three = (edge.node(f"n{i}", endpoint=f"https://{host}:7200")
                       for i, host in enumerate(("192.0.2.1", "192.0.2.2", "[2001:db8::3]")))
    serial = dns.serial()
    replicas = [replica(edge, deployment, node) for node in (one, one, two, three)]
    dns.wait("shop.apps.test", ["192.0.2.1", "192.0.2.2"])
    dns.wait("shop.apps.test", ["2001:db8::3"], "AAAA")
    assert "7\tIN\tA" in dns.dig("SHOP.apps.test"), "any case, and the TTL of the setting"
    assert dns.status("shop.apps.test", "TXT") == "NOERROR" and dns.answers("shop.apps.test", "TXT") == [], "no data"
    assert dns.status("x.shop.apps.test") == "NXDOMAIN" and dns.status("other.test") == "REFUSED"
    wait_until("the serial number grew", dns.serial, until=lambda now: now > serial)
    serial = dns.serial()
    edge.cluster.execute("UPDATE a67_internal.node_observed SET status = 'failed' WHERE node_id = %s", one)
    dns.wait("shop.apps.test", ["192.0.2.2"])
    edge.cluster.execute("UPDATE a67_internal.replica SET state = 'unhealthy' WHERE replica_id = %s", replicas[2])
    dns.wait("shop.apps.test", [])
    assert dns.status("shop.apps.test") == "NOERROR", "it still has the other address"
    edge.cluster.execute("UPDATE a67_internal.node_observed SET status = 'ready' WHERE node_id = %s", one)
    dns.wait("shop.apps.test", ["192.0.2.1"])
    wait_until("the serial number grew", dns.serial, until=lambda now: now > serial)
    edge.cluster.execute("DELETE FROM a67_internal.replica WHERE deployment_id = %s", deployment)
    edge.cluster.execute("DELETE FROM a67_internal.deployment WHERE deployment_id = %s", deployment)
    wait_until("the name is gone", lambda: dns.status("shop.apps.test"), until=lambda status: status == "NXDOMAIN")


def test_a_node_with_a_name(edge):
    dns, deployment = edge.dns, edge.deployment("named")
    replica(edge, deployment, edge.node("named", endpoint="https://node.example.net:7200"))
    dns.wait("named.apps.test", ["node.example.net."], "CNAME")
    replica(edge, deployment, edge.node("numbered", endpoint="https://192.0.2.9:7200"))
    dns.wait("named.apps.test", ["192.0.2.9"])


def test_the_zone_itself(edge):
    dns = edge.dns
    assert dns.answers(ZONE, "NS") == ["ns.apps.test."] and dns.status(ZONE) == "NOERROR"
    assert dns.answers("ns.apps.test") == ["127.0.0.1"]
    soa = dns.dig(ZONE, "SOA", "+short").split()
    assert soa[:2] == ["ns.apps.test.", "hostmaster.apps.test."] and soa[6] == "7"
    edge.cluster.configure(**{"a67.dns_nameservers": "a.example.net,b.example.net"})
    edge.cluster.execute("SELECT pg_reload_conf()")
    wait_until("others are named", lambda: dns.answers(ZONE, "NS"), until=lambda now: now == ["a.example.net.", "b.example.net."])
    assert dns.status("ns.apps.test") == "NXDOMAIN"


def test_with_the_ingress_on(edge):
    dns, deployment = edge.dns, edge.deployment("behind")
    app = edge.app(deployment, edge.node("behind", endpoint="http://127.0.0.1:1"))
    dns.wait("behind.apps.test", ["127.0.0.1"])
    edge.cluster.configure(**{"a67.ingress": "on", "a67.ingress_public": "192.0.2.80,2001:db8::80"})
    edge.cluster.execute("SELECT pg_reload_conf()")
    edge.wait_routed(app)
    dns.wait("behind.apps.test", ["192.0.2.80"])
    dns.wait("behind.apps.test", ["2001:db8::80"], "AAAA")
    edge.cluster.configure(**{"a67.ingress_public": "edge.example.net"})
    edge.cluster.execute("SELECT pg_reload_conf()")
    dns.wait("behind.apps.test", ["edge.example.net."], "CNAME")
    edge.stop(app, drain="0s")
    wait_until("nobody answers", lambda: dns.status("behind.apps.test"), until=lambda status: status == "NXDOMAIN")


def test_pdns_sees_nothing_else(edge):
    with edge.cluster.connect(user="pdns") as connection:
        assert connection.execute("SELECT count(*) > 0 FROM records").fetchone()[0]
        for query in ("SELECT * FROM a67_internal.node", "SELECT * FROM a67.node", "SELECT * FROM a67_internal.dns_zone",
                      "SELECT a67_internal._dns_answers()", "SELECT a67.node_list()", "DELETE FROM records",
                      "UPDATE records SET content = '6.6.6.6'", "INSERT INTO domains DEFAULT VALUES", "CREATE TABLE a67_dns.x ()"):
            with pytest.raises(psycopg.Error):
                connection.execute(query)
