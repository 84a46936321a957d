"""What the benchmarks share: one JSON line per figure, wrk and pgbench as load, and their numbers."""

import json
import re
import subprocess
import sys

from cloud import process
from cloud.server import server_program

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def report(bench, metric, value, unit, **peers):
    """Prints one figure; peers are ratios of this figure to theirs."""
    row = {"bench": bench, "metric": metric, "value": round(value, 4), "unit": unit}
    if peers:
        row["vs"] = {name: round(ratio, 4) for name, ratio in peers.items()}
    print(json.dumps(row), flush=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def _output(argv):
    done = subprocess.run([str(one) for one in argv], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} exited with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def wrk(url, script, connections, seconds, threads=1, arguments=()):
    """Runs wrk and returns {rps, p50_ms, p99_ms}; an answer that is no 2xx is an error."""
    text = _output(["wrk", "--latency", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
                    "-s", script, url, "--", *arguments])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text) or re.search(r"Socket errors: (.*)", text)
    if bad:
        raise RuntimeError(f"wrk at {url}: {bad[0]}")
    figures = {"rps": float(re.search(r"Requests/sec:\s*([\d.]+)", text)[1])}
    for percentile in (50, 99):
        value, unit = re.search(rf"\b{percentile}%\s+([\d.]+)(us|ms|s|m)\b", text).groups()
        figures[f"p{percentile}_ms"] = float(value) * _UNITS[unit]
    return figures


def pgbench(cluster, script, clients, seconds, protocol="prepared", user="a67_authenticator"):
    """Runs pgbench with one script and returns {rps, mean_ms}."""
    path = cluster.folder / "pgbench.sql"
    path.write_text(script)
    process.own(path)
    text = _output([server_program("pgbench"), "-n", "-M", protocol, "-h", cluster.socket,
                    "-U", user, "-d", "postgres", "-c", clients, "-j", min(clients, 2), "-T", seconds,
                    "-f", path])
    return {"rps": float(re.search(r"tps = ([\d.]+)", text)[1]),
            "mean_ms": float(re.search(r"latency average = ([\d.]+) ms", text)[1])}


def rss_bytes(pid):
    """Resident memory of a process that is its own (anonymous), in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"RssAnon:\s+(\d+) kB", status.read())[1]) * 1024


def cpu_seconds(pid):
    """Processor time a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100
