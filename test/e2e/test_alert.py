"""Alerts on their way to people: real receivers and a real mail server, up, down, slow and refusing.

The channels are made through the REST API by users of their own; conditions are raised as the
controller's own functions raise them, and once by a node that dies.
"""

import hashlib
import hmac
import json
import signal
import time
import uuid
from contextlib import contextmanager

import psycopg
import pytest

from cloud import Cluster, wait_until
from cloud.api import Api
from cloud.mailbox import PASSWORD, USERNAME, Mailbox, certificate
from cloud.receiver import Receiver
from cloud.server import free_port
from conftest import bring_up

SECRET = "T0pSecret 0123456789"
SETTINGS = {"a67.outbound_private": "on", "a67.outbound_timeout": "1s", "a67.outbound_ca_file": "mail.crt"}


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=SETTINGS) as cluster:
        certificate(cluster.data)
        yield cluster
        assert "T0pSecret" not in cluster.log.read_text()


@pytest.fixture
def ann(cluster):
    return Api("listener", cluster.listener_url(), None).person("ann")


def channel(person, kind, config, **more):
    """A new channel by REST; returns it."""
    body = {"name": f"{kind}-{uuid.uuid4().hex[:8]}", "kind": kind, "config": config, **more}
    answer = person.client.post("/api/v1/channels", body)
    assert answer.status == 201, answer.text
    assert "T0pSecret" not in answer.text
    return answer.json()


def trouble(cluster, person, message="the sky falls", severity="critical"):
    """Raises an alert of hers; returns its key."""
    key = f"test:{uuid.uuid4()}"
    cluster.execute("SELECT a67_internal._alert_raise(%s, %s, %s, %s, %s)", person.user_id, severity,
                    person.user_id, key, message)
    return key


def outbox(person, **filters):
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    answer = person.client.get(f"/api/v1/outbox?{query}")
    assert answer.status == 200, answer.text
    return answer.json()


def wait_outbox(person, state, count=1, timeout=20):
    return wait_until(f"{count} messages are {state}", lambda: outbox(person), timeout=timeout,
                      until=lambda rows: [row["state"] for row in rows].count(state) >= count)


def wait_received(receiver, count=1, timeout=20):
    return wait_until(f"{count} messages are received", lambda: receiver.received[:],
                      timeout=timeout, until=lambda found: len(found) >= count)


def verify(secret, headers, body, tolerance=300):
    """As docs/alerts.md tells receivers to."""
    sent = dict(part.split("=", 1) for part in headers["x-a67-signature"].split(","))
    expected = hmac.new(secret.encode(), f"{sent['t']}.".encode() + body, hashlib.sha256).hexdigest()
    return (hmac.compare_digest(expected, sent["v1"])
            and abs(time.time() - int(sent["t"])) < tolerance)


# -- webhooks --------------------------------------------------------------------------------------


def test_webhook_is_signed_and_told_of_the_end_too(cluster, ann):
    with Receiver() as receiver:
        channel(ann, "webhook", {"url": f"{receiver.url}/in?key=T0pSecret", "secret": SECRET})
        key = trouble(cluster, ann, 'node "x" failed: ä')
        ((path, headers, body),) = wait_received(receiver)
        assert path == "/in?key=T0pSecret"
        assert headers["content-type"] == "application/json"
        assert headers["x-a67-event"] == "alert.raised"
        assert verify(SECRET, headers, body)
        assert not verify(SECRET, headers, body + b" ")
        assert not verify(SECRET + "x", headers, body)
        told = json.loads(body)
        assert told["id"] == headers["x-a67-id"] == headers["idempotency-key"]
        assert told["type"] == "alert.raised"
        assert told["text"] == '[critical] node "x" failed: ä'
        assert told["alert"]["severity"] == "critical"
        cluster.execute("SELECT a67_internal._alert_resolve(%s)", key)
        ended = json.loads(wait_received(receiver, 2)[1][2])
        assert (ended["type"], ended["alert"]["id"]) == ("alert.resolved", told["alert"]["id"])
        rows = wait_outbox(ann, "sent", 2)
        assert {row["id"] for row in rows} == {told["id"], ended["id"]}
        assert [row["attempts"] for row in rows] == [1, 1]


