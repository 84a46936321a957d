"""The steps of the demo, in their order: each shows one thing that the cloud does, and checks it."""

import json
import secrets

from account import ask, refused
from cloud import process
from cloud.client import Client
from cloud.server import free_port
from releases import (APP, CLIENTS, REPLICAS, deploy, explain, fail, go_back, load, prove_secret, renew, replace,
                      run_once, show_answers)
from shards import make_database

# What the join token binds, and what the node says of itself.
NODES = {
    "oak": ({"provider": "render", "region": "frankfurt"}, ("--label", "disk=ssd")),
    "elm": ({"provider": "render", "region": "oregon"}, ("--label", "disk=hdd")),
    "ash": ({"provider": "flyio", "region": "fra"}, ("--label", "disk=ssd", "--tier", "paid")),
    "fir": ({"provider": "flyio", "region": "sjc"}, ("--label", "disk=ssd", "--tier", "paid",
                                                     "--service", "compute", "--service", "cache")),
}
# A node is degraded for a while after the bad release has run there.
USABLE = ("ready", "busy", "degraded")


def bring_up(show):
    show.step("A PostgreSQL with the extension a67")
    cluster = show.cluster
    cluster.create(extension=False)
    show.remember()
    show.say("a private server runs (fsync on)")
    cluster.execute("CREATE EXTENSION a67")
    show.say("CREATE EXTENSION a67")
    show.say(f"the listener answers at {cluster.wait_listening()}")
    show.say("workers: " + ", ".join(sorted(cluster.workers())))


def join(show):
    show.step(f"{len(NODES)} nodes join, each with its own single-use token")
    cloud = show.cloud
    for name, (bound, options) in NODES.items():
        agent = cloud.start_agent(name, cloud.join_token(**bound), *options)
        show.remember()
        show.say(f"started: a67-agent join --name {name} {' '.join(options)} "
                 f"{show.cluster.listener_url()} a67j.… (pid {agent.popen.pid})")

    def statuses():
        for agent in cloud.agents.values():
            agent.check()
        return cloud.statuses()

    show.until("all nodes are ready", statuses, 20, until=lambda now: len(now) == len(NODES)
               and all(status in USABLE for status in now.values()))
    ask(show, "SELECT name, status, provider, region, tier, services, labels FROM a67.node ORDER BY name")
    ask(show, """
SELECT name, monthly_hours, pg_size_pretty(bandwidth_bytes) AS bandwidth, idle_pause      -- what a free tier gives
FROM a67.provider WHERE name IN (SELECT provider FROM a67.node) ORDER BY name""")


def set_channel(show):
    """A receiver of alerts, a process of its own that outlives this one, and the channel to it."""
    show.step("A channel that carries alerts to a webhook, signed")
    port, secret = free_port(), secrets.token_hex(16)
    show.watcher.log = show.cluster.folder / "webhook.log"
    show.receiver = process.look(process.spawn(
        ["/usr/bin/python3", show.folder_of_scripts / "webhook.py", port],
        show.watcher.log, WEBHOOK_SECRET=secret).pid)
    show.remember()
    show.say(f"a receiver listens on port {port} (pid {show.receiver.pid})")
    show.say("SELECT a67.channel_create('pager', 'webhook', "
             f"'{{\"url\": \"http://127.0.0.1:{port}/\", \"secret\": \"…\"}}')")
    show.cluster.execute("SELECT a67.channel_create('pager', 'webhook', %s::jsonb)",
                         json.dumps({"url": f"http://127.0.0.1:{port}/", "secret": secret}))
    show.say("SELECT a67.channel_test('pager')")

    def heard():
        return any(line.startswith("channel.test") for line in show.watcher.received())

    show.until("the receiver listens", lambda: Client(f"http://127.0.0.1:{port}").post("/").status, 10)
    show.cluster.execute("SELECT a67.channel_test('pager')")
    show.until("the webhook has the test message", heard, 20)


def set_secret(show):
    show.step("A secret for the app: stored sealed, given back to nobody")
    renew(show)
    ask(show, "SELECT name, version, size_bytes FROM a67.secret")
    ask(show, """
SELECT v['sealed'] AS sealed, v['key_id'] AS master_key, v['keys'][0]['source'] AS source, v['rotation'] AS rotation
FROM a67.vault_status() v""")


def select(show):
    show.step("Where would three replicas go? Selection, explained")
    ask(show, """
SELECT name, region, round(score::numeric, 2) AS score, parts['cpu'] AS cpu, parts['memory'] AS memory,
       parts['latency'] AS latency, parts['connections'] AS connections, parts['reliability'] AS reliability
FROM a67.node_select(3, memory_bytes => 64 << 20, labels => '{"disk": "ssd"}')""")
    ask(show, """
SELECT name, provider, region, parts['distance_km'] AS km_from_berlin
FROM a67.node_select(2, strategy => 'geographic', client_latitude => 52.5, client_longitude => 13.4)""")
    refused(show, "SELECT * FROM a67.node_select(2, memory_bytes => 1::bigint << 50)")


