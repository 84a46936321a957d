"""Databases are created and dropped, all of it or nothing; what one process changes, the others see; anybody can compute a shard."""

import json
import threading

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from shard_door import ShardDoor

from cloud import Cluster, process
from cloud.server import server_program
from cloud.shards import Shards
from cloud.wait import wait_until

LEFT = """SELECT (SELECT count(*) FROM a67_internal.database) AS databases,
    (SELECT count(*) FROM a67_internal.database_shard) AS shards,
    (SELECT count(*) FROM pg_foreign_server WHERE srvname LIKE 'a67_%') AS servers,
    (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a67_shop%') AS roles,
    (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'shop%') AS schemas"""
OWN = {"schema": "shop_rows"}
NOTHING = {"databases": 0, "shards": 0, "servers": 0, "roles": 0, "schemas": 0}


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings={"a67.outbound_private": "on", "a67.rate_limits": "off"}) as made:
        yield made


@pytest.fixture(scope="module")
def shards():
    with Shards(4) as made:
        server = made.servers[0]
        server.execute("CREATE ROLE shopper LOGIN PASSWORD 'sesame'")
        server.execute("CREATE ROLE guest LOGIN")
        server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        server.execute("CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0")
        server.execute("GRANT CREATE ON DATABASE s1 TO shopper")
        made.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        made.execute("GRANT ALL ON SCHEMA public TO shopper", ["s1", "s2"])
        hba = server.data / "pg_hba.conf"
        hba.write_text(f"local all shopper scram-sha-256\n{hba.read_text()}")
        server.execute("SELECT pg_reload_conf()")
        yield made


@pytest.fixture
def door(shards):
    with ShardDoor(shards.servers[0]) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left(cluster, shards):
    yield
    for row in cluster.rows("SELECT name FROM a67_internal.database"):
        cluster.execute("SELECT a67.database_drop(%s)", row["name"])
    assert cluster.row(LEFT) == NOTHING
    shards.execute("DROP SCHEMA IF EXISTS shop_rows CASCADE")


def create(cluster, shards, name="shop", sharding=None):
    return cluster.value("SELECT a67.database_create(%s, %s::jsonb, %s::jsonb)", name, json.dumps(shards),
                         json.dumps(sharding or {}))


def refused(cluster, shards, state, name="shop", sharding=None):
    """The error of a database_create, which leaves nothing behind and shows no connection string."""
    with pytest.raises(psycopg.Error) as caught:
        create(cluster, shards, name, sharding)
    error = caught.value
    assert error.sqlstate == state, error
    assert "sesame" not in f"{error.diag.message_primary} {error.diag.message_detail} {error.diag.context}"
    assert cluster.row(LEFT) == NOTHING
    return f"{error.diag.message_primary}: {error.diag.message_detail}"


def schemas(shards):
    """The shards that have the schema of these tests."""
    there = []
    for name in shards.names:
        with shards.connect(name) as connection:
            if connection.execute("SELECT to_regnamespace('shop_rows')").fetchone()[0]:
                there.append(name)
    return there


# -- create and drop ---------------------------------------------------------------------------------


