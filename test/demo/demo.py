"""The demo: a small cloud on this machine, seen at work.

`demo.py start` brings up a private PostgreSQL with the extension, four agents, and an app with
three replicas; kills one node and shows how its replica moves; then leaves everything running.
`demo.py stop` ends it. The files are in A67_DEMO_DIR (./.demo); what runs is written to state.json
there as (pid, start time), so that a later call ends those processes and no others.
"""

import json
import os
import secrets
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cloud import Cloud, manifest, package_of, wait_until  # noqa: E402  (the path comes first)
from cloud.client import Client  # noqa: E402
from cloud.process import Process, end, make_directory, session_members, tail  # noqa: E402
from cloud.server import free_port, server_program  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DEMO = Path(os.environ.get("A67_DEMO_DIR", REPOSITORY / ".demo"))
STATE = DEMO / "state.json"
FOLDER = DEMO / "cloud"
NODES = ("oak", "elm", "ash", "fir")
APP = "hello"
REPLICAS = 3
SETTINGS = {
    "a67.heartbeat_interval": "500ms",
    "a67.monitor_interval": "500ms",
    "a67.reconcile_interval": "500ms",
    "log_min_messages": "warning",
    "a67.rate_limits": None,  # the defaults, as an operator has them
}


class Account:
    """The live account: what happens, when, and how long each step took."""

    def __init__(self):
        self.start = time.monotonic()
        self.steps = []

    def say(self, text=""):
        print(f"{time.monotonic() - self.start:6.1f} s  {text}", flush=True)

    def step(self, title):
        now = time.monotonic()
        self.steps.append((title, now))
        print(flush=True)
        self.say(f"== {title}")

    def table(self):
        ends = [begin for _, begin in self.steps[1:]] + [time.monotonic()]
        print("\nHow long each step took")
        for (title, begin), finish in zip(self.steps, ends):
            print(f"  {title:<52} {finish - begin:6.1f} s")
        print(f"  {'all':<52} {ends[-1] - self.start:6.1f} s", flush=True)


class Watcher:
    """Prints events of the cloud as they happen, read from view a67.event."""

    def __init__(self, cloud, account):
        self.cloud = cloud
        self.account = account
        self.last = 0

    def news(self):
        for row in self.cloud.cluster.rows(
                "SELECT * FROM a67.event WHERE event_id > %s ORDER BY event_id", self.last):
            self.last = row["event_id"]
            self.account.say(f"   {describe(row)}")

    def until(self, description, probe, timeout, until=bool):
        """wait_until that prints the news while it waits, and what is left of them after it."""

        def look():
            self.news()
            return probe()

        found = wait_until(description, look, timeout, until, interval=0.1)
        self.news()
        return found


SENTENCES = {
    "node.registered": "node {node} is registered",
    "node.status.changed": "node {node}: {from} → {to} ({sign})",
    "deployment.changed": "deployment {deployment}: {status} ({running} running)",
    "deployment.commanded": "deployment {deployment}: {command}, {replicas} replicas wanted",
    "replica.changed": "replica {replica} of {deployment} on {node}: {state}{error}",
    "alert.raised": "alert ({severity}): {message}",
    "alert.resolved": "alert is over: {message}",
}


def describe(event):
    """One line for one event; an event of a kind not known here is shown as it is."""
    said = {key: value for key, value in event["payload"].items()}
    kind = event["type"]
    if kind == "deployment.changed" and "command" in said:
        kind = "deployment.commanded"
    said["replica"] = str(event["subject_id"])[:4]
    said["error"] = f" ({said['error']})" if said.get("error") else ""
    try:
        return SENTENCES[kind].format_map(said)
    except KeyError:
        return f"{event['type']} {json.dumps(event['payload'])}"


# -- what runs, on disk ------------------------------------------------------------------------


def remember(cloud):
    """Writes what runs to state.json: whole or not at all."""
    def identity(process):
        return {"pid": process.pid, "start": process.start, "uid": process.uid}

    postmaster = cloud.cluster.postmaster
    state = {
        "server": identity(postmaster) if postmaster else None,
        "socket": str(cloud.cluster.socket),
        "agents": {name: [identity(one) for one in agent.sessions]
                   for name, agent in cloud.agents.items()},
    }
    fresh = STATE.with_suffix(".new")
    fresh.write_text(json.dumps(state, indent=2) + "\n")
    fresh.replace(STATE)


