"""What the tests of the vault share: servers whose keys come and go, and questions about them."""

import secrets

from cloud import Client, process, wait_until
from cloud.api import PASSWORD, Person

KEY_FILE = "a67_master.key"
STATUS = "SELECT a67.vault_status()"


def new_key():
    return secrets.token_hex(32)


def register(cluster, name="ann"):
    client = cluster.client()
    answer = client.post("/api/v1/auth/register", {"email": f"{name}@example.org", "password": PASSWORD})
    assert answer.status == 201, answer.text
    body = answer.json()
    return Person(f"{name}@example.org", body["user_id"], client.as_user(body["access_token"]),
                  body["refresh_token"])


def status(cluster):
    return cluster.value(STATUS)


def unseal(cluster, key=None):
    return cluster.value("SELECT a67.vault_unseal(%s)", key)


def wait_live(cluster):
    """The listener process answers, ready or not."""
    def probe():
        return Client(cluster.listener_url(), timeout=2).get("/healthz").status == 200
    wait_until("listener answers /healthz", probe)


def restart(cluster):
    cluster.stop()
    cluster.start()
    wait_live(cluster)


def key_lines(cluster):
    path = cluster.data / KEY_FILE
    return path.read_text().split() if path.exists() else []


def take_file(cluster):
    """Takes the file of keys away; returns what was in it."""
    path = cluster.data / KEY_FILE
    text = path.read_text()
    path.unlink()
    return text


def put_file(cluster, text):
    path = cluster.data / KEY_FILE
    path.write_text(text)
    path.chmod(0o600)
    process.own(path)


def log_count(cluster, text):
    return cluster.log.read_text(errors="replace").count(text)


def wait_rotated(cluster, timeout=60):
    return wait_until("rotation ends", lambda: status(cluster),
                      timeout=timeout, until=lambda now: not now["rotation"]["running"])


# -- values to rotate ------------------------------------------------------------------------------

SECRETS = """
    INSERT INTO a67_internal.credential (user_id, password_hash, totp_sealed)
    SELECT user_id, 'x', a67_internal._vault_seal(convert_to('seed of ' || user_id, 'UTF8'),
                                                  'credential.totp_sealed:' || user_id)
    FROM a67_internal."user" WHERE NOT is_operator AND email LIKE %s
    ON CONFLICT (user_id) DO UPDATE SET totp_sealed = excluded.totp_sealed
"""
WRONG = """
    SELECT count(*) FROM a67_internal.credential
    WHERE totp_sealed IS NOT NULL AND a67_internal._vault_open(totp_sealed, 'credential.totp_sealed:' || user_id)
        IS DISTINCT FROM convert_to('seed of ' || user_id, 'UTF8')
"""
UNDER = """
    SELECT count(*) FROM a67_internal.credential WHERE substring(totp_sealed FROM 2 FOR 8) = decode(%s, 'hex')
"""


def seed_values(cluster, count):
    cluster.execute("INSERT INTO a67_internal.\"user\" (email) SELECT 'u' || i || '@example.org' "
                    "FROM generate_series(1, %s) i", count)
    cluster.execute(SECRETS, "u%")