def test_a_database_of_four_shards(cluster, shards):
    made = create(cluster, shards.specification(provider="acme"), sharding={"key": "customer_id", "schema": "shop_rows"})
    assert made["name"] == "shop" and made["schema"] == "shop_rows" and made["tables"] == 0
    assert made["sharding"] == {"strategy": "hash", "key": "customer_id"}
    assert [shard["name"] for shard in made["shards"]] == shards.names
    assert all(shard["server_version"] >= 150000 and shard["provider"] == "acme" for shard in made["shards"])
    assert abs(sum(shard["share"] for shard in made["shards"]) - 1) < 0.001
    assert "host" not in json.dumps(made)
    assert len(schemas(shards)) == 4
    assert cluster.value("SELECT a67.database_get('shop')") == made
    assert cluster.value("SELECT a67.database_get(%s)", made["id"]) == made
    assert cluster.value("SELECT a67.database_list()") == [made]
    assert cluster.value("SELECT a67.database_list(1, 1)") == []
    assert cluster.row("SELECT name, shards, owner_id FROM a67.database") == {"name": "shop", "shards": 4, "owner_id": None}
    assert cluster.value("SELECT count(*) FROM a67_internal.database_shard WHERE connection_sealed IS NOT NULL") == 4
    assert cluster.row("SELECT rolcanlogin, rolsuper, rolinherit FROM pg_roles WHERE rolname = 'a67_shop_owner'") == {
        "rolcanlogin": False, "rolsuper": False, "rolinherit": False}

    cluster.execute("SELECT a67.table_create('shop', 'CREATE TABLE t (customer_id int PRIMARY KEY)')")
    assert cluster.value("SELECT a67.database_get('shop')")["tables"] == 1
    cluster.execute("SELECT a67.database_drop('shop')")
    assert cluster.row(LEFT) == NOTHING
    assert len(schemas(shards)) == 4, "what is on the shards stays there"
    kinds = cluster.rows("SELECT payload ->> 'change' AS change FROM a67_internal.event WHERE type = 'database.changed' ORDER BY event_id")
    assert [row["change"] for row in kinds][-3:] == ["created", "schema", "dropped"]


def test_drop_of_what_was_taken_apart_by_hand(cluster, shards):
    create(cluster, shards.specification())
    cluster.execute("DROP SCHEMA shop CASCADE")
    cluster.execute("DROP SERVER a67_shop CASCADE")
    cluster.execute("DROP OWNED BY a67_shop_owner")
    cluster.execute("DROP ROLE a67_shop_owner")
    cluster.execute("SELECT a67.database_drop('shop')")


@pytest.mark.parametrize("name", ["", "Shop", "1shop", "sh-op", "x" * 41, "public", "a67", "a67_x", "pg_x", "cron",
                                  "information_schema", 'sh"op', None])
def test_names_that_are_none(cluster, shards, name):
    assert "Field: name." in refused(cluster, shards.specification(), "22023", name)


WRONG = [
    ("shards must", []), ("shards must", {}), ("shards must", None), ("shards must", [{"connection": "x"}] * 65),
    ("shards[0] must", ["host=x"]), ("shards[0].connection", [{}]), ("shards[0].connection", [{"connection": None}]),
    ("shards[0].connection", [{"connection": 1}]), ("shards[0].connection", [{"connection": ""}]),
    ("shards[0].connection", [{"connection": "x" * 2049}]), ("shards[0].connection", [{"connection": "host=x\nuser=y"}]),
    ("shards[1].colour", [{"connection": "host=x"}, {"connection": "host=x", "colour": 1}]),
    ("shards[0].name", [{"connection": "host=x", "name": "S 1"}]), ("shards[0].name", [{"connection": "host=x", "name": 1}]),
    ("shards[1].name", [{"connection": "host=x", "name": "a"}, {"connection": "host=x", "name": "a"}]),
    ("shards[1].name", [{"connection": "host=x", "name": "s2"}, {"connection": "host=x"}]),
    ("shards[0].weight", [{"connection": "host=x", "weight": 0}]), ("shards[0].weight", [{"connection": "host=x", "weight": "1"}]),
    ("shards[0].weight", [{"connection": "host=x", "weight": 1001}]), ("shards[0].weight", [{"connection": "host=x", "weight": -1}]),
    ("shards[0].provider", [{"connection": "host=x", "provider": "A b"}]),
    ("shards[0].replicas", [{"connection": "host=x", "replicas": "host=y"}]),
    ("shards[0].replicas[1]", [{"connection": "host=x", "replicas": ["host=y", ""]}]),
    ("shards[0].replicas", [{"connection": "host=x", "replicas": ["host=y"] * 9}]),
]


