"""The vault: values of 1 kB sealed and opened per second in one session, and the speed of a rotation.

Three peers in the same run: pgcrypto's pgp_sym_encrypt and pgp_sym_decrypt (AES-128, a passphrase of 32 bytes, its
cheapest key derivation), pgcrypto's bare encrypt and decrypt (AES-256-CBC: no random key of each value, no proof that
it was not changed), and the same query with md5() in their place, which is what PostgreSQL itself takes. Everything
runs in turn, ROUNDS times, and the best of each counts.
The rotation is the worker's own, at its own pace, over ROWS values of 1 kB; its peer is an UPDATE of as many rows of the
same table in one statement that copies their value.
"""

import time

import psycopg

from cloud.server import Cluster
from cloud.wait import wait_until
from load import report, say

VALUES = 20000
ROUNDS = 3
ROWS = 100000
SIZE = 1024
PASSPHRASE = "0123456789abcdef0123456789abcdef"
PLAIN = f"(SELECT decode(repeat('ab', {SIZE}), 'hex'))"

SEAL = {
    "vault": "a67_internal._vault_seal({plain}, 'bench.value:' || i)",
    "pgp": f"pgp_sym_encrypt_bytea({{plain}}, '{PASSPHRASE}', 's2k-mode=0, compress-algo=0')",
    "aes": f"encrypt({{plain}}, '{PASSPHRASE}', 'aes')",
    "md5": "decode(md5({plain} || i::text::bytea), 'hex')",
}
OPEN = {
    "vault": "a67_internal._vault_open(vault, 'bench.value:' || i)",
    "pgp": f"pgp_sym_decrypt_bytea(pgp, '{PASSPHRASE}')",
    "aes": f"decrypt(aes, '{PASSPHRASE}', 'aes')",
    "md5": "decode(md5(plain || i::text::bytea), 'hex')",
}


def rate(connection, query, count):
    """Rows a second of a query that makes so many."""
    began = time.perf_counter()
    connection.execute(query)
    return count / (time.perf_counter() - began)


def best_rates(connection, queries):
    found = dict.fromkeys(queries, 0.0)
    for _ in range(ROUNDS):
        for name, query in queries.items():
            found[name] = max(found[name], rate(connection, query, VALUES))
    return found


def compare(metric, rates):
    for name, value in rates.items():
        say(f"{metric} by {name}: {value:.0f}/s")
    report("vault", metric, rates["vault"], "1/s",
           **{name: rates["vault"] / value for name, value in rates.items() if name != "vault"})


def peers(connection):
    """The contrib module, when the server has it."""
    try:
        connection.execute("CREATE EXTENSION pgcrypto")
        return ("pgp", "aes", "md5")
    except psycopg.Error as error:
        say(f"pgcrypto is not here: {error}")
        return ("md5",)


def seal_and_open(connection):
    others = peers(connection)
    kinds = ("vault", *others)
    one = f"FROM generate_series(1, {VALUES}) i"
    compare("seal_1kb", best_rates(connection, {
        name: f"SELECT sum(length({SEAL[name].format(plain=PLAIN)})) {one}" for name in kinds}))
    made = ", ".join(f"{SEAL[name].format(plain=PLAIN)} AS {name}" for name in kinds)
    connection.execute(f"CREATE TEMP TABLE sealed AS SELECT i, {PLAIN} AS plain, {made} {one}")
    connection.execute("ALTER TABLE sealed ALTER plain SET STORAGE PLAIN")
    compare("open_1kb", best_rates(connection, {
        name: f"SELECT sum(length({OPEN[name]})) FROM sealed" for name in kinds}))


def fill(connection):
    """Values of 1 kB in a table that rotations know."""
    connection.execute("INSERT INTO a67_internal.\"user\" (email) "
                       f"SELECT 'u' || i || '@example.org' FROM generate_series(1, {ROWS}) i")
    connection.execute(
        "INSERT INTO a67_internal.credential (user_id, password_hash, totp_sealed) "
        f"SELECT user_id, 'x', a67_internal._vault_seal({PLAIN}, 'credential.totp_sealed:' || user_id) "
        "FROM a67_internal.\"user\" WHERE NOT is_operator")
    connection.execute("VACUUM ANALYZE a67_internal.credential")


def rotation(cluster, connection):
    fill(connection)
    copied = rate(connection, "UPDATE a67_internal.credential SET totp_sealed = totp_sealed || ''::bytea", ROWS)
    connection.execute("VACUUM a67_internal.credential")
    cluster.value("SELECT a67.vault_rotate()")
    done = wait_until("rotation ends", lambda: cluster.value("SELECT a67.vault_status() -> 'rotation'"),
                      timeout=600, until=lambda now: not now["running"], interval=0.5)
    seconds = cluster.value("SELECT extract(epoch FROM finished_at - rotated_at)::float8 FROM a67_internal.vault")
    say(f"copied by one UPDATE: {copied:.0f}/s")
    report("vault", "rotation_rows", done["rewrapped"] / seconds, "1/s", update=done["rewrapped"] / seconds / copied)


def main():
    with Cluster(settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}) as cluster:
        with cluster.connect() as connection:
            connection.execute("SET statement_timeout = 0")
            seal_and_open(connection)
            rotation(cluster, connection)


if __name__ == "__main__":
    main()
