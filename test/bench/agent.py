"""The node agent: its size, what it takes when nothing happens, how fast output and chunks go through it.

One a67-agent with a controller played by Python. Chunks are read by wrk, once each token; nginx with one worker serves the
same files with a key of the same kind in the same run, and both by turns. RSS is what the kernel counts as resident,
shared libraries included.
"""

import datetime
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from agent_alone import AgentAlone  # noqa: E402  (the path comes first)
from chunk_client import Chunks, chunk, digest_path, plant  # noqa: E402
from cloud import deterministic_tar, process, wait_until  # noqa: E402
from cloud.agent import agent_program  # noqa: E402
from cloud.client import unverified_tls  # noqa: E402
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: E402
from load import report, say, wrk  # noqa: E402

APPS = 50
IDLE_S = 31  # a heartbeat and some
SIZE = 4 << 20
ROUNDS = 3
SECONDS = 3
LOG_BYTES = 1 << 29
RATES = (10000, 800, 600, 400, 300, 200, 150, 110)  # MB/s

# Writes at a rate once it is told to, and notes how long all of it and the longest write took.
WRITER = """
import json, os, sys, threading, time
pause = threading.Event().wait
piece, count, gap = (b"x" * 127 + b"\\n") * 512, int(sys.argv[1]) // 65536, 65536 / (int(sys.argv[2]) * 1e6)
home = os.environ["HOME"]
while not os.path.exists(home + "/go"):
    pause(0.01)
began, longest = time.monotonic(), 0.0
for number in range(count):
    before = time.monotonic()
    os.write(1, piece)
    longest = max(longest, time.monotonic() - before)
    if before < began + number * gap:
        pause(began + number * gap - before)
took = time.monotonic() - began
os.write(1, b"the end\\n")
with open(home + "/took.tmp", "w") as file:
    json.dump({"took": took, "longest": longest}, file)
os.rename(home + "/took.tmp", home + "/took.json")
pause(1000)
"""


def status_bytes(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name}")


