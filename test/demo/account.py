"""What the demo prints: the live account, with events as they happen and SQL with its real output."""

import json
import time

import psycopg

from cloud import process, wait_until
from cloud.server import server_program


class Account:
    """What happens, when, and how long each step took."""

    def __init__(self):
        self.start = time.monotonic()
        self.steps = []

    def say(self, text=""):
        print(f"{time.monotonic() - self.start:6.1f} s  {text}", flush=True)

    def more(self, text):
        """Lines that belong to what was just said."""
        for line in text.splitlines():
            print(f"{'':10}{line}".rstrip(), flush=True)

    def step(self, title):
        now = time.monotonic()
        self.steps.append((title, now))
        print(flush=True)
        self.say(f"== {title}")

    def table(self):
        ends = [begin for _, begin in self.steps[1:]] + [time.monotonic()]
        print("\nHow long each step took")
        for (title, begin), finish in zip(self.steps, ends):
            print(f"  {title:<62} {finish - begin:6.1f} s")
        print(f"  {'all':<62} {ends[-1] - self.start:6.1f} s", flush=True)


class Watcher:
    """Prints events of the cloud as they happen, read from view a67.event, and what log is given."""

    def __init__(self, cloud, account):
        self.cloud = cloud
        self.account = account
        self.last = 0
        self.log = None
        self.seen = 0

    def news(self):
        for row in self.cloud.cluster.rows(
                "SELECT * FROM a67.event WHERE event_id > %s ORDER BY event_id", self.last):
            self.last = row["event_id"]
            if not unsaid(row):
                self.account.say(f"   {describe(row)}")
        for line in self.received()[self.seen:]:
            self.seen += 1
            self.account.say(f"   webhook, signature good: {line}")

    def skip(self):
        """What has happened by now was shown in another way."""
        self.last = self.cloud.cluster.value("SELECT coalesce(max(event_id), 0) FROM a67.event")

    def received(self):
        """What the webhook has printed: a line for each message."""
        return self.log.read_text().splitlines() if self.log is not None else []

    def until(self, description, probe, timeout, until=bool):
        """wait_until that prints the news while it waits, and what is left of them after it."""

        def look():
            self.news()
            return probe()

        found = wait_until(description, look, timeout, until, interval=0.1)
        self.news()
        return found


def ask(show, sql):
    """Says a statement as a user types it, and what psql answers."""
    first, *rest = sql.strip().splitlines()
    show.say(first)
    show.account.more("\n".join(rest))
    command = [server_program("psql"), "-X", "-P", "footer=off", "-h", show.cluster.socket,
               "-U", "postgres", "-c", sql, "postgres"]
    answer = process.run(command, PGOPTIONS="-c client_min_messages=warning")
    show.account.more(answer.rstrip())


def refused(show, sql):
    """Says a statement that fails, and the error with its detail and hint."""
    show.say(sql)
    try:
        show.cluster.execute(sql)
    except psycopg.Error as error:
        for label, text in (("ERROR", error.diag.message_primary), ("DETAIL", error.diag.message_detail),
                            ("HINT", error.diag.message_hint)):
            if text:
                show.account.more(f"{label}:  {text}")
        return
    raise AssertionError(f"not refused: {sql}")


SENTENCES = {
    "node.registered": "node {node} is registered",
    "node.status.changed": "node {node}: {from} → {to} ({sign})",
    "node.desired.changed": "node {node}: wanted {to}, was {from}",
    "node.drained": "node {node} is empty",
    "deployment.changed": "deployment {deployment}: {status} ({running} running)",
    "deployment.commanded": "deployment {deployment}: {command}{wanted}",
    "replica.changed": "replica {replica} of {deployment} on {node}: {state}{error}",
    "rollout.step": "rollout of {deployment} to release {to_release}: {state}, {phase}{share}{why}",
    "run.changed": "run of {deployment} on {node}: {state}",
    "alert.raised": "alert ({severity}): {message}",
    "alert.resolved": "alert is over: {message}",
}


def unsaid(event):
    """A replica on its way up or down says little, in all of its steps."""
    payload = event["payload"]
    return (event["type"] in ("replica.changed", "run.changed") and payload["state"] in ("pending", "fetching", "starting", "stopping")
            or event["type"] == "replica.changed" and payload["desired"] == "stopped" and payload["state"] != "stopped")


def describe(event):
    """One line for one event; an event of a kind not known here is shown as it is."""
    said = dict(event["payload"])
    kind = event["type"]
    if kind == "deployment.changed" and "command" in said:
        kind = "deployment.commanded"
    said["replica"] = str(event["subject_id"])[:4]
    said["wanted"] = f", {said['replicas']} replicas wanted" if "replicas" in said else ""
    said["share"] = f", {said['weight']} % of the requests" if said.get("weight") else ""
    said["why"] = f" ({said['reason']})" if said.get("reason") else ""
    said["error"] = f" ({said['error']})" if said.get("error") else ""
    try:
        return SENTENCES[kind].format_map(said)
    except KeyError:
        return f"{event['type']} {json.dumps(event['payload'])}"