@pytest.mark.parametrize("field, value", WRONG, ids=lambda value: str(value)[:30])
def test_shards_that_are_none(cluster, field, value):
    assert field in refused(cluster, value, "22023")


@pytest.mark.parametrize("field, sharding", [
    ("sharding", []), ("sharding", "hash"), ("sharding.colour", {"colour": 1}), ("sharding.strategy", {"strategy": "round"}),
    ("sharding.strategy", {"strategy": 1}), ("sharding.key", {"key": ""}), ("sharding.key", {"key": ["a"]}),
    ("sharding.key", {"key": "a", "strategy": "reference"}), ("sharding.schema", {"schema": "pg_x"}),
    ("sharding.schema", {"schema": "My Rows"}), ("sharding.schema", {"schema": "information_schema"}),
], ids=lambda value: str(value)[:30])
def test_sharding_that_is_none(cluster, shards, field, sharding):
    text = json.dumps(sharding)
    with pytest.raises(psycopg.Error) as caught:
        cluster.value("SELECT a67.database_create('shop', %s::jsonb, %s::jsonb)", json.dumps(shards.specification()), text)
    assert caught.value.sqlstate == "22023" and field in caught.value.diag.message_detail
    assert cluster.row(LEFT) == NOTHING


def changed(shards, **parameters):
    """Three good shards, and a fourth whose connection string has other parameters."""
    given = shards.specification()
    given[3]["connection"] = make_conninfo(given[3]["connection"], **parameters)
    return given


@pytest.mark.parametrize("parameters, says", [
    ({"dbname": "s1"}, 'cannot be used: Field: shards. It is the same database as another shard.'),
    ({"dbname": "latin"}, 'Its encoding is LATIN1, not UTF8 as here.'),
    ({"dbname": "raw"}, 'Its encoding is SQL_ASCII, not UTF8 as here.'),
    ({"dbname": "none"}, 'could not connect to shard "s4": Field: shards.'),
    ({"user": "nobody"}, 'could not connect to shard "s4": Field: shards.'),
    ({"user": "shopper", "password": "wrong-sesame"}, 'could not connect to shard "s4": Field: shards.'),
    ({"user": "guest"}, 'It has no schema "shop_rows", and its user may not create one.'),
    ({"port": "1"}, 'could not connect to shard "s4": Field: shards.'),
    ({"host": "/nowhere"}, 'could not connect to shard "s4": Field: shards.'),
])
def test_a_shard_that_will_not_do(cluster, shards, parameters, says):
    given = changed(shards, **parameters)
    assert says in refused(cluster, given, "22023", sharding=OWN)
    assert schemas(shards) == [], "no shard keeps a schema"
    assert create(cluster, shards.specification())["name"] == "shop"


def test_a_string_that_is_none(cluster):
    assert "cannot be read" in refused(cluster, [{"connection": "password=sesame nonsense"}], "22023")


def test_a_user_who_may_not_create_tables(cluster, shards):
    given = [{"connection": make_conninfo(shards.connection("s3"), user="guest")}]
    assert 'Its user may not create tables in schema "public".' in refused(cluster, given, "22023")


def test_a_name_that_is_taken(cluster, shards):
    create(cluster, shards.specification())
    for connection in ("host=x", "nonsense"):
        with pytest.raises(psycopg.errors.UniqueViolation, match='database "shop" already exists'):
            create(cluster, [{"connection": connection}])
    cluster.execute("CREATE SCHEMA other")
    with pytest.raises(psycopg.errors.UniqueViolation, match='database "other" already exists'):
        create(cluster, shards.specification(), "other")
    cluster.execute("DROP SCHEMA other")