def recorded():
    """(server or None, [agent leaders], socket directory) of the last demo, or None."""
    try:
        state = json.loads(STATE.read_text())
    except FileNotFoundError:
        return None

    def known(entry):
        return Process(entry["pid"], entry["start"], uid=entry["uid"])

    leaders = [known(one) for sessions in state["agents"].values() for one in sessions]
    server = known(state["server"]) if state["server"] else None
    return server, leaders, Path(state["socket"])


def end_recorded():
    """Ends what state.json names; says whether anything ran. The logs stay."""
    found = recorded()
    if found is None:
        return False
    server, leaders, socket = found
    members = [one for leader in leaders for one in session_members(leader)]
    end(members)
    if server is not None and server.kill(signal.SIGINT):
        wait_until("the demo's server stops", server.alive, 30, until=lambda there: not there)
        members.append(server)
    if socket != FOLDER / "s":
        shutil.rmtree(socket, ignore_errors=True)
    STATE.unlink()
    return bool(members)


# -- the steps ---------------------------------------------------------------------------------


def bring_up(cloud, account):
    account.step("A PostgreSQL with the extension a67")
    cluster = cloud.cluster
    cluster.create(extension=False)
    remember(cloud)
    account.say("a private server runs (fsync on)")
    cluster.execute("CREATE EXTENSION a67")
    account.say("CREATE EXTENSION a67")
    account.say(f"the listener answers at {cluster.wait_listening()}")
    account.say("workers: " + ", ".join(sorted(cluster.workers())))


def join(cloud, account, watcher):
    account.step(f"{len(NODES)} nodes join, each with its own single-use token")
    for name in NODES:
        agent = cloud.start_agent(name)
        remember(cloud)
        account.say(f"started: a67-agent join {cloud.cluster.listener_url()} a67j.… "
                    f"--name {name} (pid {agent.popen.pid})")

    def statuses():
        for agent in cloud.agents.values():
            agent.check()
        return cloud.statuses()

    watcher.until("all nodes are ready", statuses, 20, until=lambda now: len(now) == len(NODES)
                  and all(status in ("ready", "busy") for status in now.values()))


def show_nodes(cloud, account):
    """The node table, as an operator sees it."""
    rows = cloud.cluster.rows("SELECT name, status, replicas, endpoint FROM a67.node ORDER BY name")
    account.say("SELECT name, status, replicas, endpoint FROM a67.node")
    for row in rows:
        account.say("   {name:<5} {status:<12} {replicas} replicas  {endpoint}".format(**row))


def deploy(cloud, account, watcher):
    account.step(f"Deploy the app {APP} with {REPLICAS} replicas, from SQL")
    digest = cloud.put_package(package_of())
    account.say(f"SELECT a67.package_put(…) → {digest[:16]}…")
    cloud.create(manifest(APP, digest, replicas=REPLICAS))
    account.say(f"SELECT a67.deployment_create('{{\"name\": \"{APP}\", …}}')")
    watcher.until("the app runs", lambda: len(cloud.endpoints(APP)), 30,
                  until=lambda count: count == REPLICAS)
    show_answers(cloud, account, watcher)


def show_answers(cloud, account, watcher):
    answers = watcher.until(f"{REPLICAS} URLs answer", lambda: cloud.answers(APP), 30,
                            until=lambda found: sum(" from " in text for text in found.values())
                            == len(found) == REPLICAS)
    for url, text in answers.items():
        account.say(f"   GET {url}  →  {text}")
    return answers


def lose_a_node(cloud, account, watcher):
    lost = cloud.endpoints(APP)[0]
    account.step(f"Node {lost['node']} dies: its agent and its app get SIGKILL")
    agent = cloud.agents[lost["node"]]
    account.say("killed: " + ", ".join(f"pid {one.pid}" for one in agent.members()))
    agent.kill_node()
    try:
        Client(lost["url"], timeout=1).get()
        raise AssertionError(f"{lost['url']} still answers")
    except OSError as error:
        account.say(f"   GET {lost['url']}  →  {error.strerror or error}")
    watcher.until(f"node {lost['node']} is found dead", lambda: cloud.statuses()[lost["node"]], 40,
                  until=lambda status: status == "failed")
    return lost


