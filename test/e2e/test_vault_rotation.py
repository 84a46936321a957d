"""Rotation of the master key while people go on working, and the ceremonies of docs/security.md."""

import os
import threading

import psycopg
import pytest

from cloud import Client, process, wait_until
from cloud.api import PASSWORD
from cloud.server import server_program
from vault_tools import (KEY_FILE, STATUS, SECRETS, WRONG, UNDER, key_lines, log_count, put_file,
                         register, restart, seed_values, status, take_file, unseal, wait_rotated)

# -- rotation ------------------------------------------------------------------------------------


def test_rotation(make_cluster):
    cluster = make_cluster()
    person = register(cluster)
    seed_values(cluster, 5000)
    before = status(cluster)
    old_line = key_lines(cluster)
    answer = cluster.value("SELECT a67.vault_rotate()")
    assert answer["key_id"] != before["key_id"]
    after = wait_rotated(cluster)
    assert after["rotation"]["rewrapped"] >= 5000
    assert after["rotation"]["remaining"] == 0
    assert cluster.value(WRONG) == 0
    assert cluster.value(UNDER, before["key_id"]) == 0
    wait_until("the old key leaves the file", lambda: key_lines(cluster),
               until=lambda lines: len(lines) == 1 and lines != old_line)
    wait_until("and the memory", lambda: status(cluster)["keys"], until=lambda keys: len(keys) == 1)
    assert (cluster.data / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert not [name for name in os.listdir(cluster.data) if name.endswith(".new")]
    assert person.client.get("/api/v1/auth/me").status == 200
    types = [row["type"] for row in cluster.rows("SELECT type FROM a67_internal.event WHERE type LIKE 'vault%%' ORDER BY event_id")]
    assert types == ["vault.rotating", "vault.rotated"]
    actions = {row["action"] for row in cluster.rows("SELECT action FROM a67.audit")}
    assert {"vault.rotate", "vault.retire"} <= actions
    restart(cluster)
    wait_until("opens with the new file", lambda: status(cluster), until=lambda now: not now["sealed"])
    assert cluster.value(WRONG) == 0
    put_file(cluster, "\n".join(old_line) + "\n")
    restart(cluster)
    assert status(cluster)["sealed"] is True, "the old key opens nothing any more"


def test_rotation_under_load_with_kills(make_cluster):
    """People seal new values, the worker is killed again and again, then the whole server: nothing is lost."""
    cluster = make_cluster(fsync=True)
    seed_values(cluster, 20000)
    stop = threading.Event()
    faults = []

    def work(number):
        while not stop.is_set():
            try:
                cluster.execute(SECRETS, f"u{number}%")
            except psycopg.OperationalError:
                continue
            except psycopg.Error as error:
                # A server that has just started reads its key first.
                if error.sqlstate != "PT503":
                    faults.append(error)
                    return

    people = [threading.Thread(target=work, args=(number,)) for number in (11, 22)]
    for one in people:
        one.start()
    try:
        old_id = status(cluster)["key_id"]
        cluster.value("SELECT a67.vault_rotate()")
        seen = 0
        for _ in range(3):
            seen = wait_until("some more is done", lambda: status(cluster)["rotation"]["rewrapped"],
                              timeout=30, until=lambda now, last=seen: now > last)
            worker = process.look(cluster.worker_pid("vault") or 0)
            if worker is not None:
                worker.kill()
            wait_until("the server is back", lambda: status(cluster), timeout=30)
        cluster.kill9()
        cluster.start()
        assert wait_until("still known", lambda: status(cluster))["rotation"] is not None
        wait_rotated(cluster, timeout=120)
    finally:
        stop.set()
        for one in people:
            one.join()
    assert faults == []
    assert cluster.value(UNDER, old_id) == 0
    assert cluster.value(WRONG) == 0
    assert cluster.value("SELECT count(*) FROM a67_internal.credential WHERE totp_sealed IS NOT NULL") == 20000
    wait_until("one key is left in the file", lambda: len(key_lines(cluster)) == 1)


def test_a_transaction_holds_up_retirement(make_cluster):
    """A value that was sealed but not committed is not seen: its key must live until it is."""
    cluster = make_cluster()
    seed_values(cluster, 10)
    old_id = status(cluster)["key_id"]
    with cluster.connect(autocommit=False) as slow:
        slow.execute("UPDATE a67_internal.credential c SET totp_sealed = a67_internal._vault_seal("
                     "convert_to('seed of ' || c.user_id, 'UTF8'), 'credential.totp_sealed:' || c.user_id) "
                     "WHERE user_id = (SELECT min(user_id::text)::uuid FROM a67_internal.credential)")
        cluster.value("SELECT a67.vault_rotate()")
        wait_until("all others are wrapped anew", lambda: status(cluster)["rotation"]["rewrapped"] >= 9)
        cluster.wait_ticks("vault", 2, timeout=30)
        assert status(cluster)["rotation"]["running"] is True
        assert cluster.value(UNDER, old_id) == 1
        slow.commit()
    cluster.execute("SELECT a67_internal._wake('vault')")
    wait_rotated(cluster)
    assert cluster.value(WRONG) == 0


def test_second_rotation_waits_for_the_first(make_cluster):
    cluster = make_cluster()
    seed_values(cluster, 3)
    with cluster.connect(autocommit=False) as slow:
        slow.execute("SELECT FROM a67_internal.credential FOR UPDATE")
        cluster.value("SELECT a67.vault_rotate()")
        with pytest.raises(psycopg.Error) as error:
            cluster.value("SELECT a67.vault_rotate()")
        assert error.value.sqlstate == "PT409"
    cluster.execute("SELECT a67_internal._wake('vault')")
    wait_rotated(cluster)
    for _ in range(3):
        cluster.value("SELECT a67.vault_rotate()")
        wait_rotated(cluster)
        wait_until("one key is left in the file", lambda: len(key_lines(cluster)) == 1)
    assert cluster.value(WRONG) == 0


def test_rotation_that_was_rolled_back(make_cluster):
    """The file is written before the row: what is left of a rotation that never was is used by the next."""
    cluster = make_cluster()
    seed_values(cluster, 3)
    with cluster.connect(autocommit=False) as connection:
        connection.execute("SELECT a67.vault_rotate()")
        connection.rollback()
    assert len(key_lines(cluster)) == 2
    fresh = key_lines(cluster)[0]
    assert cluster.value(WRONG) == 0
    cluster.execute(SECRETS, "u%")
    restart(cluster)
    wait_until("open", lambda: status(cluster), until=lambda now: not now["sealed"])
    assert cluster.value(WRONG) == 0
    cluster.value("SELECT a67.vault_rotate()")
    wait_rotated(cluster)
    wait_until("that key is used", lambda: key_lines(cluster), until=lambda lines: lines == [fresh])
    assert cluster.value(WRONG) == 0


def test_lost_old_key_in_the_middle(make_cluster):
    """Without the old key what it wraps stays closed, and says so; with it everything goes on."""
    cluster = make_cluster()
    seed_values(cluster, 3)
    with cluster.connect(autocommit=False) as slow:
        slow.execute("SELECT FROM a67_internal.credential FOR UPDATE")
        cluster.value("SELECT a67.vault_rotate()")
        wait_until("the new key is in use", lambda: status(cluster)["keys"][0]["current"])
        new, old = key_lines(cluster)
        put_file(cluster, new + "\n")
    cluster.stop()
    # The worker may have been quicker than the stop: put one value back under the old key's name.
    cluster.start()
    wait_until("open", lambda: status(cluster), until=lambda now: not now["sealed"])
    if status(cluster)["rotation"]["running"]:
        assert status(cluster)["rotation"]["missing"] != []
        with pytest.raises(psycopg.Error, match="could not open sealed value"):
            cluster.value(WRONG)
        assert unseal(cluster, old)["rotation"]["missing"] == []
    wait_rotated(cluster)
    assert cluster.value(WRONG) == 0


# -- ceremonies of docs/security.md ---------------------------------------------------------------


def test_restore_on_another_machine(make_cluster):
    cluster = make_cluster()
    seed_values(cluster, 20)
    person = register(cluster)
    key = key_lines(cluster)[0]
    dump = cluster.folder / "dump"
    process.run([server_program("pg_dump"), "-Fc", "-f", dump, "-h", cluster.socket, "-U", "postgres", "postgres"])
    other = make_cluster(extension=False)
    other.execute("CREATE DATABASE restored")
    process.run([server_program("pg_restore"), "-d", "restored", "-h", other.socket, "-U", "postgres", dump])
    other.stop()
    other.configure(**{"a67.database": "restored"})
    other.start()
    with psycopg.connect(host=str(other.socket), user="postgres", dbname="restored", autocommit=True) as connection:
        def ask(query, *values):
            return connection.execute(query, values).fetchone()[0]
        wait_until("the launcher has looked", lambda: log_count(other, "vault is sealed"))
        assert ask(STATUS)["sealed"] is True
        assert not (other.data / KEY_FILE).exists()
        assert ask("SELECT a67.vault_unseal(%s)", key)["sealed"] is False
        assert ask(WRONG) == 0
        url = wait_until("listener", lambda: ask("SELECT url FROM a67.listener"))
        client = Client(url, person.client.token)
        wait_until("tokens of the old server count", lambda: client.get("/api/v1/auth/me").status == 200)


def test_key_is_lost(make_cluster):
    """What was sealed is gone; everything else goes on under a new key."""
    cluster = make_cluster()
    person = register(cluster)
    seed_values(cluster, 3)
    take_file(cluster)
    restart(cluster)
    assert status(cluster)["sealed"] is True
    for statement in ("DELETE FROM a67_internal.vault", "DELETE FROM a67_internal.signing_key",
                      "DELETE FROM a67_internal.oauth_credential", "DELETE FROM a67_internal.secret",
                      "DELETE FROM a67_internal.channel", "DELETE FROM a67_internal.outbox WHERE state = 'pending'",
                      "UPDATE a67_internal.provider SET restart_url = NULL, restart_secret_sealed = NULL",
                      "UPDATE a67_internal.credential SET totp_sealed = NULL, totp_confirmed_at = NULL"):
        cluster.execute(statement)
    restart(cluster)
    cluster.wait_listening()
    assert person.client.get("/api/v1/auth/me").status == 401
    answer = cluster.client().post("/api/v1/auth/login", {"email": person.email, "password": PASSWORD})
    assert answer.status == 200
    assert cluster.client(answer.json()["access_token"]).get("/api/v1/auth/me").status == 200
    assert len(key_lines(cluster)) == 1