def test_what_counts_again_is_not_sent_again(cluster, ann):
    with Receiver() as receiver:
        channel(ann, "webhook", {"url": receiver.url})
        key = trouble(cluster, ann, severity="warning")
        wait_received(receiver)
        for severity in ("warning", "info", "critical"):
            cluster.execute("SELECT a67_internal._alert_raise(%s, %s, %s, %s, 'again')",
                            ann.user_id, severity, ann.user_id, key)
        told = [json.loads(body) for _, _, body in wait_received(receiver, 2)]
        assert [one["alert"]["severity"] for one in told] == ["warning", "critical"]
        cluster.wait_ticks("notifier", 2)
        assert len(receiver.received) == 2
        assert "x-a67-signature" not in receiver.received[0][1]


def test_slack_message(cluster, ann):
    with Receiver(status=200) as receiver:
        channel(ann, "slack", {"url": f"{receiver.url}/services/T0pSecret"})
        trouble(cluster, ann, "<b> & co", severity="warning")
        ((path, headers, body),) = wait_received(receiver)
        message = json.loads(body)
        assert path == "/services/T0pSecret"
        assert message["text"] == "[warning] &lt;b&gt; &amp; co"
        (attachment,) = message["attachments"]
        assert attachment["color"] == "warning" and attachment["text"].startswith("raised 20")
        wait_outbox(ann, "sent")


def test_receiver_that_is_down_gets_it_later(cluster, ann):
    """Nothing is lost, not even over a crash of the controller; and once it is there it is there once."""
    port = free_port()
    channel(ann, "webhook", {"url": f"http://127.0.0.1:{port}/"})
    trouble(cluster, ann)
    wait_until("the first attempt failed", lambda: outbox(ann)[0],
               until=lambda row: row["last_error"] == "connection refused")
    (found,) = ann.client.get("/api/v1/channels").json()
    assert found["last_error"] == "connection refused" and found["failures"] >= 1
    cluster.kill9()
    cluster.start()
    ann.client.base = cluster.wait_listening()
    with Receiver(port=port) as receiver:
        ((_, headers, _),) = wait_received(receiver, timeout=40)
        (row,) = wait_outbox(ann, "sent")
        assert row["id"] == headers["x-a67-id"] and row["attempts"] >= 2
        cluster.wait_ticks("notifier", 3)
        assert len(receiver.received) == 1
    (found,) = ann.client.get("/api/v1/channels").json()
    assert found["last_error"] is None and found["failures"] == 0


@pytest.mark.parametrize("status", [500, 404, 302, 429])
def test_refused_messages_are_tried_again(cluster, ann, status):
    with Receiver(status=status) as receiver:
        channel(ann, "webhook", {"url": receiver.url})
        trouble(cluster, ann)
        wait_until("it failed", lambda: outbox(ann)[0],
                   until=lambda row: row["last_error"] == f"receiver answered {status}")
        receiver.status = 200
        (row,) = wait_outbox(ann, "sent")
        assert row["attempts"] >= 2
        assert len({headers["x-a67-id"] for _, headers, _ in receiver.received}) == 1


def test_slow_receiver_holds_up_nobody(cluster, ann):
    with Receiver() as slow, Receiver() as quick:
        slow.answering.clear()
        channel(ann, "webhook", {"url": slow.url})
        for _ in range(5):
            trouble(cluster, ann)
        wait_received(slow, 5)
        channel(ann, "webhook", {"url": quick.url})
        start = time.monotonic()
        trouble(cluster, ann)
        wait_received(quick)
        assert time.monotonic() - start < 5
        wait_until("the slow one timed out", lambda: outbox(ann, state="pending"),
                   until=lambda rows: any(row["last_error"] == "timeout" for row in rows))
        slow.answering.set()
        wait_outbox(ann, "sent", 7, timeout=30)


