"""Edge: a server whose ingress is on, with apps that are rows and small programs instead of agents.

Nodes, deployments and replicas are written as the registry and the reconciler would; neither has a
word to say here. What is real is the ingress worker, HAProxy, and the apps behind it.
"""

import itertools
import json
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from . import process
from .client import Client
from .server import Cluster, free_port
from .wait import wait_until

QUIET = {"a67.monitor_interval": "1h", "a67.heartbeat_interval": "1h"}
DOMAIN = "apps.test"
STUB = Path(__file__).with_name("stub_app.py")
MANIFEST = {"app_type": "backend", "balance": "leastconn", "replicas": 0, "routes": [],
            "strategy": {"type": "rolling"}}


class App:
    """One replica: a process and its row."""

    def __init__(self, name, port, popen, replica_id=None):
        self.name, self.port, self.popen, self.id = name, port, popen, replica_id
        self.process = process.look(popen.pid)

    def kill(self):
        self.process.kill()
        self.popen.wait(timeout=10)


class Edge:
    """Use as a context manager."""

    def __init__(self, **settings):
        self.port = free_port()
        self.cluster = Cluster(settings={**QUIET, "a67.ingress": "on", "a67.ingress_port": self.port,
                                         "a67.ingress_domain": DOMAIN, **settings})
        self.apps = []
        self.numbers = itertools.count(1)

    def __enter__(self):
        try:
            self.cluster.create()
            # The reconciler would want agents behind these rows.
            self.cluster.execute("""
                ALTER FUNCTION a67_internal._reconciler_plan RENAME TO _reconciler_real_plan;
                CREATE FUNCTION a67_internal._reconciler_plan(now timestamptz, OUT key text, OUT method text, OUT url text,
                    OUT token text, OUT body text, OUT timeout_ms integer, OUT headers text[], OUT pin text)
                RETURNS SETOF record LANGUAGE sql AS 'SELECT NULL, NULL, NULL, NULL, NULL, 0, NULL::text[], NULL WHERE false'""")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for app in self.apps:
            app.kill()
        self.cluster.destroy()

    def mark(self):
        self.cluster.mark()

    def report(self):
        lines = [json.dumps(row, default=str) for table in ("replica_traffic", "deployment_traffic", "route")
                 for row in self.cluster.rows(f"SELECT * FROM a67_internal.{table}")]
        return "\n".join([self.cluster.report(), *lines, self.cluster.value("SELECT a67_internal._ingress_config()")])

    # -- HAProxy -------------------------------------------------------------------------------

    def folder(self):
        return self.cluster.data / "a67_ingress"

    def processes(self):
        """The processes of this HAProxy: those whose command line names the directory."""
        return self.cluster.haproxies()

    def ask(self, text):
        """What the master says to a command."""
        with socket.socket(socket.AF_UNIX) as talk:
            talk.settimeout(5)
            talk.connect(str(self.folder() / "master.sock"))
            talk.sendall(text.encode() + b"\n")
            talk.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: talk.recv(65536), b"")).decode()

    def master(self):
        return process.look(int(self.ask("show proc").split("\n")[1].split()[0]))

    def workers(self):
        """Pids of worker processes, the current one first."""
        return [int(line.split()[0]) for line in self.ask("show proc").split("\n")
                if line and line.split()[1:2] == ["worker"]]

    # -- rows ----------------------------------------------------------------------------------

    def node(self, name, requests=1000, status="ready", cores=4, endpoint="http://127.0.0.1:1"):
        """A node; the same name is the same node."""
        return self.cluster.value("""
            WITH n AS (
                INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
                                               max_concurrent_requests)
                VALUES (a67_internal._operator_id(), %s, %s, left(encode(sha256(%s), 'hex'), 43), %s, 1 << 30, 1 << 30, %s)
                RETURNING node_id),
            o AS (INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at)
                  SELECT node_id, %s, now() FROM n)
            SELECT node_id FROM n""", name, endpoint, name.encode(), cores, requests, status)

    def deployment(self, name, **changes):
        """A deployment with one release and no replica; returns its id."""
        manifest = {**MANIFEST, "name": name, **changes}
        return self.cluster.value("""
            WITH d AS (INSERT INTO a67_internal.deployment (owner_id, name, replicas)
                       VALUES (a67_internal._operator_id(), %s, 0) RETURNING *),
            r AS (INSERT INTO a67_internal.release (deployment_id, number, manifest, package_digest)
                  SELECT deployment_id, 1, %s::jsonb, 'x' FROM d RETURNING *)
            SELECT d.deployment_id FROM d, r,
            LATERAL a67_internal._routes_claim(d.deployment_id, d.owner_id, r.manifest)""",
            name, json.dumps(manifest))

    def release(self, deployment, number):
        self.cluster.execute("""
            INSERT INTO a67_internal.release (deployment_id, number, manifest, package_digest)
            SELECT deployment_id, %s, manifest, package_digest FROM a67_internal.release WHERE deployment_id = %s AND number = 1""",
            number, deployment)

    def app(self, deployment, node, release=1, name=None):
        """A replica that runs; its name is what it answers with."""
        name = name or f"app{next(self.numbers)}"
        port = free_port()
        app = App(name, port, process.spawn([sys.executable, str(STUB), name, str(port)],
                                            self.cluster.folder / "apps.log"))
        self.apps.append(app)
        wait_until(f"{name} listens", lambda: Client(f"http://127.0.0.1:{port}").get("/").status == 200)
        app.id = self.cluster.value("""
            WITH d AS (UPDATE a67_internal.deployment SET replicas = replicas + 1 WHERE deployment_id = %s)
            INSERT INTO a67_internal.replica (deployment_id, release, node_id, memory_bytes, cpu, state, port, pushed_generation)
            VALUES (%s, %s, %s, 1, 0, 'running', %s, 1) RETURNING replica_id""", deployment, deployment, release, node, port)
        return app

    def stop(self, app, drain="10s"):
        """What the reconciler does with a replica that has to go."""
        self.cluster.execute("""
            UPDATE a67_internal.replica r SET desired_state = 'stopped', generation = generation + 1,
                   next_push_at = 'infinity', drain_until = now() + %s::interval
            WHERE replica_id = %s""", drain, app.id)

    def routed(self, app):
        return self.cluster.value("SELECT routed FROM a67_internal.replica WHERE replica_id = %s", app.id)

    def wait_routed(self, *apps, state="in", timeout=20):
        for app in apps:
            wait_until(f"{app.name} is {state}", lambda app=app: self.routed(app), timeout,
                       until=lambda now: now == state)

    # -- requests ------------------------------------------------------------------------------

    def get(self, host, path="/", method="GET", **headers):
        """One request through HAProxy, without a retry."""
        return Client(f"http://127.0.0.1:{self.port}", timeout=10).request(
            method, path, headers={"Host": host, **headers})

    def wait_answer(self, host, path="/", until=lambda answer: answer.status == 200, timeout=20):
        return wait_until(f"{host}{path} answers", lambda: self.get(host, path), timeout, until=until)


