"""The demo: a small cloud on this machine, seen at work.

`demo.py start` brings up a private PostgreSQL with the extension and HAProxy, four agents, a receiver of
alerts, and an app with three replicas; takes the steps of steps.py and releases.py, of which one kills a
node; then leaves everything running. `demo.py stop` ends it. The files are in A67_DEMO_DIR (./.demo); what
runs is written to state.json there as (pid, start time), so that a later call ends those processes
and no others.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS.parent))

from cloud import Cloud, wait_until  # noqa: E402  (the path comes first)
from cloud.agent import remove_secrets  # noqa: E402
from cloud.process import Process, end, make_directory, of_program, session_members  # noqa: E402
from cloud.server import free_port, server_program  # noqa: E402
from account import Account, Watcher  # noqa: E402
from releases import APP, HOST  # noqa: E402
from steps import STEPS  # noqa: E402

DEMO = Path(os.environ.get("A67_DEMO_DIR", SCRIPTS.parent.parent / ".demo"))
STATE = DEMO / "state.json"
FOLDER = DEMO / "cloud"
SETTINGS = {
    "a67.heartbeat_interval": "500ms",
    "a67.monitor_interval": "500ms",
    "a67.reconcile_interval": "500ms",
    "a67.ingress": "on",
    "log_min_messages": "warning",
    "a67.rate_limits": None,  # the defaults, as an operator has them
    "a67.outbound_private": "on",  # the webhook is on this machine
}


class Show:
    """One run of the demo: what the steps act on, and what they leave for later ones."""

    folder_of_scripts = SCRIPTS

    def __init__(self):
        self.port = free_port(preferred=8080)  # of the public URLs
        settings = {**SETTINGS, "a67.port": str(free_port(preferred=6767)), "a67.ingress_port": str(self.port)}
        self.cloud = Cloud(folder=FOLDER, fsync=True, keep=True, settings=settings)
        self.cluster = self.cloud.cluster
        self.account = Account()
        self.watcher = Watcher(self.cloud, self.account)
        self.say, self.step = self.account.say, self.account.step
        self.until = self.watcher.until
        self.receiver = None  # the process that gets the alerts
        self.digest = None  # the package of the good releases
        self.secret = None  # the value that the app should have
        self.lost = None  # the node that was killed

    def remember(self):
        """Writes what runs to state.json: whole or not at all."""
        def identity(process):
            return {"pid": process.pid, "start": process.start, "uid": process.uid}

        agents = {name: [identity(one) for one in agent.sessions]
                  for name, agent in self.cloud.agents.items()}
        state = {
            "server": identity(self.cluster.postmaster) if self.cluster.postmaster else None,
            "socket": str(self.cluster.socket),
            "agents": agents,
            "receiver": identity(self.receiver) if self.receiver else None,
        }
        fresh = STATE.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=2) + "\n")
        fresh.replace(STATE)

    def farewell(self):
        cluster, agents = self.cluster, self.cloud.agents.values()
        print(f"""
The cloud is left running: the server is pid {cluster.postmaster.pid}, the agents {
    ', '.join(str(one.leader.pid) for one in agents)}, HAProxy {
    ', '.join(str(one.pid) for one in cluster.haproxies())}, the webhook {self.receiver.pid}. Open:
  http://{HOST}:{self.port}/     # or: curl -H 'Host: {HOST}' http://127.0.0.1:{self.port}/
Look around:
  {server_program('psql')} -h {cluster.socket} -U postgres postgres
     TABLE a67.node;
     SELECT kind, node, url FROM a67.endpoint WHERE deployment = '{APP}';
     SELECT a67.deployment_scale('{APP}', 1);
     SELECT device, max(celsius) FROM weather.reading GROUP BY device ORDER BY 2 DESC LIMIT 5;
     SELECT at, type, payload FROM a67.event ORDER BY event_id DESC LIMIT 20;
  curl {cluster.listener_url()}/openapi.json
  tail -f {self.watcher.log}     # and kill an agent in another terminal
Logs: {cluster.log} and {cluster.folder}/nodes/*/agent.log
End it with: make demo-stop""", flush=True)

    def give_up(self, error):
        """Says which step failed, shows the ends of the logs, ends what runs. The logs stay."""
        title = self.account.steps[-1][0] if self.account.steps else "start"
        print(f'\ndemo: step "{title}" failed: {error or type(error).__name__}', file=sys.stderr)
        if not isinstance(error, KeyboardInterrupt):
            print(self.cloud.report(), file=sys.stderr)
            print(f"demo: the logs are in {FOLDER}", file=sys.stderr)
        end_recorded()


def recorded():
    """(server or None, [session leaders], socket directory) of the last demo, or None."""
    try:
        state = json.loads(STATE.read_text())
    except FileNotFoundError:
        return None

    def known(entry):
        return Process(entry["pid"], entry["start"], uid=entry["uid"])

    leaders = [known(one) for sessions in state["agents"].values() for one in sessions]
    if state.get("receiver"):
        leaders.append(known(state["receiver"]))
    server = known(state["server"]) if state["server"] else None
    return server, leaders, Path(state["socket"])


def end_recorded():
    """Ends what state.json names, and the HAProxy of its server; says whether anything ran. The logs stay."""
    members = []
    found = recorded()
    if found is not None:
        server, leaders, socket = found
        members = [one for leader in leaders for one in session_members(leader)]
        end(members)
        if server is not None and server.kill(signal.SIGINT):
            wait_until("the demo's server stops", server.alive, 30, until=lambda there: not there)
            members.append(server)
        for state in FOLDER.glob("nodes/*/state"):
            remove_secrets(state)
        if socket != FOLDER / "s":
            shutil.rmtree(socket, ignore_errors=True)
    # It goes on without its server, and only then does nobody start it again.
    proxies = of_program("haproxy", str(FOLDER / "data" / "a67_ingress"))
    end(proxies)
    STATE.unlink(missing_ok=True)
    return bool(members or proxies)


def start():
    make_directory(DEMO, mode=0o755)
    if end_recorded():
        print("demo: the one that ran is stopped", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    show = Show()
    try:
        for step in STEPS:
            step(show)
        show.account.table()
        show.farewell()
    except BaseException as error:
        show.give_up(error)
        raise
    finally:
        if not STATE.exists() and show.cluster.running():
            show.cluster.stop(signal.SIGQUIT)


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
