"""Steps of the demo about the app: deployed behind a public URL, replaced under load, taken back, explained."""

import hashlib
import json
import re
import secrets
from contextlib import contextmanager

from account import ask
from cloud import manifest
from cloud.app import HELLO
from cloud.client import Client
from cloud.edge import Load

APP = "hello"
HOST = f"{APP}.localhost"
REPLICAS = 3
SECRET = "hello-key"
CLIENTS = 2
CANARY = {"type": "canary", "steps": [25, 100], "step_interval": "10s"}


def whole(digest, **changes):
    """The manifest of the app; changes replace fields."""
    return manifest(APP, digest, runtime="python", entrypoint=["hello.py"], replicas=REPLICAS,
                    routes=[{"host": HOST}], secrets={"API_KEY": SECRET}, on_secret_change="none", **changes)


def build(show, text):
    digest = show.cluster.value("SELECT a67.package_build(%s::jsonb)", json.dumps({"hello.py": text}))
    show.say(f"SELECT a67.package_build('{{\"hello.py\": \"…\"}}') → {digest[:16]}…")
    return digest


def update(show, digest, shown, **changes):
    """Orders a new release; returns the id of its rollout."""
    show.say(f"SELECT a67.deployment_update('{APP}', '{{…, {shown}}}')")
    return show.cluster.value("SELECT a67.deployment_update(%s, %s::jsonb) #>> '{rollout,id}'", APP,
                              json.dumps(whole(digest, **changes)))


def wait_rollout(show, rollout, state):
    def look():
        return show.cluster.row("SELECT state, reason FROM a67.rollout WHERE rollout_id = %s", rollout)

    found = show.until(f"the rollout is {state}", look, 60,
                       until=lambda row: row["state"] not in ("running", "rolling_back"))
    if found["state"] != state:
        raise AssertionError(f"the rollout is {found}")


def get(show, path="/"):
    return Client(f"http://127.0.0.1:{show.port}", timeout=10).request("GET", path, headers={"Host": HOST})


def show_answers(show):
    """The public URL, until each replica has answered."""
    seen = {}

    def look():
        answer = get(show)
        if answer.status == 200:
            seen.setdefault(re.search(r"replica (\S+)", answer.text)[1], answer.text.strip())
        return len(seen)

    show.until(f"{REPLICAS} replicas answer", look, 30, until=lambda count: count == REPLICAS)
    for text in seen.values():
        show.say(f"   curl http://{HOST}:{show.port}/  →  {text}")


@contextmanager
def load(show, allowed=0):
    """Requests to the public URL without an end; says how many there were, and fails when more than allowed were lost."""
    with Load(show, HOST, threads=CLIENTS, pause=0.002) as running:
        show.until("requests flow", running.total, 20, until=lambda total: total > 20)
        yield running
        running.wait_more(20)
    if len(running.lost) > allowed:
        raise AssertionError(f"{len(running.lost)} requests were lost: {running.lost[:5]}")
    releases = {}
    for body, count in running.answers.items():
        release = re.search(r"release (\d+)", body)[1]
        releases[release] = releases.get(release, 0) + count
    shares = ", ".join(f"{count} by release {release}" for release, count in sorted(releases.items()))
    show.say(f"   {running.total()} requests meanwhile ({shares}), {len(running.lost)} lost")


def deploy(show):
    show.step(f"Deploy the app {APP}, {REPLICAS} replicas, from files given in SQL")
    show.digest = build(show, HELLO.read_text())
    # Which is also how a rollback to this release goes about it: all replicas at once.
    show.cloud.create(whole(show.digest, strategy={"type": "rolling", "max_surge": "100%"}))
    show.say(f"SELECT a67.deployment_create('{{\"name\": \"{APP}\", \"package\": \"{show.digest[:8]}…\", \"runtime\": \"python\","
             f" \"entrypoint\": [\"hello.py\"],")
    show.account.more(f"          \"replicas\": {REPLICAS}, \"routes\": [{{\"host\": \"{HOST}\"}}], "
                      f"\"secrets\": {{\"API_KEY\": \"{SECRET}\"}}, "
                      "\"strategy\": {\"max_surge\": \"100%\"}, …}')")
    show.until("the app runs", lambda: len(show.cloud.endpoints(APP)), 30, until=lambda count: count == REPLICAS)
    show_answers(show)


