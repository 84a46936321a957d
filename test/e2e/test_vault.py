"""The vault: where its key comes from, what works without it, who may open and seal it."""

import os

import psycopg
import pytest

from cloud import process, wait_until
from cloud.api import PASSWORD
from vault_tools import (KEY_FILE, key_lines, log_count, new_key, put_file, register, restart,
                         status, take_file, unseal, wait_rotated)

# -- a server that starts without its key --------------------------------------------------------


@pytest.fixture
def sealed(make_cluster):
    """A server with a user in it, started without its key."""
    cluster = make_cluster()
    person = register(cluster)
    text = take_file(cluster)
    restart(cluster)
    return cluster, person, text


def test_starts_sealed_and_the_rest_works(sealed):
    cluster, person, _ = sealed
    assert status(cluster)["sealed"] is True
    assert cluster.value("SELECT count(*) FROM a67.node") == 0
    assert cluster.client().get("/healthz").status == 200
    ready = wait_until("readiness knows", lambda: cluster.client().get("/readyz"),
                       until=lambda answer: "no api worker" not in answer.text)
    assert (ready.status, ready.json()["reasons"]) == (503, ["vault is sealed"])
    assert cluster.client().get("/openapi.json").status == 200
    wait_until("monitor runs", lambda: cluster.worker_pid("monitor"))
    for answer in (person.client.get("/api/v1/nodes"), person.client.get("/api/v1/auth/me"),
                   cluster.client().post("/api/v1/auth/login",
                                         {"email": person.email, "password": PASSWORD}),
                   cluster.client(person.refresh_token).post("/api/v1/auth/refresh", {}),
                   cluster.client().rpc("auth_register", email="bob@example.org", password=PASSWORD)):
        assert (answer.status, answer.json()["code"], answer.json()["message"]) == \
            (503, "PT503", "vault is sealed")
    assert cluster.value("SELECT count(*) FROM a67_internal.\"user\" WHERE email = 'bob@example.org'") == 0
    assert cluster.client("rubbish").get("/api/v1/nodes").status == 503
    assert cluster.client().get("/api/v1/nodes").status == 401


def test_sealed_server_makes_no_key_and_no_noise(sealed):
    cluster, _, _ = sealed
    for worker in ("monitor", "reconciler", "telemetry"):
        cluster.wait_ticks(worker, 5)
    assert not (cluster.data / KEY_FILE).exists()
    assert log_count(cluster, "vault is sealed") == 1
    assert {name: row["errors"] for name, row in cluster.workers().items() if row["errors"]} == {}


def test_unseal_by_the_file(sealed):
    cluster, person, text = sealed
    assert unseal(cluster)["message"] == "could not unseal the vault"
    put_file(cluster, text)
    assert unseal(cluster)["sealed"] is False
    assert person.client.get("/api/v1/auth/me").status == 200
    cluster.wait_listening()
    assert cluster.client(person.refresh_token).post("/api/v1/auth/refresh", {}).status == 200


def test_unseal_by_the_key(sealed):
    cluster, person, text = sealed
    answers = [unseal(cluster, key) for key in (new_key(), "no key at all")]
    assert answers[0] == answers[1], "one answer for all wrong keys"
    assert (answers[0]["code"], answers[0]["message"]) == ("PT403", "could not unseal the vault")
    assert text.strip() not in str(answers)
    assert unseal(cluster, text.strip())["keys"][0]["source"] == "given"
    assert person.client.get("/api/v1/auth/me").status == 200
    assert not (cluster.data / KEY_FILE).exists(), "what was given stays in memory"
    outcomes = cluster.rows("SELECT outcome FROM a67.audit WHERE action = 'vault.unseal' ORDER BY audit_id")
    assert [row["outcome"] for row in outcomes] == ["refused", "refused", "ok"]


def test_guessing_is_slowed_down(sealed):
    cluster, _, text = sealed
    for _ in range(3):
        unseal(cluster, new_key())
    blocked = status(cluster)
    assert blocked["failures"] == 3
    assert blocked["retry_at"] is not None
    assert unseal(cluster, text.strip())["code"] == "PT403", "even the right one, for a second"
    assert status(cluster)["failures"] == 3, "what is not looked at is not counted"
    wait_until("the delay ends", lambda: unseal(cluster, text.strip()).get("sealed"),
               until=lambda still: still is False)
    assert status(cluster)["failures"] == 0