def test_notifier_killed_between_sending_and_recording(cluster, ann):
    """The answer never came to be known, so the message is sent again, under the same id."""
    with Receiver() as receiver:
        channel(ann, "webhook", {"url": receiver.url})
        receiver.answering.clear()
        worker = cluster.worker("notifier")
        trouble(cluster, ann)
        wait_received(receiver)
        worker.kill(signal.SIGKILL)
        wait_until("the notifier ends", worker.alive, until=lambda there: not there)
        receiver.answering.set()
        ann.client.base = cluster.wait_listening()
        first, second = wait_received(receiver, 2, timeout=40)[:2]
        assert first[1]["x-a67-id"] == second[1]["x-a67-id"]
        assert first[2] == second[2]
        (row,) = wait_outbox(ann, "sent")
        assert row["attempts"] == 2


def test_storm_is_summarised(cluster, ann):
    with Receiver() as receiver:
        channel(ann, "webhook", {"url": receiver.url}, rate_per_minute=5)
        cluster.execute("SELECT a67_internal._alert_raise(%s, 'critical', %s, 'storm:' || n, 'storm')"
                        " FROM generate_series(1, 100) n", ann.user_id, ann.user_id)
        wait_received(receiver, 5)
        cluster.wait_ticks("notifier", 2)
        assert len(receiver.received) <= 7
        (summary,) = [row for row in outbox(ann) if row["kind"] == "summary"]
        assert summary["payload"]["count"] == summary["payload"]["critical"] == 90


def test_sealed_vault_holds_messages_back(cluster, ann):
    """They wait, and no attempt is counted."""
    with Receiver() as receiver:
        channel(ann, "webhook", {"url": receiver.url, "secret": SECRET})
        cluster.value("SELECT a67.vault_seal()")
        try:
            trouble(cluster, ann)
            cluster.wait_ticks("notifier", 3)
            row = cluster.row("SELECT state, attempts FROM a67.outbox WHERE owner_id = %s", ann.user_id)
            assert row == {"state": "pending", "attempts": 0} and receiver.received == []
            with pytest.raises(psycopg.Error, match="vault is sealed"):
                cluster.execute("SELECT a67.channel_create('late', 'webhook', %s)", json.dumps({"url": receiver.url}))
        finally:
            cluster.value("SELECT a67.vault_unseal()")
        wait_received(receiver)
        (row,) = wait_outbox(ann, "sent")
        assert row["attempts"] == 1


# -- mail ------------------------------------------------------------------------------------------


def mail_config(mailbox, **more):
    return {"host": "127.0.0.1", "port": mailbox.port, "from": "a67@example.org",
            "to": ["ann@example.org", "ops+a67@example.org"], **more}


def test_mail_by_starttls_with_login(cluster, ann):
    pair = cluster.data / "mail.crt", cluster.data / "mail.key"
    with Mailbox("starttls", pair) as mailbox:
        channel(ann, "smtp", mail_config(mailbox, username=USERNAME, password=PASSWORD))
        trouble(cluster, ann, "Überlast: äöü €\r\nBcc: evil@example.org")
        ((envelope, mail),) = wait_until("a mail came", lambda: mailbox.mails[:])
        (row,) = wait_outbox(ann, "sent")
        assert mailbox.logins == [("PLAIN", True)]
        assert envelope.mail_from == "a67@example.org"
        assert envelope.rcpt_tos == ["ann@example.org", "ops+a67@example.org"]
        assert mail["Subject"] == "[a67] [critical] Überlast: äöü € Bcc: evil@example.org"
        assert mail["To"] == "ann@example.org, ops+a67@example.org"
        assert mail["Message-ID"] == f"<{row['id']}@example.org>"
        assert mail["Bcc"] is None and mail.defects == []
        text = mail.get_content().replace("\r\n", "\n")
        assert text.startswith("[critical] Überlast: äöü € Bcc: evil@example.org\n\nraised 20")
        assert abs(mail["Date"].datetime.timestamp() - time.time()) < 60
        assert all(len(line) <= 998 for line in envelope.content.split(b"\r\n"))


