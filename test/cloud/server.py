"""Cluster: one private PostgreSQL with the extension.

It lives in a directory of its own, listens on a Unix socket only (mode 0700) and is ended at exit.
Settings are short intervals, so that tests wait for conditions and not for clocks. The server
tree is the private copy that `make` prepares (A67_PREFIX), else the system's.
"""

import atexit
import functools
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

import psycopg

from . import process
from .client import Client
from .wait import wait_until

SOCKET_PATH_MAX = 107
DATABASE = "postgres"
SUPERUSER = "postgres"

SETTINGS = {
    "shared_preload_libraries": "a67",
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "max_worker_processes": "32",
    "shared_buffers": "32MB",
    "log_line_prefix": "%m [%p] %b ",
    "a67.database": DATABASE,
    "a67.heartbeat_interval": "500ms",
    "a67.monitor_interval": "300ms",
    "a67.reconcile_interval": "300ms",
    "a67.probe_timeout": "1s",
    "a67.push_timeout": "2s",
    # All clients of a test are one address.
    "a67.rate_limits": "off",
}


def server_program(name):
    """A program of the PostgreSQL that the extension is installed in."""
    folder = os.environ.get("A67_BINDIR")
    if folder is None:
        prefix = os.environ.get("A67_PREFIX")
        pg_config = Path(prefix) / "bin" / "pg_config" if prefix else "pg_config"
        folder = subprocess.run([str(pg_config), "--bindir"], capture_output=True, text=True,
                                check=True).stdout.strip()
    return Path(folder) / name


def run_directory():
    """Where clusters live: A67_RUN, else a directory in /tmp for this user."""
    fallback = f"/tmp/a67-run.{os.getuid()}"
    return process.make_directory(os.environ.get("A67_RUN", fallback), mode=0o755)


def free_port(preferred=None):
    """A TCP port that nobody listens on. Fixed rather than 0, so that agents find the listener
    again after a crash; below the ports that the system hands out to connections and apps."""
    tries = [random.randrange(12000, 32000) for _ in range(100)]
    for port in [preferred, *tries] if preferred else tries:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port found in 100 tries")