@pytest.mark.parametrize("damage", ["open", "text", "short", "directory"])
def test_unusable_file_seals(make_cluster, damage):
    cluster = make_cluster()
    person = register(cluster)
    text = take_file(cluster)
    path = cluster.data / KEY_FILE
    if damage == "directory":
        path.mkdir()
        process.own(path)
    else:
        put_file(cluster, {"open": text, "text": "hello\n", "short": text[:60]}[damage])
    if damage == "open":
        path.chmod(0o640)
    restart(cluster)
    assert status(cluster)["sealed"] is True
    wait_until("the log says why", lambda: log_count(cluster, "DETAIL:  The master key file"))
    answer = unseal(cluster)
    assert answer["details"].startswith("The master key file")
    assert text.strip() not in cluster.log.read_text(errors="replace")
    path.rmdir() if damage == "directory" else path.unlink()
    put_file(cluster, text)
    assert unseal(cluster)["sealed"] is False
    assert person.client.get("/api/v1/auth/me").status == 200


def test_another_installations_key_does_not_open(make_cluster):
    cluster = make_cluster()
    register(cluster)
    text = take_file(cluster)
    put_file(cluster, new_key() + "\n")
    restart(cluster)
    assert status(cluster)["sealed"] is True
    put_file(cluster, f"{new_key()}\n{text}")
    assert unseal(cluster)["sealed"] is False, "the right key may be any of the file's"


# -- sealing by hand -----------------------------------------------------------------------------


def test_seal_is_at_once_and_lasts(make_cluster):
    cluster = make_cluster()
    person = register(cluster)
    assert person.client.get("/api/v1/auth/me").status == 200
    assert cluster.value("SELECT a67.vault_seal()")["held"] is True
    assert person.client.get("/api/v1/auth/me").json()["message"] == "vault is sealed"
    cluster.execute("SELECT a67_internal._wake('launcher')")
    cluster.wait_ticks("launcher", 3)
    assert status(cluster)["sealed"] is True, "the file is there, but it was sealed on purpose"
    with pytest.raises(psycopg.Error) as error:
        cluster.value("SELECT a67.signing_key_rotate()")
    assert error.value.sqlstate == "PT503"
    assert unseal(cluster)["sealed"] is False
    assert person.client.get("/api/v1/auth/me").status == 200
    cluster.value("SELECT a67.vault_seal()")
    restart(cluster)
    wait_until("a restart opens it", lambda: status(cluster), until=lambda now: not now["sealed"])


def test_keys_survive_a_crash_of_a_process(make_cluster):
    """The server makes its shared memory anew; the keys are in pages of their own."""
    cluster = make_cluster()
    person = register(cluster)
    take_file(cluster)
    cluster.worker("monitor").kill()
    wait_until("the server is back", lambda: cluster.value("SELECT 1"))
    cluster.wait_listening()
    assert status(cluster)["sealed"] is False
    assert person.client.get("/api/v1/auth/me").status == 200
    cluster.value("SELECT a67.vault_seal()")
    cluster.worker("monitor").kill()
    wait_until("the server is back", lambda: status(cluster)["held"])
    assert status(cluster)["sealed"] is True


# -- sources -------------------------------------------------------------------------------------


def test_environment(make_cluster):
    key = new_key()
    cluster = make_cluster(environment={"A67_MASTER_KEY": key})
    assert status(cluster)["keys"] == [{"key_id": status(cluster)["key_id"], "source": "environment",
                                        "current": True}]
    assert not (cluster.data / KEY_FILE).exists()
    register(cluster)
    for one in [cluster.postmaster, *process.children(cluster.postmaster.pid)]:
        assert key not in str(process.environment(one.pid))
    assert process.environment(cluster.postmaster.pid)["LC_ALL"] == "C.UTF-8", "its environment can be read"
    # What the server starts does not inherit it.
    cluster.execute("CREATE TEMP TABLE seen (line text)")
    with cluster.connect() as connection:
        connection.execute("CREATE TEMP TABLE seen (line text)")
        connection.execute("COPY seen FROM PROGRAM 'env'")
        lines = [row[0] for row in connection.execute("SELECT line FROM seen")]
    assert not [line for line in lines if line.startswith("A67_MASTER_KEY")]
    cluster.environment = {}
    restart(cluster)
    assert status(cluster)["sealed"] is True
    assert unseal(cluster, key)["sealed"] is False


def test_malformed_environment(make_cluster):
    cluster = make_cluster(environment={"A67_MASTER_KEY": "not-a-key-at-all"})
    assert log_count(cluster, "environment variable A67_MASTER_KEY does not hold master keys") == 1
    assert "not-a-key-at-all" not in cluster.log.read_text()
    assert status(cluster)["keys"][0]["source"] == "file"