def test_mail_by_tls_and_in_the_clear(cluster, ann):
    pair = cluster.data / "mail.crt", cluster.data / "mail.key"
    with Mailbox("tls", pair) as encrypted, Mailbox() as plain:
        channel(ann, "smtp", mail_config(encrypted, tls="tls"))
        channel(ann, "smtp", mail_config(plain, tls="none"))
        key = trouble(cluster, ann, "plain words")
        cluster.execute("SELECT a67_internal._alert_resolve(%s)", key)
        for mailbox in (encrypted, plain):
            first, second = wait_until("two mails came", lambda: mailbox.mails[:],
                                       until=lambda found: len(found) == 2)
            assert first[1]["Subject"] == "[a67] [critical] plain words"
            assert second[1]["Subject"] == "[a67] [resolved] plain words"
            assert first[1]["References"] == second[1]["References"]


@pytest.mark.parametrize("tls, config, refuse, error", [
    ("starttls", {"username": USERNAME, "password": "T0pSecret but wrong"}, None, "mail server answered 535"),
    ("none", {"tls": "none"}, "550 no such user", "mail server answered 550"),
    ("none", {}, None, "server offers no tls"),
    ("none", {"tls": "tls"}, None, "tls failed"),
], ids=["login", "recipient", "no-starttls", "no-tls"])
def test_mail_that_is_refused(cluster, ann, tls, config, refuse, error):
    pair = (cluster.data / "mail.crt", cluster.data / "mail.key") if tls == "starttls" else None
    with Mailbox(tls, pair, refuse) as mailbox:
        channel(ann, "smtp", mail_config(mailbox, **config))
        trouble(cluster, ann)
        row = wait_until("it failed", lambda: outbox(ann)[0], until=lambda row: row["last_error"])
        assert row["last_error"] == error
        assert mailbox.mails == []


def test_mail_to_a_server_with_another_certificate(cluster, ann, tmp_path):
    with Mailbox("starttls", certificate(tmp_path)) as mailbox:
        channel(ann, "smtp", mail_config(mailbox, username=USERNAME, password=PASSWORD))
        trouble(cluster, ann)
        row = wait_until("it failed", lambda: outbox(ann)[0], until=lambda row: row["last_error"])
        assert row["last_error"] == "tls failed"
        assert mailbox.logins == []


# -- the API ---------------------------------------------------------------------------------------


def test_alerts_and_channels_by_rest(cluster, ann):
    bob = Api("listener", cluster.listener_url(), None).person("bob")
    with Receiver() as receiver:
        made = channel(ann, "webhook", {"url": f"{receiver.url}/T0pSecret", "secret": SECRET}, min_severity="info")
        path = f"/api/v1/channels/{made['id']}"
        taken = {"name": made["name"], "kind": "slack", "config": {"url": receiver.url}}
        assert ann.client.post("/api/v1/channels", taken).status == 409
        wrong = ann.client.post("/api/v1/channels", {**taken, "config": {"url": "gopher://x"}})
        assert (wrong.status, wrong.json()["details"]) == (400, "Field: config.url.")
        assert ann.client.post("/api/v1/channels", {**taken, "name": "all", "scope": "all"}).status == 403
        assert bob.client.get(path).status == 404
        assert bob.client.request("DELETE", path).status == 404
        assert ann.client.request("PATCH", path, {"min_severity": "critical"}).json()["min_severity"] == "critical"
        assert "T0pSecret" not in ann.client.get(path).text + ann.client.get("/api/v1/channels").text
        answer = ann.client.post(f"{path}/test")
        assert answer.status == 202
        assert json.loads(wait_received(receiver)[0][2])["type"] == "channel.test"
        message = f"/api/v1/outbox/{answer.json()['message_id']}"
        wait_until("the test is sent", lambda: ann.client.get(message).json()["state"],
                   until=lambda state: state == "sent")
        assert bob.client.get(message).status == 404
        assert ann.client.post(f"{message}/retry").status == 409
        trouble(cluster, ann)
        (alert,) = ann.client.get("/api/v1/alerts?severity=critical").json()
        path_of_alert = f"/api/v1/alerts/{alert['id']}"
        assert bob.client.post(f"{path_of_alert}/ack").status == 404
        assert ann.client.post(f"{path_of_alert}/ack").json()["state"] == "acked"
        assert ann.client.get("/api/v1/alerts?acked=false").json() == []
        assert ann.client.post(f"{path_of_alert}/resolve").json()["resolved_by"] == ann.user_id
        assert ann.client.post(f"{path_of_alert}/ack").status == 409
        assert ann.client.get("/api/v1/alerts").json() == []
        types = {row["type"] for row in ann.client.get("/api/v1/events").json()}
        assert {"alert.raised", "alert.acked", "alert.resolved"} <= types
        wait_received(receiver, 3)
        assert ann.client.request("DELETE", path).status == 204
        assert ann.client.get("/api/v1/channels").json() == []