def test_one_of_two_at_once_wins(cluster, shards):
    results = []

    def race():
        try:
            results.append(create(cluster, shards.specification(), sharding=OWN)["name"])
        except psycopg.Error as error:
            results.append(error.sqlstate)

    racers = [threading.Thread(target=race) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(results) == ["23505", "23505", "23505", "shop"]


def test_rollback_takes_all_back(cluster, shards):
    with cluster.connect(autocommit=False) as connection:
        connection.execute("SELECT a67.database_create('shop', %s::jsonb, '{\"schema\": \"shop_rows\"}')",
                           [json.dumps(shards.specification())])
        connection.rollback()
    assert cluster.row(LEFT) == NOTHING and schemas(shards) == []


def test_killed_half_way(cluster, shards):
    """The schemas wait for a lock on one shard when the backend is killed."""
    with shards.connect("s4") as blocker:
        blocker.execute("BEGIN")
        blocker.execute("CREATE SCHEMA shop_rows")
        connection = cluster.connect()
        victim = connection.info.backend_pid

        def attempt():
            try:
                connection.execute("SELECT a67.database_create('shop', %s::jsonb, '{\"schema\": \"shop_rows\"}')",
                                   [json.dumps(shards.specification())])
            except psycopg.Error:
                pass

        thread = threading.Thread(target=attempt)
        thread.start()
        wait_until("the shard waits", lambda: shards.server("s4").value(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 's4'"))
        cluster.execute("SELECT pg_terminate_backend(%s)", victim)
        thread.join()
        blocker.execute("ROLLBACK")
    wait_until("the shards roll back", lambda: schemas(shards) == [] and cluster.row(LEFT) == NOTHING)


# -- replicas ----------------------------------------------------------------------------------------


@pytest.fixture
def standby(shards):
    """A streaming replica of the shards' server."""
    primary = shards.servers[0]
    replica = Cluster(settings=dict(primary.settings))
    try:
        process.run([server_program("pg_basebackup"), "-h", primary.socket, "-p", "5432", "-U", "postgres", "-D", replica.data,
                     "--checkpoint=fast", "--no-sync", "--write-recovery-conf"])
        line = [one for one in (replica.data / "postgresql.auto.conf").read_text().splitlines() if one.startswith("primary_conninfo")]
        replica.configure()
        with open(replica.data / "postgresql.auto.conf", "a", encoding="utf-8") as file:
            file.write("\n".join(line) + "\n")
        replica.start()
        yield replica
    finally:
        replica.destroy()


def test_replicas(cluster, shards, standby):
    def replica_of(name):
        return make_conninfo(host=str(standby.socket), port=5432, user="postgres", dbname=name)

    given = shards.specification()
    given[0]["replicas"] = [replica_of("s1")]
    assert create(cluster, given)["shards"][0]["replicas"] == 1
    assert cluster.value("SELECT replicas FROM a67.database_shard WHERE name = 's1'") == 1
    cluster.execute("SELECT a67.database_drop('shop')")

    given[0]["replicas"] = [replica_of("s2")]
    assert 'a replica of shard "s1" cannot be used' in refused(cluster, given, "22023")
    given[0]["replicas"] = [shards.connection("s1")]
    assert "It is not a streaming replica of the shard's database." in refused(cluster, given, "22023")
    given[0]["replicas"] = [make_conninfo(replica_of("s1"), port=1)]
    assert 'could not connect to shard "s1"' in refused(cluster, given, "22023")
    given[0] = {"name": "s1", "connection": replica_of("s1")}
    assert "It is a replica, which cannot be written to." in refused(cluster, given, "22023")


# -- who may --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(cluster):
    """Clients of two users, through the listener."""
    users = [cluster.value("SELECT a67.user_create(%s, 'a67_user')", f"{name}@example.org") for name in ("ann", "bob")]
    return [cluster.client(cluster.value("SELECT a67.token_create(%s)", user)) for user in users]


def test_a_user_has_his_own_databases_alone(cluster, people, door):
    ann, bob = people
    body = {"name": "shop", "shards": [{"connection": door.connection(name)} for name in ("s1", "s2")], "sharding": {"key": "id"}}
    answer = ann.post("/api/v1/databases", body)
    assert answer.status == 201, answer.text
    assert "sesame" not in answer.text
    made = answer.json()
    assert ann.get("/api/v1/databases").json() == [made] and bob.get("/api/v1/databases").json() == []
    for key in ("shop", made["id"]):
        assert ann.get(f"/api/v1/databases/{key}").json() == made
        there, nowhere = bob.get(f"/api/v1/databases/{key}"), bob.get("/api/v1/databases/nowhere")
        assert (there.status, nowhere.status) == (404, 404)
        assert there.json() == {**nowhere.json(), "message": f'database "{key}" does not exist'}
        assert bob.request("DELETE", f"/api/v1/databases/{key}").status == 404
    assert bob.post("/api/v1/databases", body).status == 409
    assert ann.request("DELETE", "/api/v1/databases/shop").status == 204
    assert "sesame" not in cluster.log.read_text()


@pytest.mark.parametrize("connection", [
    "host=/tmp user=postgres password=sesame dbname=postgres", "user=postgres password=sesame dbname=postgres",
    "host=127.0.0.1 user=postgres dbname=postgres", "service=sesame", "host=127.0.0.1 user=a password=sesame dbname=b sslkey=/etc/passwd",
    "host=127.0.0.1 user=a password=sesame dbname=b passfile=/etc/passwd", "host=127.0.0.1 user=a password=sesame dbname=b sslrootcert=/etc/passwd",
    "host=127.0.0.1 hostaddr=10.0.0.1 user=a password=sesame dbname=b", "host=nowhere.invalid user=a password=sesame dbname=b",
])
def test_strings_that_users_may_not_give(cluster, people, connection):
    answer = people[0].post("/api/v1/databases", {"name": "shop", "shards": [{"connection": connection}]})
    assert answer.status == 400, answer.text
    assert answer.json()["code"] == "22023" and "Field: shards." in answer.json()["details"]
    assert "sesame" not in answer.text
    assert cluster.row(LEFT) == NOTHING


def test_a_login_without_the_password_is_none(cluster, people, shards, door):
    given = door.connection("s1").replace("shopper", "postgres")
    answer = people[0].post("/api/v1/databases", {"name": "shop", "shards": [{"connection": given}]})
    assert answer.status == 400 and 'could not connect to shard \\"s1\\"' in answer.text


# -- what others see ------------------------------------------------------------------------------------


def test_other_processes_see_changes(cluster, shards):
    create(cluster, shards.specification(), sharding=OWN)
    cluster.execute("""SELECT a67.table_create('shop', 'CREATE TABLE day (day date PRIMARY KEY)', strategy => 'range', key => 'day',
        ranges => '[{"from": "2024-01-01", "to": "2025-01-01", "shard": "s1"}]')""")
    cluster.execute("SELECT a67.table_create('shop', 'CREATE TABLE tenant (tenant text PRIMARY KEY)', strategy => 'directory', key => 'tenant')")
    with cluster.connect() as other, cluster.connect(autocommit=False) as old:
        def shard(connection, table, key):
            return connection.execute("SELECT a67.shard_of(%s::regclass, %s)", [f"shop.{table}", key]).fetchone()[0]

        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        assert shard(other, "day", "2025-06-01") is None and shard(other, "tenant", "acme") is None
        cluster.execute("UPDATE a67_internal.shard_range SET upper_bound = '2026-01-01'")
        cluster.execute("SELECT a67.database_key_assign('shop', 'tenant', 'acme', 's3')")
        assert shard(other, "day", "2025-06-01") == "s1" and shard(other, "tenant", "acme") == "s3"
        assert shard(old, "day", "2025-06-01") == "s1", "an old snapshot does not bring back an old map"
        with cluster.connect(autocommit=False) as changing:
            changing.execute("UPDATE a67_internal.shard_directory SET shard_id = shard_id - 1")
            assert shard(changing, "tenant", "acme") == "s2" and shard(other, "tenant", "acme") == "s3"
            changing.rollback()
            assert shard(changing, "tenant", "acme") == "s3"


def test_rows_are_where_anybody_computes_them(cluster, shards):
    given = shards.specification()
    given[1]["weight"] = 2.5
    create(cluster, given, sharding=OWN)
    cluster.execute("SELECT a67.table_create('shop', 'CREATE TABLE item (id bigint PRIMARY KEY)')")
    cluster.execute("SELECT a67.table_create('shop', 'CREATE TABLE page (url text PRIMARY KEY)')")
    ring = make_ring({"s1": 1, "s2": 2.5, "s3": 1, "s4": 1})
    with cluster.connect() as connection:
        cursor = connection.cursor()
        for table, keys in (("item", [i * 7919 - 4000 for i in range(1000)]), ("page", [f"/straße/{i}" for i in range(1000)])):
            cursor.execute(f"SELECT k, a67.shard_of('shop.{table}', k) FROM unnest(%s::text[]) k", [[str(key) for key in keys]])
            assert all(owner(ring, key) == shard for key, shard in cursor.fetchall())


def murmur3(data):
    """MurmurHash3 x86_32, seed 0, from its description."""
    value, whole = 0, len(data) // 4 * 4
    for start in range(0, whole, 4):
        value ^= mixed(int.from_bytes(data[start:start + 4], "little"))
        value = ((value << 13 | value >> 19) & 0xffffffff) * 5 + 0xe6546b64 & 0xffffffff
    if whole < len(data):
        value ^= mixed(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85ebca6b & 0xffffffff
    value = (value ^ value >> 13) * 0xc2b2ae35 & 0xffffffff
    return value ^ value >> 16


def mixed(word):
    word = word * 0xcc9e2d51 & 0xffffffff
    return (word << 15 | word >> 17) * 0x1b873593 & 0xffffffff


def make_ring(weights):
    points = {}
    for name in sorted(weights):
        for point in range(max(1, int(150 * weights[name] + 0.5))):
            points.setdefault(murmur3(f"{name}#{point}".encode()), name)
    return sorted(points.items())


def owner(ring, key):
    value = murmur3(key.encode())
    return next((name for point, name in ring if point >= value), ring[0][1])


# -- dump and restore -------------------------------------------------------------------------------------


def test_dump_and_restore(cluster, shards, make_cluster):
    """Sealed strings, ids and tables come along; pg_dump leaves roles to pg_dumpall."""
    create(cluster, shards.specification(), sharding=OWN)
    cluster.execute("SELECT a67.table_create('shop', 'CREATE TABLE item (id int PRIMARY KEY, name text)')")
    dump = cluster.folder / "dump"
    process.run([server_program("pg_dump"), "-Fp", "-f", dump, "-h", cluster.socket, "-U", "postgres", "postgres"])
    assert "dbname=s1" not in dump.read_text()
    other = make_cluster(extension=False)
    other.execute("CREATE DATABASE restored")
    for row in cluster.rows("SELECT rolname FROM pg_roles WHERE rolname LIKE 'a67_shop%'"):
        other.execute(f"CREATE ROLE {row['rolname']}")
    process.run([server_program("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-h", other.socket, "-U", "postgres", "-f", dump])
    question = """SELECT string_agg(a67.shard_of('shop.item', k::text), ' ') || (a67.database_get('shop') -> 'shards')::text
                  FROM generate_series(1, 50) k"""
    with psycopg.connect(host=str(other.socket), user="postgres", dbname="restored") as restored:
        assert restored.execute(question).fetchone()[0] == cluster.value(question)
        newest = restored.execute("SELECT nextval('a67_internal.database_shard_shard_id_seq')").fetchone()[0]
    assert newest > cluster.value("SELECT max(shard_id) FROM a67_internal.database_shard")