def renew(show):
    """Stores a value of the secret that only this process knows; it is a parameter, not text."""
    show.secret = secrets.token_urlsafe(24)
    show.cluster.execute("SELECT a67.secret_set(%s, %s)", SECRET, show.secret)
    show.say("\\set value `openssl rand -base64 24`")
    show.say(f"SELECT a67.secret_set('{SECRET}', :'value')")


def prove_secret(show):
    show.step("The app has the secret, and its next value without a restart")
    prove(show)
    renew(show)
    prove(show)
    show.until("nothing is left to do", lambda: show.cloud.deployment(APP)["status"], 30,
               until=lambda status: status == "running")


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


def replace(show):
    show.step("A new release takes over under load, one replica at a time")
    with load(show):
        rollout = update(show, show.digest, '"env": {"GREETING": "good day"}', env={"GREETING": "good day"})
        ask(show, f"SELECT at::time(0), status, progress FROM a67.deployment_watch('{APP}')")
        show.watcher.skip()
        wait_rollout(show, rollout, "succeeded")
    show.say(f"   curl http://{HOST}:{show.port}/  →  {get(show).text.strip()}")


def fail(show):
    show.step("A bad release as a canary, under load: it goes back by itself")
    with load(show):
        digest = build(show, HELLO.read_text().replace("lambda: WHO,", "lambda: WHOM,"))
        rollout = update(show, digest, f'"strategy": {json.dumps(CANARY)}', strategy=CANARY)
        wait_rollout(show, rollout, "rolled_back")
    show.say("   (what the bad release left without an answer, HAProxy asked of the old one)")
    ask(show, f"SELECT from_release, to_release, strategy, state, reason FROM a67.rollout WHERE deployment = '{APP}' ORDER BY created_at")


def explain(show):
    show.step("Why? Its output, and what the controller says")
    query = f"SELECT node, line FROM a67.deployment_logs('{APP}', tail => 20000) WHERE line LIKE '%Error%' ORDER BY at LIMIT 1"
    show.until("the output is here", lambda: show.cluster.rows(query), 20)
    ask(show, query)
    ask(show, f"SELECT subject, finding, detail FROM a67.deployment_explain('{APP}')")


def go_back(show):
    show.step("Back to the first release, by command")
    show.say(f"SELECT a67.deployment_rollback('{APP}')")
    rollout = show.cluster.value("SELECT a67.deployment_rollback(%s) #>> '{rollout,id}'", APP)
    wait_rollout(show, rollout, "succeeded")
    show.say(f"   curl http://{HOST}:{show.port}/  →  {get(show).text.strip()}")


def run_once(show):
    show.step("A cron app, run by hand")
    digest = show.cluster.value("SELECT a67.package_build(%s::jsonb)", json.dumps(
        {"report.py": "import os\nprint('report written on', os.environ['A67_NODE'])\n"}))
    show.cloud.create({"name": "report", "package": digest, "app_type": "cron", "schedule": "30 3 * * *",
                       "runtime": "python", "entrypoint": ["report.py"]})
    show.say("SELECT a67.deployment_create('{\"name\": \"report\", \"app_type\": \"cron\", \"schedule\": \"30 3 * * *\", …}')")
    show.say("SELECT a67.deployment_run('report')")
    show.cluster.execute("SELECT a67.deployment_run('report')")
    found = show.until("it has run", lambda: show.cluster.rows(
        "SELECT state, error FROM a67.cron_run WHERE state NOT IN ('pending', 'running')"), 30)
    if found[0]["state"] != "succeeded":
        raise AssertionError(f"the run: {found}")
    ask(show, "SELECT deployment, state, node, exit_code, duration_ms, split_part(log_tail, E'\\n', 1) AS output FROM a67.cron_run")
