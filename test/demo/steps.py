"""The steps of the demo, in their order: each shows one thing that the cloud does, and checks it."""

import hashlib
import json
import secrets

from account import ask, refused
from cloud import manifest, package_of, process
from cloud.client import Client
from cloud.server import free_port
from cloud.traffic import Traffic

APP = "hello"
REPLICAS = 3
SECRET = "hello-key"
# What the join token binds, and what the node says of itself.
NODES = {
    "oak": ({"provider": "render", "region": "frankfurt"}, ("--label", "disk=ssd")),
    "elm": ({"provider": "render", "region": "oregon"}, ("--label", "disk=hdd")),
    "ash": ({"provider": "flyio", "region": "fra"}, ("--label", "disk=ssd", "--tier", "paid")),
    "fir": ({"provider": "flyio", "region": "sjc"}, ("--label", "disk=ssd", "--tier", "paid",
                                                     "--service", "compute", "--service", "cache")),
}
USABLE = ("ready", "busy")


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


def renew(show):
    """Stores a value of the secret that only this process knows; it is a parameter, not text."""
    show.secret = secrets.token_urlsafe(24)
    show.cluster.execute("SELECT a67.secret_set(%s, %s)", SECRET, show.secret)
    show.say("\\set value `openssl rand -base64 24`")
    show.say(f"SELECT a67.secret_set('{SECRET}', :'value')")


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


def deploy(show):
    show.step(f"Deploy the app {APP} with {REPLICAS} replicas, from SQL")
    cloud = show.cloud
    digest = cloud.put_package(package_of())
    show.say(f"SELECT a67.package_put(…) → {digest[:16]}…")
    cloud.create(manifest(APP, digest, replicas=REPLICAS, secrets={"API_KEY": SECRET},
                          on_secret_change="none"))
    show.say(f"SELECT a67.deployment_create('{{\"name\": \"{APP}\", …, "
             f"\"secrets\": {{\"API_KEY\": \"{SECRET}\"}}, …}}')")
    show.until("the app runs", lambda: len(cloud.endpoints(APP)), 30,
               until=lambda count: count == REPLICAS)
    show_answers(show)


def show_answers(show):
    answers = show.until(f"{REPLICAS} URLs answer", lambda: show.cloud.answers(APP), 30,
                         until=lambda found: sum(" from " in text for text in found.values())
                         == len(found) == REPLICAS)
    for url, text in answers.items():
        show.say(f"   GET {url}  →  {text}")


def prove_secret(show):
    show.step("The app has the secret, and its next value without a restart")
    prove(show)
    renew(show)
    prove(show)
    show.until("nothing is left to do", lambda: show.cloud.deployment(APP)["status"], 30,
               until=lambda status: status == "running")
    ask(show, "SELECT name, version, deployments FROM a67.secret")


def prove(show):
    """Every replica answers with the hash of the value that was stored."""
    held = hashlib.sha256(show.secret.encode()).hexdigest()[:16]
    url = show.cloud.endpoints(APP)[0]["url"]

    def answers():
        return [Client(one["url"]).get("/secret").text for one in show.cloud.endpoints(APP)]

    found = show.until("all replicas have the value", answers, 30,
                       until=lambda texts: all(held in text for text in texts))
    show.say(f"   here: SHA-256 of the value is {held}…")
    show.say(f"   GET {url}/secret  →  {found[0].strip()}  (so all {len(found)})")


def lose_a_node(show):
    cloud = show.cloud
    lost = cloud.endpoints(APP)[0]
    name = lost["node"]
    show.step(f"Node {name} dies: its agent and its app get SIGKILL")
    agent = cloud.agents[name]
    show.say("killed: " + ", ".join(f"pid {one.pid}" for one in agent.members()))
    agent.kill_node()
    try:
        Client(lost["url"], timeout=1).get()
        raise AssertionError(f"{lost['url']} still answers")
    except OSError as error:
        show.say(f"   GET {lost['url']}  →  {error.strerror or error}")
    show.until(f"node {name} is found dead", lambda: cloud.statuses()[name], 40,
               until=lambda status: status == "failed")
    show.lost = name


def move(show):
    show.step("The replica moves to the spare node")
    show.until("the spare node serves", lambda: [one["node"] for one in show.cloud.endpoints(APP)],
               40, until=lambda nodes: len(nodes) == REPLICAS and show.lost not in nodes)
    show.step("All URLs answer again")
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
    ask(show, "SELECT severity, message, resolved_at - raised_at AS lasted FROM a67.alert")


def drain(show):
    cloud = show.cloud
    name = cloud.endpoints(APP)[0]["node"]
    show.step(f"Node {name} is drained under load, for maintenance")
    with Traffic(cloud, APP, REPLICAS) as traffic:
        show.until("traffic flows", lambda: traffic.requests > 10, 20)
        show.say(f"SELECT a67.node_drain('{name}')")
        cloud.cluster.execute("SELECT a67.node_drain(%s)", name)
        show.until(f"node {name} is empty", lambda: cloud.cluster.rows(
            "SELECT at FROM a67.event WHERE type = 'node.drained' AND payload ->> 'node' = %s", name), 40)
        count = traffic.requests
        show.until("traffic flows on", lambda: traffic.requests > count + 10, 20)
    if traffic.troubles:
        raise AssertionError(f"requests were lost: {traffic.troubles[:5]}")
    again = f", {traffic.elsewhere} sent again to another URL" if traffic.elsewhere else ""
    show.say(f"   {traffic.requests} requests to the URLs in a67.endpoint meanwhile, none lost{again}")
    show.say(f"SELECT a67.node_activate('{name}')")
    cloud.cluster.execute("SELECT a67.node_activate(%s)", name)


def show_metrics(show):
    show.step("What the nodes report, and what the whole amounts to")
    name = next(iter(NODES))
    ask(show, """
SELECT name, status, cpu_percent, memory_percent, round(latency_ms::numeric, 1) AS latency_ms, active_requests
FROM a67.node_live ORDER BY name""")
    ask(show, f"""
SELECT bucket_at::time(0) AS minute, samples, round(cpu_percent) AS cpu, round(cpu_percent_max) AS cpu_max,
       round(memory_percent) AS memory
FROM a67.node_stats('{name}')""")
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
    look("the operator", stranger.as_user(token), 200, rows=1)


STEPS = (bring_up, join, set_channel, set_secret, select, deploy, prove_secret, lose_a_node, move,
         come_back, drain, show_metrics, meet_the_api)
