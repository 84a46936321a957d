"""Roles of applications: what they may do in psql, and what hostile ones cannot."""

import psycopg
import pytest

from cloud.tenant import CANARY, Tenants


@pytest.fixture(scope="module")
def tenants():
    with Tenants() as tenants:
        server = tenants.cluster
        rules = server.data / "pg_hba.conf"
        # Roles of applications prove who they are; the others are the test's own.
        rules.write_text("local all shop_app,shop_reader,shop_short scram-sha-256\n" + rules.read_text())
        server.execute("SELECT pg_reload_conf()")
        tenants.shop.data("CREATE TABLE item (id int PRIMARY KEY, name text)")
        tenants.shop.data("INSERT INTO item VALUES (1, 'one'), (2, 'two')")
        tenants.rival.data("CREATE TABLE secret (id int PRIMARY KEY, value text)")
        tenants.rival.data("INSERT INTO secret VALUES (1, 'canary-of-a-row')")
        tenants.passwords = {name: tenants.shop.post("/roles", {"name": name, "read_only": name == "shop_reader"}).json()["password"]
                             for name in ("shop_app", "shop_reader")}
        yield tenants


@pytest.fixture(scope="module")
def app(tenants):
    with tenants.connect("shop_app", tenants.passwords["shop_app"]) as connection:
        yield connection


@pytest.fixture(scope="module")
def reader(tenants):
    with tenants.connect("shop_reader", tenants.passwords["shop_reader"]) as connection:
        yield connection


def refused(connection, statement):
    """The error of a statement that must fail."""
    try:
        with connection.transaction():
            cursor = connection.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        assert CANARY not in str(error) and "canary-of-a-row" not in str(error)
        return error
    pytest.fail(f"{statement} succeeded: {rows!r}")


def test_an_application_reads_and_writes(app):
    app.execute("INSERT INTO item VALUES (3, 'three')")
    assert app.execute("UPDATE item SET name = 'drei' WHERE id = %s", (3,)).rowcount == 1
    assert app.execute("SELECT name FROM item WHERE id = %s", (3,)).fetchone() == ("drei",)
    app.execute("DELETE FROM item WHERE id = 3")
    with app.transaction():
        app.execute("INSERT INTO shop.item VALUES (4, 'four'), (5, 'five')")
        assert app.execute("SELECT count(*) FROM item").fetchone() == (4,)
        app.execute("DELETE FROM item WHERE id IN (4, 5)")


def test_a_reader_reads(reader):
    assert reader.execute("SELECT id FROM item ORDER BY id").fetchall() == [(1,), (2,)]
    for statement in ("INSERT INTO item VALUES (9, 'x')", "UPDATE item SET name = 'x'", "DELETE FROM item", "TRUNCATE item",
                      "COPY item FROM PROGRAM 'echo 1'", "SELECT * FROM item FOR UPDATE",
                      "WITH x AS (DELETE FROM item RETURNING *) SELECT * FROM x"):
        assert refused(reader, statement).sqlstate == "42501", statement
    assert reader.execute("SELECT count(*) FROM item").fetchone() == (2,)


def test_tables_made_later_are_covered(tenants, app, reader):
    tenants.shop.data("CREATE TABLE later (id serial PRIMARY KEY, n int)")
    tenants.shop.data("CREATE VIEW doubled AS SELECT id, n * 2 AS n FROM later")
    app.execute("INSERT INTO later (n) VALUES (5)")
    assert reader.execute("SELECT n FROM doubled").fetchall() == [(10,)]
    assert refused(reader, "INSERT INTO later (n) VALUES (5)").sqlstate == "42501"
    tenants.shop.data("DROP VIEW doubled")
    tenants.shop.data("DROP TABLE later")