@functools.cache
def _template():
    """A data directory fresh from initdb, made once a Python process: copies of it are cheap."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir=run_directory()))
    process.own(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    process.run([server_program("initdb"), "--pgdata", folder / "data", "--username", SUPERUSER,
                 "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync",
                 "--no-instructions"])
    return folder / "data"


class Cluster:
    """One server. Use as a context manager, or start() and stop()."""

    def __init__(self, settings=None, fsync=False, folder=None, keep=False):
        """settings override SETTINGS; folder is used as given (the demo), else a new one is made;
        keep leaves the server running and the files in place when Python ends."""
        self.keep = keep
        self.settings = {**SETTINGS, "fsync": "on" if fsync else "off",
                         "a67.port": str(free_port()), **(settings or {})}
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="c-", dir=run_directory()))
            process.own(folder)
            folder.chmod(0o755)
        self.folder = process.make_directory(folder, mode=0o755)
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.socket = self._socket_directory()
        self.environment = {}
        self.popen = None
        self.postmaster = None
        self.noticed = 0
        if not keep:
            atexit.register(self.destroy)

    def __enter__(self):
        try:
            self.create()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *_):
        self.destroy()

    # -- life ----------------------------------------------------------------------------------

    def create(self, extension=True):
        """Makes the data directory, starts the server and creates the extension."""
        process.run(["cp", "-R", "--reflink=auto", _template(), self.data])
        self.configure()
        self.start()
        if extension:
            self.execute("CREATE EXTENSION a67")
            self.wait_listening()
        return self

    def configure(self, **changes):
        """Writes the settings, with changes; they count from the next start (or reload). None leaves
        a setting at the server's default."""
        self.settings.update(changes)
        lines = [f"{name} = '{value}'" for name, value in self.settings.items()
                 if value is not None]
        lines.append(f"unix_socket_directories = '{self.socket}'")
        path = self.data / "postgresql.auto.conf"
        path.write_text("\n".join(lines) + "\n")
        process.own(path)

    def start(self, timeout=60):
        """Starts the postmaster and waits until it takes connections."""
        self.popen = process.spawn([server_program("postgres"), "-D", self.data], self.log,
                                   **self.environment)
        self.postmaster = process.look(self.popen.pid)

        def ready():
            if self.popen.poll() is not None:
                raise RuntimeError(f"the server exited with {self.popen.returncode}:\n"
                                   f"{process.tail(self.log)}")
            return self.value("SELECT 1")

        wait_until("server takes connections", ready, timeout)

    def adopt(self, postmaster):
        """Makes this object speak for a server that another program started."""
        self.postmaster = postmaster

    def running(self):
        return self.postmaster is not None and self.postmaster.alive()

    def stop(self, number=signal.SIGINT, timeout=60):
        """Fast shutdown (SIGINT), smart (SIGTERM) or immediate (SIGQUIT); waits for the end."""
        if not self.running():
            return
        self.postmaster.kill(number)
        wait_until("server stops", self.running, timeout, until=lambda there: not there)
        self._reap()

    def kill9(self, timeout=30):
        """SIGKILLs the postmaster alone and waits until its orphans noticed and left."""
        family = process.children(self.postmaster.pid)
        self.postmaster.kill()
        self._reap()
        wait_until("orphans of a killed postmaster end",
                   lambda: [one.pid for one in family if one.alive()], timeout,
                   until=lambda left: not left)

    def destroy(self):
        """Ends the server whatever its state, and removes its files."""
        if self.running():
            family = [self.postmaster, *process.children(self.postmaster.pid)]
            self.postmaster.kill(signal.SIGQUIT)
            try:
                wait_until("server ends", lambda: [one.pid for one in family if one.alive()],
                           timeout=10, until=lambda left: not left)
            except TimeoutError:
                process.end(family)
            self._reap()
        # It goes on when the server ends: that is what it is for.
        process.end(self.haproxies())
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.socket, ignore_errors=True)

    def haproxies(self):
        """The processes of this server's HAProxy: their command line names the directory."""
        return process.of_program("haproxy", str(self.data / "a67_ingress"))

    def _reap(self):
        if self.popen is not None:
            self.popen.wait(timeout=10)
            self.popen = None

    def _socket_directory(self):
        folder = self.folder / "s"
        if len(f"{folder}/.s.PGSQL.5432") > SOCKET_PATH_MAX:
            folder = Path(tempfile.mkdtemp(prefix="a67-s-", dir="/tmp"))
            process.own(folder)
        return process.make_directory(folder, mode=0o700)

    # -- SQL -----------------------------------------------------------------------------------

    def connect(self, user=SUPERUSER, autocommit=True):
        """A new connection; the caller closes it."""
        return psycopg.connect(host=str(self.socket), port=5432, user=user, dbname=DATABASE,
                               autocommit=autocommit, connect_timeout=5,
                               options="-c statement_timeout=30s")

    def rows(self, query, *parameters):
        """All rows of a query as dicts, on a connection of its own: a restart breaks nothing."""
        with self.connect() as connection:
            cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
            cursor.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def row(self, query, *parameters):
        """The only row."""
        found = self.rows(query, *parameters)
        if len(found) != 1:
            raise AssertionError(f"expected one row, got {found!r} from: {query}")
        return found[0]

    def value(self, query, *parameters):
        """The only column of the only row."""
        return next(iter(self.row(query, *parameters).values()))

    def execute(self, query, *parameters):
        self.rows(query, *parameters)

    # -- the extension -------------------------------------------------------------------------

    def listener_url(self):
        """Base URL of the listener; not there yet counts as "not yet" in wait_until."""
        found = self.rows("SELECT url FROM a67.listener WHERE port > 0 ORDER BY pid")
        if not found:
            raise ConnectionError("view a67.listener is empty")
        return found[0]["url"]

    def trust(self):
        """A TLS context that trusts the listener's certificate alone; None while it has none."""
        path = self.data / (self.settings.get("a67.tls_certificate_file") or "a67_tls.crt")
        return ssl.create_default_context(cafile=path) if path.exists() else None

    def wait_listening(self, timeout=30):
        """Waits until the listener answers readiness; returns its base URL."""

        def ready():
            url = self.listener_url()
            answer = Client(url, timeout=2, tls=self.trust()).get("/readyz")
            return url if answer.status == 200 else None

        return wait_until("listener answers /readyz with 200", ready, timeout)

    def client(self, token=None):
        return Client(self.listener_url(), token, tls=self.trust())

    def workers(self):
        """a67.worker_status by name."""
        return {row["name"]: row for row in self.rows("SELECT * FROM a67.worker_status")}

    def worker_pid(self, name):
        """Pid of a worker; None while it does not run (its row may be missing after a crash)."""
        return self.workers().get(name, {}).get("pid")

    def worker(self, name):
        """The living process of a worker; waits for it."""
        return wait_until(f"worker {name} runs", lambda: process.look(self.worker_pid(name) or 0))

    def wait_ticks(self, name, count=3, timeout=20):
        """Waits until one process of a worker has done count more ticks: what it wanted, it did."""
        seen = {}

        def done():
            row = self.workers().get(name, {})
            return row.get("ticks", 0) - seen.setdefault(row.get("pid"), row.get("ticks", 0))

        wait_until(f"{count} ticks of worker {name}", done, timeout,
                   until=lambda ticks: ticks >= count)

    def mark(self):
        """What the log says up to now does not belong in the next report."""
        self.noticed = process.size(self.log)

    def report(self):
        """What a failed test wants to see of the server."""
        parts = [f"--- {self.log}", process.tail(self.log, 80, since=self.noticed)]
        for view in ("node", "deployment", "replica", "endpoint", "alert", "worker_status"):
            try:
                rows = self.rows(f"SELECT * FROM a67.{view} LIMIT 50")
                parts += [f"--- a67.{view}", *(json.dumps(row, default=str) for row in rows)]
            except psycopg.Error as error:
                parts.append(f"--- a67.{view}: {str(error).strip()}")
        try:
            events = self.rows("SELECT * FROM a67.event ORDER BY event_id DESC LIMIT 60")
            parts += ["--- a67.event", *(json.dumps(row, default=str) for row in events[::-1])]
        except psycopg.Error as error:
            parts.append(f"--- a67.event: {str(error).strip()}")
        return "\n".join(parts)