def test_command(make_cluster, tmp_path):
    tmp_path.chmod(0o755)
    store = tmp_path / "store"
    first, second = new_key(), new_key()
    store.write_text(first)
    cluster = make_cluster({"a67.master_key_command": f"cat {store}"})
    person = register(cluster)
    assert status(cluster)["keys"][0]["source"] == "command"
    assert not (cluster.data / KEY_FILE).exists()
    with pytest.raises(psycopg.Error, match="there is no new master key"):
        cluster.value("SELECT a67.vault_rotate()")
    store.write_text(f"{second}\n{first}\n")
    cluster.value("SELECT a67.vault_rotate()")
    wait_rotated(cluster)
    store.write_text(second)
    restart(cluster)
    wait_until("open again", lambda: status(cluster), until=lambda now: not now["sealed"])
    cluster.wait_listening()
    assert person.client.get("/api/v1/auth/me").status == 200
    store.write_text(f"{second} {first}")
    restart(cluster)
    wait_until("open again", lambda: status(cluster), until=lambda now: not now["sealed"])
    assert len(status(cluster)["keys"]) == 1, "a retired key is not taken back"


@pytest.mark.parametrize("command, why", [
    ("exit 3", "The master key command failed: child process exited with exit code 3."),
    ("echo {key}; exit 1", "The master key command failed: child process exited with exit code 1."),
    ("kill -9 $$", "The master key command failed: child process was terminated by signal 9: Killed."),
    ("true", "The master key command must print one to four times 64 hexadecimal digits."),
    ("echo {key}x", "The master key command must print one to four times 64 hexadecimal digits."),
    ("yes {key} | head -c 1000000", "The master key command must print one to four times 64 hexadecimal digits."),
    ("/nowhere/at/all 2>/dev/null", "The master key command failed: command not found."),
])
def test_command_that_fails(make_cluster, command, why):
    key = new_key()
    cluster = make_cluster({"a67.master_key_command": command.format(key=key)}, extension=False)
    cluster.execute("CREATE EXTENSION a67")
    wait_until("the log says why", lambda: log_count(cluster, why))
    assert status(cluster)["sealed"] is True
    assert unseal(cluster)["details"] == why
    assert not (cluster.data / KEY_FILE).exists()
    assert key not in cluster.log.read_text().replace(command.format(key=key), "")


def test_passphrase(make_cluster):
    cluster = make_cluster()
    person = register(cluster)
    for wrong in ("short", "", "é" * 600, new_key()):
        with pytest.raises(psycopg.Error) as error:
            cluster.value("SELECT a67.vault_rotate(%s)", wrong)
        assert error.value.sqlstate == "22023"
    cluster.value("SELECT a67.vault_rotate('correct horse battery staple')")
    done = wait_rotated(cluster)
    assert done["passphrase"] is True
    wait_until("the file goes with the last key in it", lambda: not (cluster.data / KEY_FILE).exists())
    restart(cluster)
    assert status(cluster)["sealed"] is True
    assert unseal(cluster)["code"] == "PT403"
    assert not (cluster.data / KEY_FILE).exists()
    assert unseal(cluster, "correct horse battery")["code"] == "PT403"
    assert unseal(cluster, "correct horse battery staple")["keys"][0]["source"] == "passphrase"
    assert person.client.get("/api/v1/auth/me").status == 200
    cluster.value("SELECT a67.vault_rotate()")
    assert wait_rotated(cluster)["passphrase"] is False
    assert len(key_lines(cluster)) == 1, "back to a file"


# -- what is not for everybody -------------------------------------------------------------------


def test_only_administrators(make_cluster):
    cluster = make_cluster()
    person = register(cluster)
    admin = cluster.client(cluster.value("SELECT a67.token_create(a67_internal._operator_id())"))
    assert admin.get("/api/v1/system/vault").json()["sealed"] is False
    for client, wanted in ((person.client, 403), (cluster.client(), 401)):
        assert client.get("/api/v1/system/vault").status == wanted
        assert client.post("/api/v1/system/vault/rotate", {}).status == wanted
        assert client.post("/api/v1/system/vault/seal", {}).status == wanted
        assert client.rpc("vault_unseal", key=new_key()).status == wanted
    assert admin.post("/api/v1/system/vault/rotate", {}).status == 202
    wait_rotated(cluster)
    assert admin.rpc("vault_unseal", key=new_key()).status == 403
    assert admin.post("/api/v1/system/vault/seal", {}).json()["held"] is True
    answer = admin.get("/api/v1/system/vault")
    assert (answer.status, answer.json()["code"]) == (503, "PT503")


def test_no_core_files_of_processes_with_secrets(make_cluster):
    cluster = make_cluster()
    register(cluster)
    listener = cluster.row("SELECT pid FROM a67.listener")["pid"]
    for pid in (listener, cluster.worker_pid("launcher")):
        # A process that is not dumpable belongs to root there.
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0