ATTEMPTS = {
    "other database": "SELECT * FROM rival.secret",
    "a67 tables": "SELECT * FROM a67_internal.database_shard",
    "a67 views": "SELECT * FROM a67.database_shard",
    "a67 functions": "SELECT a67.database_query('rival', 'SELECT 1')",
    "tokens": "SELECT a67.token_create(NULL)",
    "vault": "SELECT a67_internal._vault_open('\\x00', 'x')",
    "run as the frame": "SELECT a67_internal._query_run('rival', 'a67_rival_write', 'SELECT 1', NULL)",
    "ask a shard": "SELECT * FROM a67_internal._shard_ask('a67_shop', 'SELECT 1', NULL)",
    "claims": "SELECT a67.auth_me() FROM (SELECT set_config('request.jwt.claims', '{\"role\": \"a67_admin\"}', false)) x",
    "superuser": "SET ROLE postgres",
    "admin": "SET ROLE a67_admin",
    "owner": "SET ROLE a67_shop_owner",
    "rival's role": "SET ROLE a67_rival_write",
    "authorization": "SET SESSION AUTHORIZATION postgres",
    "alter oneself": "ALTER ROLE shop_app SUPERUSER",
    "alter the other": "ALTER ROLE shop_reader PASSWORD 'x'",
    "join a role": "GRANT a67_rival_write TO shop_app",
    "create a role": "CREATE ROLE eve",
    "passwords": "SELECT rolpassword FROM pg_authid",
    "create in the schema": "CREATE TABLE shop.mine (id int)",
    "view in the schema": "CREATE VIEW shop.mine AS SELECT 1",
    "function in the schema": "CREATE FUNCTION shop.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "create in public": "CREATE TABLE public.mine (id int)",
    "create in a67": "CREATE TABLE a67.mine (id int)",
    "alter a table": "ALTER FOREIGN TABLE shop.item OPTIONS (SET key 'name')",
    "drop a table": "DROP FOREIGN TABLE shop.item",
    "own a table": "ALTER FOREIGN TABLE shop.item OWNER TO shop_app",
    "trigger": "CREATE TRIGGER t BEFORE INSERT ON shop.item FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "rule": "CREATE RULE r AS ON INSERT TO shop.item DO INSTEAD NOTHING",
    "schema": "CREATE SCHEMA evil",
    "extension": "CREATE EXTENSION dblink",
    "foreign table": "CREATE FOREIGN TABLE pg_temp.steal (id int, value text) SERVER a67_rival OPTIONS (strategy 'hash', key 'id')",
    "own foreign table": "CREATE FOREIGN TABLE pg_temp.steal (relname text) SERVER a67_shop OPTIONS (strategy 'local', shard 's1')",
    "foreign server": "CREATE SERVER s FOREIGN DATA WRAPPER a67_fdw OPTIONS (database 'rival')",
    "alter the server": "ALTER SERVER a67_shop OPTIONS (SET database 'rival')",
    "user mapping": "CREATE USER MAPPING FOR shop_app SERVER a67_rival",
    "import": "IMPORT FOREIGN SCHEMA public FROM SERVER a67_shop INTO pg_temp",
    "program": "COPY shop.item TO PROGRAM 'cat'",
    "program of a query": "COPY (SELECT 1) TO PROGRAM 'cat'",
    "from a program": "COPY shop.item FROM PROGRAM 'id'",
    "to a file": "COPY shop.item TO '/tmp/a67-redteam'",
    "from a file": "COPY shop.item FROM '/etc/passwd'",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "read a file on a shard": "SELECT pg_read_file('/etc/passwd') FROM shop.item WHERE id = 1",
    "list files": "SELECT pg_ls_dir('.')",
    "import a file": "SELECT lo_import('/etc/passwd')",
    "load": "LOAD '/tmp/x.so'",
    "C function": "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE c AS 'a67', 'a67_sql_version'",
    "settings": "ALTER SYSTEM SET a67.registration = on",
    "secret settings": "SHOW a67.master_key_file",
    "secret settings by name": "SELECT current_setting('a67.master_key_command')",
    "setting of the server": "SET a67.outbound_private = on",
    "limit of the server": "SET temp_file_limit = -1",
    "terminate": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "cancel": "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "reload": "SELECT pg_reload_conf()",
    "logs": "SELECT pg_rotate_logfile()",
    "replication slot": "SELECT pg_create_physical_replication_slot('x')",
    "statistics": "SELECT pg_stat_reset()",
    "database": "DROP DATABASE postgres",
    "analyze others": "SELECT * FROM pg_stats WHERE schemaname = 'rival' AND 1 / (SELECT count(*) FROM pg_stats s WHERE s.schemaname = 'rival') > 0",
    "a shard's catalog by XML": "SELECT table_to_xml('pg_authid'::regclass, true, true, '') FROM shop.item WHERE id = 1",
    "a shard's query by XML": "SELECT query_to_xml('SELECT pg_read_file(''/etc/passwd'')', true, true, '') FROM shop.item WHERE id = 1",
    "a shard's large object": "SELECT lo_get(1) FROM shop.item WHERE id = 1",
    "a shard's settings": "UPDATE shop.item SET name = current_setting('hba_file') WHERE id = 1",
    "another's audit": "SELECT * FROM a67_internal.audit",
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_of_an_application_is_refused(app, name):
    error = refused(app, ATTEMPTS[name])
    assert not error.sqlstate.startswith("XX"), (error.sqlstate, str(error))
    app.execute("RESET ROLE")
    assert app.execute("SELECT id, name FROM item ORDER BY id").fetchall() == [(1, "one"), (2, "two")]


def test_nothing_shows_connection_strings(app):
    shown = [str(row) for statement in (
        "SELECT srvname, srvoptions, srvacl FROM pg_foreign_server", "SELECT * FROM pg_user_mappings",
        "SELECT ftoptions FROM pg_foreign_table", "EXPLAIN (ANALYZE, VERBOSE, SETTINGS) SELECT * FROM item", "SHOW ALL",
        "SELECT query FROM pg_stat_activity") for row in app.execute(statement).fetchall()]
    assert [line for line in shown if CANARY in line or "user=tenant" in line] == []


@pytest.mark.parametrize("call", [
    "table_to_xml(1259::regclass, true, true, '')", "has_table_privilege('postgres', 'pg_class', 'SELECT')", "pg_get_userbyid(id::oid)",
    "current_setting('port')", "to_regclass(name)", "obj_description(id::oid, 'pg_class')", "format_type(id::oid, -1)",
    "pg_relation_filepath(id::oid::regclass)", "pg_get_viewdef(id::oid)", "inet_server_addr()", "schema_to_xml(name::name, true, true, '')",
    "pg_stat_get_backend_activity(id)", "pg_tablespace_location(id::oid)", "pg_backend_pid()", "id::oid::regrole::text",
])
def test_what_tells_about_a_server_tells_of_this_one(app, call):
    plan = app.execute(f"EXPLAIN (VERBOSE, FORMAT JSON) SELECT {call} FROM item WHERE id = 1").fetchone()[0]
    sent = [line for line in str(plan).split("'Remote SQL': ")[1:]]
    assert len(sent) == 1 and f"{call.split('(')[0]}(" not in sent[0].split("',")[0] and "::reg" not in sent[0], sent


def test_a_role_has_limits(tenants, app):
    settings = dict(app.execute("SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'temp_file_limit',"
                                " 'idle_in_transaction_session_timeout')").fetchall())
    assert settings == {"statement_timeout": "30000", "temp_file_limit": "1048576", "idle_in_transaction_session_timeout": "60000"}
    row = tenants.cluster.row("SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolconnlimit"
                              " FROM pg_roles WHERE rolname = 'shop_app'")
    assert list(row.values()) == [False, False, False, False, False, 50]


def test_a_password_is_needed_and_not_kept(tenants):
    for password in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError):
            tenants.connect("shop_app", password)
    assert not any(password in tenants.cluster.log.read_text() for password in tenants.passwords.values())