@pytest.mark.parametrize("name, value", [
    ("outbound_timeout", "5ms"), ("outbound_timeout", "1h"), ("outbound_private", "perhaps"),
    ("outbound_ca_file", "x" * 1024)], ids=["short", "long", "boolean", "file"])
def test_settings_have_limits(cluster, name, value):
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        cluster.execute(f"ALTER SYSTEM SET a67.{name} = '{value}'")


# -- the guard, and the whole way ------------------------------------------------------------------


def test_private_addresses_are_not_reached():
    with Cluster(settings={"a67.outbound_timeout": "1s"}) as guarded, Receiver() as receiver:
        ann = Api("listener", guarded.listener_url(), None).person("ann")
        body = {"name": "near", "kind": "webhook", "config": {"url": receiver.url}}
        answer = ann.client.post("/api/v1/channels", body)
        assert (answer.status, answer.json()["details"]) == (400, "Field: config.url.")
        port = receiver.url.rsplit(":", 1)[1]
        connections = []
        with watched(receiver, connections):
            for host in ("127.0.0.1", "localhost", "[::1]", "2130706433"):
                channel(ann, "webhook", {"url": f"https://{host}:{port}/"})
            channel(ann, "smtp", {"host": "localhost", "port": int(port), "tls": "none",
                                  "from": "a@example.org", "to": ["b@example.org"]})
            trouble(guarded, ann)
            rows = wait_until("all attempts failed", lambda: outbox(ann),
                              until=lambda rows: len(rows) == 5 and all(row["last_error"] for row in rows))
            assert {row["last_error"] for row in rows} == {"address not allowed"}
            assert connections == []
            guarded.configure(**{"a67.outbound_private": "on"})
            guarded.execute("SELECT pg_reload_conf()")
            wait_until("the port is reached once it may be", lambda: connections)


@contextmanager
def watched(receiver, connections):
    """Notes every connection that the receiver accepts."""
    accept = receiver.server.get_request

    def noted():
        found = accept()
        connections.append(found[1])
        return found

    receiver.server.get_request = noted
    yield
    receiver.server.get_request = accept


def test_dead_node_is_told_and_its_return_too():
    for cloud in bring_up(("oak", "elm"), settings=SETTINGS):
        certificate(cloud.cluster.data)
        with Receiver() as receiver:
            cloud.cluster.execute(
                "SELECT a67.channel_create('ops', 'webhook', jsonb_build_object('url', %s::text, 'secret', %s::text))",
                receiver.url, SECRET)
            cloud.agents["oak"].kill()
            told = wait_until("the failure is told", lambda: texts(receiver), timeout=40,
                              until=lambda found: any("oak" in text for _, text in found))
            kind, text = next(one for one in told if "oak" in one[1])
            assert kind == "alert.raised" and text.startswith('[critical] node "oak" failed')
            cloud.agents["oak"].restart()
            wait_until("the return is told", lambda: texts(receiver), timeout=40,
                       until=lambda found: ("alert.resolved", text.replace("[critical]", "[resolved]")) in found)
            assert all(verify(SECRET, headers, body) for _, headers, body in receiver.received)


def texts(receiver):
    return [(told["type"], told["text"]) for told in
            (json.loads(body) for _, _, body in receiver.received[:])]