def lose_a_node(show):
    """Whatever was under way on the node may be lost with it: one request of each client, at most."""
    cloud = show.cloud
    lost = cloud.endpoints(APP)[0]
    show.lost = name = lost["node"]
    show.step(f"Node {name} dies under load: agent and app get SIGKILL")
    agent = cloud.agents[name]
    with load(show, allowed=CLIENTS):
        show.say("killed: " + ", ".join(f"pid {one.pid}" for one in agent.members()))
        agent.kill_node()
        try:
            Client(lost["url"], timeout=1).get()
            raise AssertionError(f"{lost['url']} still answers")
        except OSError as error:
            show.say(f"   GET {lost['url']}  →  {error.strerror or error}")
        show.until(f"node {name} is found dead", lambda: cloud.statuses()[name], 40,
                   until=lambda status: status == "failed")
        show.until("another node serves in its place", lambda: [one["node"] for one in cloud.endpoints(APP)],
                   40, until=lambda nodes: len(nodes) == REPLICAS and name not in nodes)
    show_answers(show)
    told(show, "alert.raised")
    ask(show, "SELECT name, status, replicas, endpoint FROM a67.node ORDER BY name")


def told(show, kind):
    """Waits until the webhook has heard so of the lost node."""
    show.until(f"the webhook has {kind}", lambda: any(
        line.startswith(kind) and show.lost in line for line in show.watcher.received()), 30)


def come_back(show):
    show.step(f"Node {show.lost} comes back, and its alert is over")
    agent = show.cloud.agents[show.lost].restart()
    show.remember()
    show.say(f"started: a67-agent run (pid {agent.popen.pid})")
    show.until(f"node {show.lost} is back", lambda: show.cloud.statuses()[show.lost], 40,
               until=lambda status: status in USABLE)
    told(show, "alert.resolved")
    show.until("it has stopped what runs elsewhere now", agent.apps, 30, until=lambda apps: not apps)
    ask(show, "SELECT severity, left(message, 70) AS message, date_trunc('ms', resolved_at - raised_at) AS lasted FROM a67.alert")


def drain(show):
    cloud = show.cloud
    name = cloud.endpoints(APP)[0]["node"]
    show.step(f"Node {name} is drained under load, for maintenance")
    with load(show):
        show.say(f"SELECT a67.node_drain('{name}')")
        cloud.cluster.execute("SELECT a67.node_drain(%s)", name)
        show.until(f"node {name} is empty", lambda: cloud.cluster.rows(
            "SELECT at FROM a67.event WHERE type = 'node.drained' AND payload ->> 'node' = %s", name), 40)
    show.say(f"SELECT a67.node_activate('{name}')")
    cloud.cluster.execute("SELECT a67.node_activate(%s)", name)


def show_metrics(show):
    show.step("What the nodes report, and what the whole amounts to")
    ask(show, """
SELECT name, status, cpu_percent, memory_percent, round(requests) AS requests, round(failures) AS failures,
       round(latency_ms::numeric, 1) AS latency_ms
FROM a67.node_live ORDER BY name""")
    ask(show, "SELECT deployment, release, replicas, routed, requests, failures FROM a67.traffic")
    ask(show, """
SELECT m['nodes_by_status'] AS nodes, m['replicas_running'] AS replicas, m['cpu_cores'] AS cores,
       pg_size_pretty(m['memory_bytes_used']::bigint) AS memory_used
FROM a67.system_metrics() m""")


def meet_the_api(show):
    """What a stranger, a new user and the operator get from the same address."""
    show.step("The HTTP API: a stranger, a new user, the operator")
    stranger = show.cluster.client()

    def look(who, client, status, rows=None):
        answer = client.get("/api/v1/deployments")
        found = len(answer.json()) if answer.status == 200 else None
        if (answer.status, found) != (status, rows):
            raise AssertionError(f"{who} got {answer.status}: {answer.text[:200]}")
        show.say(f"   {who}: GET /api/v1/deployments  →  {status}"
                 + ("" if rows is None else f", {rows} of them"))

    look("a stranger", stranger, 401)
    show.say("   POST /api/v1/auth/register {email, password}")
    answer = stranger.post("/api/v1/auth/register", {"email": "ann@example.com",
                                                     "password": secrets.token_urlsafe(12)})
    if answer.status != 201:
        raise AssertionError(f"registration got {answer.status}: {answer.text[:200]}")
    look("a new user", stranger.as_user(answer.json()["access_token"]), 200, rows=0)
    token = show.cluster.value("SELECT a67.token_create(user_id, '1 hour') "
                               "FROM a67_internal.\"user\" WHERE is_operator")
    look("the operator", stranger.as_user(token), 200, rows=2)


STEPS = (bring_up, join, set_channel, set_secret, select, deploy, prove_secret, replace, fail, explain, go_back,
         lose_a_node, come_back, drain, run_once, make_database, show_metrics, meet_the_api)