@pytest.mark.parametrize("body, status, field", [
    ({"name": "shop_app"}, 409, "name"), ({"name": "other"}, 400, "name"), ({"name": "pg_x"}, 400, "name"), ({"name": "a67_shop_write"}, 400, "name"),
    ({"name": "shop_X"}, 400, "name"), ({"name": "shop_x; DROP ROLE postgres"}, 400, "name"), ({"name": None}, 400, "name"),
    ({"name": "shop_y", "password": "short"}, 400, "password"), ({"name": "shop_y", "read_only": None}, 400, "read_only"),
    ({"name": "shop_y", "superuser": True}, 400, "superuser"), ({}, 400, "name"), ({"name": "rival_app"}, 400, "name"),
])
def test_bad_roles_are_refused(tenants, body, status, field):
    answer = tenants.shop.post("/roles", body)
    assert answer.status == status and field in answer.text, (answer.status, answer.text)


def test_roles_are_listed_and_dropped_with_their_sessions(tenants):
    client = tenants.shop.person.client
    answer = tenants.shop.post("/roles", {"name": "shop_short", "password": "a good password"})
    assert (answer.status, answer.json()) == (201, {"database": "shop", "role": "shop_short", "read_only": False})
    session = tenants.connect("shop_short", "a good password")
    roles = {one["role"]: one for one in client.get("/api/v1/databases/shop/roles").json()}
    assert roles["shop_short"] == {"role": "shop_short", "read_only": False, "sessions": 1}
    assert roles["shop_reader"]["read_only"] is True
    assert tenants.rival.person.client.request("DELETE", "/api/v1/databases/rival/roles/shop_short").status == 404
    for name in ("a67_shop_write", "postgres", "nobody"):
        assert client.request("DELETE", f"/api/v1/databases/shop/roles/{name}").status == 404
    assert client.request("DELETE", "/api/v1/databases/shop/roles/shop_short").status == 204
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        tenants.connect("shop_short", "a good password")


def test_administrators_give_any_name(tenants):
    answer = tenants.api.admin.post("/api/v1/databases/rival/roles", {"name": "reporting", "read_only": True})
    assert answer.status == 201, answer.text
    assert tenants.api.admin.request("DELETE", "/api/v1/databases/rival/roles/reporting").status == 204


def test_a_dropped_database_takes_its_roles_along(tenants):
    client = tenants.rival.person.client
    assert tenants.rival.post("/roles", {"name": "rival_app"}).status == 201
    assert client.request("DELETE", "/api/v1/databases/rival").status == 204
    assert tenants.cluster.rows("SELECT rolname FROM pg_roles WHERE rolname ~ 'rival'") == []
    assert client.get("/api/v1/databases").json() == []