def run_seconds(pid):
    """Processor time of a process with one thread, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def settled_rss(agent):
    """Resident memory once the start is over and what it took is given back."""
    seen = []

    def still():
        seen.append(status_bytes(agent.popen.pid, "VmRSS"))
        return len(seen) > 6 and max(seen[-6:]) - min(seen[-6:]) <= 65536

    wait_until("memory settles", still, timeout=30, interval=0.5)
    return seen[-1]


# -- nothing happens -----------------------------------------------------------------------------------


def joining():
    took = []
    for _ in range(5):
        agent = AgentAlone(interval=30)
        try:
            began = time.perf_counter()
            agent.start()
            took.append(time.perf_counter() - began)
        finally:
            agent.destroy()
    report("agent", "join_to_ready", statistics.median(took) * 1000, "ms")


def cpu_share(agent):
    before, began = run_seconds(agent.popen.pid), time.monotonic()
    wait_until("time passes", lambda: time.monotonic() - began >= IDLE_S, timeout=2 * IDLE_S, interval=1)
    return 100 * (run_seconds(agent.popen.pid) - before) / (time.monotonic() - began)


def idling():
    agent = AgentAlone(interval=30)
    try:
        agent.start()
        empty = settled_rss(agent)
        report("agent", "rss_idle", empty, "bytes")
        say(f"of these anonymous: {status_bytes(agent.popen.pid, 'RssAnon')}")
        report("agent", "cpu_idle", cpu_share(agent), "percent")
        for _ in range(APPS):
            agent.deploy(app_type="worker", entrypoint=["sleep", "100000"], health_check=None, env=None)
        report("agent", "rss_per_app", (settled_rss(agent) - empty) / APPS, "bytes")
        report("agent", "cpu_50_apps", cpu_share(agent), "percent")
    finally:
        agent.destroy()


# -- output --------------------------------------------------------------------------------------------


def follow(agent, replica, counts):
    """Reads the output as it comes until its last line; counts what came."""
    path = f"/v1/replicas/{replica}/logs?follow=true&since=0"
    chunks = Chunks(agent)
    connection = chunks.connect()
    connection.settimeout(120)
    connection.sendall(f"GET {path} HTTP/1.0\r\nHost: a\r\n"
                       f"Authorization: Bearer {chunks.token('GET', path)}\r\n\r\n".encode())
    tail = b""
    while b"the end\n" not in tail:
        piece = connection.recv(1 << 20)
        if not piece:
            raise RuntimeError("the log ended before its last line")
        counts.append(len(piece))
        tail = (tail + piece)[-100:]
    counts.append(time.monotonic())
    connection.close()


def output_at(agent, rate_mb):
    """Output at that rate with somebody who follows it: (bytes missed, MB/s that came, ms of the longest write)."""
    package = agent.controller.package(deterministic_tar({"app.py": WRITER}))
    replica = agent.deploy(package=package, app_type="worker", health_check=None, env=None,
                           entrypoint=["python3", "app.py", str(LOG_BYTES), str(rate_mb)])
    home, counts = agent.state / "apps" / replica / "home", []
    before = Chunks(agent).metric("a67_agent_log_missed_bytes_total")
    reader = threading.Thread(target=follow, args=(agent, replica, counts))
    reader.start()
    (home / "go").touch()
    began = time.monotonic()
    wait_until("all is written", (home / "took.json").exists, timeout=120)
    took = json.loads((home / "took.json").read_text())
    reader.join(120)
    missed = Chunks(agent).metric("a67_agent_log_missed_bytes_total") - before
    agent.commands.delete(replica, 1)
    came = sum(counts[:-1]) / (counts[-1] - began) / 1e6
    say(f"output at {rate_mb} MB/s: written at {LOG_BYTES / took['took'] / 1e6:.0f} MB/s, followed at {came:.0f} MB/s, "
        f"{missed:.0f} bytes missed, the longest write took {took['longest'] * 1000:.1f} ms")
    return missed, LOG_BYTES / took["took"] / 1e6, took["longest"] * 1000


def output():
    """The highest of these rates at which a follower misses nothing."""
    agent = AgentAlone(interval=30)
    try:
        agent.start()
        for rate_mb in RATES:
            missed, written, longest = output_at(agent, rate_mb)
            if rate_mb == RATES[0]:
                report("agent", "log_write", written, "MB/s")
            if missed == 0:
                break
        report("agent", "log_throughput", written if missed == 0 else 0, "MB/s")
        report("agent", "log_longest_write", longest, "ms")
    finally:
        agent.destroy()


# -- chunks --------------------------------------------------------------------------------------------

# Each request takes the next token of the file; a command is obeyed once.
SCRIPT = """
local path, tokens, at = "", {}, 0
function init(args)
  path = args[1]
  if args[2] then for line in io.lines(args[2]) do tokens[#tokens + 1] = line end end
end
function request()
  at = at + 1
  return wrk.format("GET", path, {["Authorization"] = tokens[at] and "Bearer " .. tokens[at] or nil})
end
"""

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    root {folder}/files;
  }}
}}
"""


def free_ports(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in probes]
    for one in probes:
        one.close()
    return ports


def write_certificate(folder):
    """A certificate over an Ed25519 key, signed by itself, as an agent's."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, None))
    (folder / "cert.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Nginx:
    """nginx with one worker, if it is here, over a folder of files."""

    def __init__(self, folder):
        self.folder = folder / "nginx"
        self.files = self.folder / "files"
        self.files.mkdir(parents=True)
        self.ports = dict(zip(("http", "https"), free_ports(2)))
        self.popen = None

    def start(self):
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            say("nginx is not here")
            return False
        write_certificate(self.folder)
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, plain=self.ports["http"], tls=self.ports["https"]))
        self.popen = subprocess.Popen([program, "-p", str(self.folder), "-c", str(config)],
                                      stdin=subprocess.DEVNULL)
        wait_until("nginx runs", lambda: process.children(self.popen.pid))
        return True

    def stop(self):
        if self.popen is not None:
            self.popen.terminate()
            self.popen.wait(10)

    def pid(self):
        return process.children(self.popen.pid)[0].pid


def rate(url, path, tokens, script, pid):
    """(bytes a second, processor seconds of the server per GB) of GETs over four connections."""
    before = run_seconds(pid)
    figures = wrk(url, script, 4, SECONDS, arguments=(path, *([tokens] if tokens else [])))
    used = run_seconds(pid) - before
    return figures["rps"] * SIZE, used / (figures["rps"] * SECONDS * SIZE / 1e9)


def getting(scheme):
    """Chunks out of one agent, and the same file out of nginx."""
    agent = AgentAlone(interval=30)
    nginx = Nginx(agent.folder)
    best = {"agent": (0.0, 0.0), "nginx": (0.0, 0.0)}
    try:
        agent.start(**({"A67_INSECURE_LOOPBACK": "1"} if scheme == "http" else {}))
        chunks = Chunks(agent)
        data, digest = chunk(SIZE, "get")
        assert chunks.put(data).status == 201
        (nginx.files / "chunk").write_bytes(data)
        there = nginx.start()
        script, tokens = agent.folder / "get.lua", agent.folder / "tokens"
        script.write_text(SCRIPT)
        path = digest_path(digest)
        for _ in range(ROUNDS):
            tokens.write_text("".join(chunks.token("GET", path) + "\n" for _ in range(SECONDS * 1200)))
            best["agent"] = max(best["agent"], rate(agent.commands.client.base, path, str(tokens), str(script),
                                                    agent.popen.pid))
            if there:
                best["nginx"] = max(best["nginx"], rate(f"{scheme}://127.0.0.1:{nginx.ports[scheme]}", "/chunk", None,
                                                        str(script), nginx.pid()))
        for name, (bytes_s, cost) in best.items():
            say(f"{scheme} {name}: {bytes_s / 1e6:.0f} MB/s, {cost:.2f} s of processor per GB")
        metric = "chunk_get" if scheme == "https" else "chunk_get_plain"
        peers = {"nginx": best["agent"][0] / best["nginx"][0]} if there else {}
        report("agent", metric, best["agent"][0] / 1e6, "MB/s", **peers)
        if there:
            report("agent", metric + "_cpu", best["agent"][1], "s/GB", nginx=best["agent"][1] / best["nginx"][1])
    finally:
        nginx.stop()
        agent.destroy()


def put_all(chunks, pieces, clients):
    """Puts every (bytes, digest) over so many kept connections; returns the seconds it took."""
    left, lock = list(pieces), threading.Lock()
    failed = []
    path_of = {digest: digest_path(digest) for _, digest in pieces}
    tokens = {digest: chunks.token("PUT", path, digest) for digest, path in path_of.items()}

    def work():
        url = urlsplit(chunks.alone.commands.client.base)
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=60, context=unverified_tls())
        while True:
            with lock:
                if not left:
                    break
                data, digest = left.pop()
            connection.request("PUT", path_of[digest], body=data,
                               headers={"Authorization": f"Bearer {tokens[digest]}"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 201:
                failed.append(answer.status)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(clients)]
    began = time.perf_counter()
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    if failed:
        raise RuntimeError(f"PUT was answered {failed[0]}")
    return time.perf_counter() - began


def write_all(folder, pieces):
    """The same by hand: each file written, synced and renamed, the directory synced once; seconds."""
    began = time.perf_counter()
    for data, digest in pieces:
        with open(folder / "temp", "wb") as file:
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())
        os.rename(folder / "temp", folder / digest)
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return time.perf_counter() - began


def putting():
    agent = AgentAlone(interval=30)
    try:
        agent.start()
        chunks = Chunks(agent)
        hand = agent.folder / "hand"
        hand.mkdir()
        for metric, size, count, clients, unit in (("chunk_put", SIZE, 64, 4, "MB/s"),
                                                   ("chunk_put_4k", 4096, 1500, 16, "1/s")):
            ours, by_hand = [], []
            for turn in range(ROUNDS):
                pieces = [chunk(size, f"{metric} {turn} {number}") for number in range(count)]
                ours.append(put_all(chunks, pieces, clients))
                by_hand.append(write_all(hand, pieces))
            amount = count * size / 1e6 if unit == "MB/s" else count
            report("agent", metric, amount / min(ours), unit, fsync=min(by_hand) / min(ours))
    finally:
        agent.destroy()


def listing():
    """One page of a thousand among a hundred thousand."""
    agent = AgentAlone(interval=30)
    try:
        chunks = Chunks(agent.start() and agent)
        agent.kill()
        names = plant(chunks, 100_000)
        began = time.perf_counter()
        agent.run_again()
        wait_until("chunks are counted", lambda: chunks.metric("a67_chunk_stored"), timeout=60, interval=0.02,
                   until=lambda count: count == len(names))
        say(f"started and counted in {time.perf_counter() - began:.2f} s")
        took = []
        for at in range(0, 90_000, 3000):
            path = f"/v1/chunks?limit=1000&after={names[at]}"
            token = chunks.token("GET", path)
            began = time.perf_counter()
            answer = chunks.send("GET", path, token=token)
            took.append(time.perf_counter() - began)
            assert len(answer.json()["chunks"]) == 1000
        report("agent", "inventory_page_100k", statistics.median(took) * 1000, "ms")
        report("agent", "rss_100k_chunks", settled_rss(agent), "bytes")
    finally:
        agent.destroy()


PARTS = {"join": joining, "idle": idling, "output": output, "get": lambda: (getting("https"), getting("http")),
         "put": putting, "list": listing}


def main():
    wanted = os.environ.get("A67_BENCH_PARTS", ",".join(PARTS)).split(",")
    report("agent", "binary_size", os.stat(agent_program()).st_size, "bytes")
    for name in wanted:
        PARTS[name]()


if __name__ == "__main__":
    main()