def move(cloud, account, watcher, lost):
    account.step("The replica moves to the spare node")
    watcher.until("the spare node serves", lambda: [one["node"] for one in cloud.endpoints(APP)],
                  40, until=lambda nodes: len(nodes) == REPLICAS and lost["node"] not in nodes)
    account.step("All URLs answer again")
    show_answers(cloud, account, watcher)
    show_nodes(cloud, account)


def meet_the_api(cloud, account):
    """What a stranger, a new user and the operator get from the same address."""
    account.step("The HTTP API: a stranger, a new user, the operator")
    stranger = cloud.cluster.client()

    def show(who, client, status, rows=None):
        answer = client.get("/api/v1/deployments")
        found = len(answer.json()) if answer.status == 200 else None
        if (answer.status, found) != (status, rows):
            raise AssertionError(f"{who} got {answer.status}: {answer.text[:200]}")
        account.say(f"   {who}: GET /api/v1/deployments  →  {status}"
                    + ("" if rows is None else f", {rows} of them"))

    show("a stranger", stranger, 401)
    account.say("   POST /api/v1/auth/register {email, password}")
    answer = stranger.post("/api/v1/auth/register", {"email": "ann@example.com",
                                                     "password": secrets.token_urlsafe(12)})
    if answer.status != 201:
        raise AssertionError(f"registration got {answer.status}: {answer.text[:200]}")
    show("a new user", stranger.as_user(answer.json()["access_token"]), 200, rows=0)
    token = cloud.cluster.value("SELECT a67.token_create(user_id, '1 hour') "
                                "FROM a67_internal.\"user\" WHERE is_operator")
    show("the operator", stranger.as_user(token), 200, rows=1)


def farewell(cloud):
    cluster = cloud.cluster
    print(f"""
The cloud is left running. Look around:
  {server_program('psql')} -h {cluster.socket} -U postgres postgres
     TABLE a67.node;
     SELECT * FROM a67.endpoint WHERE deployment = '{APP}';
     SELECT a67.deployment_scale('{APP}', 1);
     SELECT at, type, payload FROM a67.event ORDER BY event_id DESC LIMIT 20;""")
    for endpoint in cloud.endpoints(APP):
        print(f"  curl {endpoint['url']}")
    print(f"""  curl {cluster.listener_url()}/openapi.json
Logs: {cluster.log} and {cluster.folder}/nodes/*/agent.log
End it with: make demo-stop""", flush=True)


def start():
    make_directory(DEMO, mode=0o755)
    if end_recorded():
        print("demo: the one that ran is stopped", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    account = Account()
    settings = {**SETTINGS, "a67.port": str(free_port(preferred=6767))}
    cloud = Cloud(folder=FOLDER, fsync=True, keep=True, settings=settings)
    watcher = Watcher(cloud, account)
    try:
        bring_up(cloud, account)
        join(cloud, account, watcher)
        deploy(cloud, account, watcher)
        move(cloud, account, watcher, lose_a_node(cloud, account, watcher))
        meet_the_api(cloud, account)
        account.table()
        farewell(cloud)
    except BaseException as error:
        give_up(cloud, account, error)
        raise
    finally:
        if not STATE.exists() and cloud.cluster.running():
            cloud.cluster.stop(signal.SIGQUIT)


def give_up(cloud, account, error):
    """Says which step failed, shows the ends of the logs, ends what runs. The logs stay."""
    title = account.steps[-1][0] if account.steps else "start"
    print(f'\ndemo: step "{title}" failed: {error or type(error).__name__}', file=sys.stderr)
    if not isinstance(error, KeyboardInterrupt):
        print(cloud.report(), file=sys.stderr)
        print(f"demo: the logs are in {FOLDER}", file=sys.stderr)
    end_recorded()


def stop():
    ran = end_recorded()
    shutil.rmtree(FOLDER, ignore_errors=True)
    print("demo: stopped" if ran else "demo: not running")


def main(arguments):
    verbs = {"start": start, "stop": stop}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print("usage: demo.py start|stop", file=sys.stderr)
        return 100
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        verbs[arguments[0]]()
    except (Exception, KeyboardInterrupt) as error:
        print(f"demo: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