class Load:
    """Use as a context manager: threads that ask through HAProxy on connections kept open; pause is between two requests, in s.

    answers counts by body, lost what a user would have suffered.
    """

    def __init__(self, edge, host, path="/", threads=4, method="GET", pause=0):
        self.edge, self.host, self.path, self.method, self.pause = edge, host, path, method, pause
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        self.lock = threading.Lock()
        self.answers, self.lost = {}, []

    def run(self):
        talk = None
        while not self.ended.wait(self.pause):
            try:
                if talk is None:
                    talk = socket.create_connection(("127.0.0.1", self.edge.port), timeout=10)
                status, body, closing = self.ask(talk)
                with self.lock:
                    if status == 200:
                        self.answers[body] = self.answers.get(body, 0) + 1
                    else:
                        self.lost.append(f"HTTP {status}: {body}")
                if closing:
                    talk.close()
                    talk = None
            except OSError as error:
                with self.lock:
                    self.lost.append(repr(error))
                talk = None

    def ask(self, talk):
        body = "Content-Length: 0\r\n" if self.method != "GET" else ""
        talk.sendall(f"{self.method} {self.path} HTTP/1.1\r\nHost: {self.host}\r\n{body}\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            more = talk.recv(65536)
            if not more:
                raise ConnectionError(f"closed after {len(data)} bytes")
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        while len(data) < int(fields.get("content-length", 0)):
            more = talk.recv(65536)
            if not more:
                raise ConnectionError("closed within an answer")
            data += more
        unsaid = "close" if head.startswith(b"HTTP/1.0") else "keep-alive"
        return int(head.split()[1]), data.decode().strip(), fields.get("connection", unsaid) == "close"

    def total(self):
        with self.lock:
            return sum(self.answers.values())

    def wait_more(self, count, timeout=30):
        """Waits until so many requests more were answered."""
        goal = self.total() + count
        wait_until(f"{count} requests more", self.total, timeout, until=lambda now: now >= goal)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()
