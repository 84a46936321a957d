"""Hostile SQL through the API: each attempt is refused, or does nothing that its sender may not do, and nothing stays behind.

Attempts are of Eve, who owns a virtual database and has a valid token; Ann's database is on the same server. What Eve must never
see is a canary; after every attempt Ann's query works, and a session that served Eve is like new.
"""

import json
import uuid

import pytest

from cloud.tenant import CANARY, Tenants

REFUSED = (400, 403, 404)
SLEEP = "pg_sleep"

# name of the attempt: statement
ATTEMPTS = {
    # -- becoming somebody else
    "set role": "SET ROLE postgres",
    "set local role": "SET LOCAL ROLE a67_admin",
    "reset role": "RESET ROLE",
    "reset all": "RESET ALL",
    "set session authorization": "SET SESSION AUTHORIZATION postgres",
    "reset session authorization": "RESET SESSION AUTHORIZATION",
    "set_config role": "SELECT set_config('role', 'postgres', false)",
    "set_config role none": "SELECT set_config('role', 'none', true)",
    "set_config in a CTE": "WITH x AS MATERIALIZED (SELECT set_config('session_authorization', 'postgres', false)) SELECT * FROM x",
    "set_config quoted": 'SELECT "pg_catalog"."set_config"(\'ro\' || \'le\', \'postgres\', false)',
    "create role": "CREATE ROLE eve2 SUPERUSER LOGIN",
    "alter role": "ALTER ROLE CURRENT_USER SUPERUSER",
    "grant": "GRANT a67_admin TO CURRENT_USER",
    "reassign": "REASSIGN OWNED BY postgres TO CURRENT_USER",
    "alter default privileges": "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    "security definer function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    # -- claims and settings
    "forge claims": "SELECT set_config('request.jwt.claims', '{\"sub\": \"00000000-0000-0000-0000-000000000000\", \"role\": \"a67_admin\"}', false)",
    "set claims": "SET request.jwt.claims = '{\"role\": \"a67_admin\"}'",
    "forge the answer": "SELECT set_config('response.status', '201', true)",
    "read claims": "SELECT current_setting('request.jwt.claims')",
    "read a setting": "SELECT current_setting('a67.master_key_file', true)",
    "show": "SHOW a67.master_key_command",
    "show all": "SHOW ALL",
    "pg_settings": "SELECT name, setting FROM pg_settings",
    "pg_show_all_settings": "SELECT * FROM pg_show_all_settings()",
    "alter system": "ALTER SYSTEM SET a67.outbound_private = on",
    "statement_timeout": "SET statement_timeout = 0",
    "search_path": "SELECT set_config('search_path', 'rival, public', false)",
    # -- catalogs, other people, a67 itself
    "pg_class": "SELECT relname FROM pg_class",
    "pg_authid": "SELECT rolname, rolpassword FROM pg_authid",
    "pg_roles": "SELECT * FROM pg_roles",
    "pg_stat_activity": "SELECT query FROM pg_stat_activity",
    "pg_stat_get_activity": "SELECT * FROM pg_stat_get_activity(NULL)",
    "pg_foreign_server": "SELECT srvoptions FROM pg_foreign_server",
    "pg_proc in a subquery": "SELECT 1 WHERE EXISTS (SELECT FROM pg_proc WHERE proname = 'database_query')",
    "information_schema": "SELECT table_schema, table_name FROM information_schema.tables",
    "information_schema function": "SELECT information_schema._pg_truetypid(a, t) FROM pg_attribute a, pg_type t",
    "a67 tables": "SELECT * FROM a67_internal.database_shard",
    "a67 views": "SELECT * FROM a67.database_shard",
    "a67 functions": "SELECT a67.token_create(a67_internal._operator_id(), '1 hour')",
    "a67 recursion": "SELECT a67.database_query('rival', 'SELECT 1')",
    "open the vault": "SELECT a67_internal._vault_open('\\x00', 'x')",
    "ask a shard": "SELECT * FROM a67_internal._shard_ask('a67_rival', 'SELECT * FROM secret', NULL)",
    "raw remote query": "SELECT * FROM a67_internal._remote() AS t(x text)",
    "other database": "SELECT * FROM rival.secret",
    "other database in a join": "SELECT * FROM item JOIN rival.secret USING (id)",
    "other database by insert": "INSERT INTO item (id, name) SELECT id, value FROM rival.secret",
    "write to other database": "DELETE FROM rival.secret",
    "merge into another's": "MERGE INTO rival.secret s USING item i ON s.id = i.id WHEN MATCHED THEN DELETE",
    "merge from another's": "MERGE INTO item i USING rival.secret s ON i.id = s.id WHEN MATCHED THEN UPDATE SET name = s.value",
    "merge with a file": "MERGE INTO item i USING (SELECT 1 AS id) s ON i.id = s.id AND i.id = 1 WHEN MATCHED THEN UPDATE SET name = pg_read_file('/etc/passwd')",
    "merge into catalogs": "MERGE INTO pg_class c USING item i ON c.oid = i.id WHEN MATCHED THEN DELETE",
    "insert into catalogs": "INSERT INTO pg_class SELECT * FROM pg_class",
    "column of a row type": "SELECT NULL::rival.secret",
    "regclass of another": "SELECT 'rival.secret'::regclass::oid",
    "names by oid": "SELECT g::oid::regclass FROM generate_series(16384, 17000) g",
    "roles by oid": "SELECT 10::oid::regrole",
    "types by oid": "SELECT 16400::oid::regtype",
    "regclass by JSON": "SELECT * FROM json_to_record('{\"a\": 16400}') AS x(a regclass)",
    "regclass by record": "SELECT json_populate_record(NULL::pg_catalog.pg_depend, '{\"classid\": 1}')",
    "regclass by parameter": ("SELECT $1::regclass", ["rival.secret"]),
    "regclass array": "SELECT '{1259}'::regclass[]",
    "regclass by IO": "SELECT regclassin('pg_authid'::cstring)",
    "regclass by aggregate": "SELECT max(tableoid::regclass::text) FROM item",
    "to_regclass": "SELECT to_regclass('rival.secret')",
    "format_type": "SELECT format_type(g::oid, -1) FROM generate_series(16384, 16500) g",
    "has_table_privilege": "SELECT has_table_privilege('postgres', 'rival.secret', 'SELECT')",
    "obj_description": "SELECT obj_description(16400, 'pg_class')",
    "pg_get_userbyid": "SELECT pg_get_userbyid(10)",
    "pg_get_viewdef": "SELECT pg_get_viewdef(16400::oid)",
    "pg_describe_object": "SELECT pg_describe_object(1259, 16400, 0)",
    "pg_get_functiondef": "SELECT pg_get_functiondef(16400)",
    "current_query": "SELECT current_query()",
    "backend addresses": "SELECT inet_server_addr(), inet_server_port()",
    "pg_backend_pid": "SELECT pg_backend_pid()",
    # -- queries given as text
    "query_to_xml": "SELECT query_to_xml('SELECT * FROM pg_authid', true, true, '')",
    "table_to_xml": "SELECT table_to_xml('item', true, true, '')",
    "schema_to_xml": "SELECT schema_to_xml('rival', true, true, '')",
    "database_to_xml": "SELECT database_to_xml(true, true, '')",
    "cursor_to_xml": "SELECT cursor_to_xml('x', 1, true, true, '')",
    "ts_stat": "SELECT * FROM ts_stat('SELECT to_tsvector(rolname) FROM pg_roles')",
    "ts_rewrite": "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery FROM pg_authid')",
    "xpath": "SELECT xpath('//a', '<a/>'::xml)",
    "xmltable": "SELECT * FROM XMLTABLE('/a' PASSING '<a/>'::xml COLUMNS x text)",
    # -- files and programs
    "copy to program": "COPY item TO PROGRAM 'cat'",
    "copy from program": "COPY item FROM PROGRAM 'id'",
    "copy to a file": "COPY (SELECT 1) TO '/tmp/x'",
    "copy from stdin": "COPY item FROM STDIN",
    "pg_read_file": "SELECT pg_read_file('/etc/passwd')",
    "pg_read_binary_file": "SELECT pg_read_binary_file('a67_master.key')",
    "pg_ls_dir": "SELECT pg_ls_dir('.')",
    "pg_stat_file": "SELECT pg_stat_file('PG_VERSION')",
    "lo_import": "SELECT lo_import('/etc/passwd')",
    "lo_export": "SELECT lo_export(1, '/tmp/x')",
    "load": "LOAD 'a67'",
    "create extension": "CREATE EXTENSION dblink",
    "dblink": "SELECT * FROM dblink('host=127.0.0.1', 'SELECT 1') AS t(x int)",
    "foreign server": "CREATE SERVER s FOREIGN DATA WRAPPER a67_fdw OPTIONS (database 'rival')",
    "foreign table": "CREATE FOREIGN TABLE steal (id int, value text) SERVER a67_rival",
    "import foreign schema": "IMPORT FOREIGN SCHEMA public FROM SERVER a67_rival INTO shop",
    "user mapping": "CREATE USER MAPPING FOR CURRENT_USER SERVER a67_rival",
    # -- waiting, locks, messages, large objects
    "pg_sleep": f"SELECT {SLEEP}(3600)",
    "pg_sleep in a predicate": f"SELECT * FROM item WHERE {SLEEP}(1) IS NOT NULL",
    "advisory lock": "SELECT pg_advisory_lock(1)",
    "try advisory lock": "SELECT pg_try_advisory_xact_lock(hashtextextended('a67.signing_key', 0))",
    "lock table": "LOCK TABLE item IN ACCESS EXCLUSIVE MODE",
    "notify": "NOTIFY a67, 'x'",
    "pg_notify": "SELECT pg_notify('a67', 'x')",
    "listen": "LISTEN a67",
    "lo_create": "SELECT lo_create(0)",
    "lo_from_bytea": "SELECT lo_from_bytea(0, '\\x00')",
    "terminate": "SELECT pg_terminate_backend(g) FROM generate_series(1, 100000) g",
    "cancel": "SELECT pg_cancel_backend(1)",
    "logical message": "SELECT pg_logical_emit_message(true, 'x', 'y')",
    "export snapshot": "SELECT pg_export_snapshot()",
    "txid": "SELECT txid_current()",
    "setseed": "SELECT setseed(0.5)",
    # -- code, sessions, transactions
    "do": "DO $$BEGIN PERFORM 1; END$$",
    "call": "CALL f()",
    "create function": "CREATE FUNCTION shop.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
    "create operator": "CREATE OPERATOR shop.= (LEFTARG = int, RIGHTARG = int, FUNCTION = int4ne)",
    "create trigger": "CREATE TRIGGER t BEFORE INSERT ON item EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "create rule": f"CREATE RULE r AS ON INSERT TO item DO ALSO SELECT {SLEEP}(1)",
    "create schema": "CREATE SCHEMA evil",
    "create policy": "CREATE POLICY p ON item USING (true)",
    "prepare": "PREPARE x AS SELECT 1",
    "execute": "EXECUTE x",
    "explain execute": "EXPLAIN EXECUTE x",
    "deallocate": "DEALLOCATE ALL",
    "discard": "DISCARD ALL",
    "cursor": "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "begin": "BEGIN",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "savepoint": "SAVEPOINT s",
    "prepare transaction": "PREPARE TRANSACTION 'x'",
    "set transaction": "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "two statements": "SELECT 1; DROP TABLE item",
    "comment and statement": "SELECT 1 /* ; */; -- \nRESET ROLE",
    "temporary table": "CREATE TEMPORARY TABLE item (id int)",
    "pg_temp": "CREATE TABLE pg_temp.item (id int PRIMARY KEY)",
    "temporary view": "CREATE TEMP VIEW v AS SELECT 1",
    "select into": "SELECT 1 INTO TEMP t",
    "select into a table": "SELECT 1 AS id INTO other",
    "explain create": f"EXPLAIN ANALYZE CREATE TABLE x AS SELECT {SLEEP}(1)",
    "explain analyze": f"EXPLAIN ANALYZE SELECT {SLEEP}(3600)",
    "vacuum": "VACUUM",
    "checkpoint": "CHECKPOINT",
    "refresh": "REFRESH MATERIALIZED VIEW x",
    # -- hidden in other clauses
    "in RETURNING": "INSERT INTO item (id) VALUES (900) RETURNING pg_read_file('/etc/passwd')",
    "in ORDER BY": f"SELECT 1 ORDER BY {SLEEP}(1)",
    "in LIMIT": "SELECT 1 LIMIT length(pg_read_file('/etc/passwd'))",
    "in a window": "SELECT sum(id) OVER (ORDER BY pg_backend_pid()) FROM item",
    "in FILTER": f"SELECT count(*) FILTER (WHERE {SLEEP}(1) IS NULL) FROM item",
    "in GROUP BY": f"SELECT 1 FROM item GROUP BY {SLEEP}(1)",
    "in VALUES": "VALUES (pg_read_file('/etc/passwd'))",
    "in a set operation": "SELECT 1 UNION ALL SELECT pg_backend_pid()",
    "in LATERAL": "SELECT * FROM item, LATERAL pg_ls_dir('.')",
    "in a recursive CTE": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + pg_backend_pid() FROM r WHERE n < 2) SELECT * FROM r",
    "in ON CONFLICT": "INSERT INTO item (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = pg_read_file('/etc/passwd')",
    "in UPDATE FROM": "UPDATE item SET name = r.rolname FROM pg_roles r",
    "in a default": "CREATE TABLE trap (id int PRIMARY KEY, t text DEFAULT pg_read_file('/etc/passwd'))",
    "in a view": "CREATE VIEW trap AS SELECT pg_read_file('/etc/passwd')",
    "in a view of catalogs": "CREATE VIEW trap AS SELECT * FROM pg_authid",
    "in a view of others": "CREATE VIEW trap AS SELECT * FROM rival.secret",
    "in a domain": f"CREATE DOMAIN trap AS text CHECK ({SLEEP}(1) IS NOT NULL)",
    "in an altered default": "ALTER TABLE item ALTER COLUMN name SET DEFAULT current_setting('a67.master_key_file')",
    "type that names objects": "CREATE TABLE trap (id int PRIMARY KEY, r regclass)",
    "nextval of another": "SELECT nextval('rival.secret_id_seq')",
    "nextval of anything": "SELECT nextval(g::oid::regclass) FROM generate_series(16384, 16500) g",
    "currval": "SELECT lastval()",
    "drop another's": "DROP TABLE rival.secret",
    "alter another's": "ALTER TABLE rival.secret ADD COLUMN x int",
    "truncate another's": "TRUNCATE rival.secret",
    "drop schema": "DROP SCHEMA rival CASCADE",
    "move to another schema": "ALTER TABLE item SET SCHEMA rival",
    "change the owner": "ALTER TABLE item OWNER TO a67_admin",
    "comment on another's": "COMMENT ON TABLE rival.secret IS 'x'",
    "connection to another's shard": "ALTER SERVER a67_shop OPTIONS (SET database 'rival')",
}

# Allowed, and harmless: what they answer is the sender's own business.
HARMLESS = [
    "SELECT current_user, session_user, current_catalog, current_schema, version()",
    "SELECT now(), clock_timestamp(), random(), gen_random_uuid()",
    "SELECT tableoid, ctid, id FROM item WHERE id = 1",
    "SELECT pg_typeof(id), pg_column_size(name) FROM item WHERE id = 1",
    "SELECT to_tsvector('english', name) @@ to_tsquery('one') FROM item",
    "SELECT * FROM item WHERE name ~ '(a+)+$' OR name LIKE '%\\_%'",
    "EXPLAIN (ANALYZE, VERBOSE, SETTINGS) SELECT * FROM item",
    "SELECT id FROM shop.item FOR UPDATE",
    "SELECT XMLPARSE(DOCUMENT '<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><x>&e;</x>')",
]


@pytest.fixture(scope="module")
def tenants():
    with Tenants(settings={"a67.request_timeout": "10s"}) as tenants:
        tenants.shop.data("CREATE TABLE item (id int PRIMARY KEY, name text)")
        tenants.shop.data("INSERT INTO item VALUES (1, 'one'), (2, 'two')")
        tenants.rival.data("CREATE TABLE secret (id serial PRIMARY KEY, value text)")
        tenants.rival.data("INSERT INTO secret (value) VALUES ('canary-of-a-row')")
        yield tenants


@pytest.fixture(scope="module")
def watcher(tenants):
    with tenants.cluster.connect() as connection:
        yield connection


def sessions(watcher):
    """What api workers have left behind in the server: locks, transactions, temporary schemas, roles, large objects."""
    return watcher.execute("""
        SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks,
               (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'a67 api worker' AND state LIKE 'idle in %') AS open,
               (SELECT count(*) FROM pg_prepared_xacts) AS prepared,
               (SELECT count(*) FROM pg_class WHERE relpersistence = 't') AS temporary,
               (SELECT count(*) FROM pg_largeobject_metadata) AS objects,
               (SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles) AS roles,
               (SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_') AS schemas,
               (SELECT count(*) FROM pg_proc) AS functions""").fetchone()


@pytest.fixture(scope="module")
def before(watcher):
    return sessions(watcher)


def secrets(tenants):
    """Texts that no answer to Eve may hold."""
    return [CANARY, "canary-of-a-row", tenants.address, "root:", tenants.api.admin.token]


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused(tenants, watcher, before, name):
    attempt = ATTEMPTS[name]
    query, params = attempt if isinstance(attempt, tuple) else (attempt, [])
    answer = tenants.shop.ask(query, *params)
    body = answer.json()
    assert answer.status in REFUSED, (answer.status, answer.text)
    assert set(body) == {"code", "message", "details", "hint"} and not body["code"].startswith("XX"), body
    assert [secret for secret in secrets(tenants) if secret in json.dumps({**body, "query": None})] == []
    assert sessions(watcher) == before


def test_all_that_changed_nothing(tenants):
    assert tenants.rival.data("SELECT value FROM secret") == [["canary-of-a-row"]]
    assert tenants.shop.data("SELECT id, name FROM item ORDER BY id") == [[1, "one"], [2, "two"]]


@pytest.mark.parametrize("query", HARMLESS)
def test_harmless_statements_tell_nothing(tenants, watcher, before, query):
    answer = tenants.shop.ask(query)
    assert answer.status == 200, (answer.status, answer.text)
    assert [secret for secret in secrets(tenants) if secret in answer.text] == []
    assert sessions(watcher) == before


def test_the_frame_is_nobody(tenants):
    row = tenants.cluster.row("""
        SELECT rolcanlogin, rolsuper, rolcreaterole, rolbypassrls,
               (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) AS memberships
        FROM pg_roles r WHERE rolname = %s""", tenants.shop.data("SELECT current_user")[0][0])
    assert list(row.values()) == [False, False, False, False, 0]


def test_a_database_is_not_named_like_something_else(tenants):
    client = tenants.shop.person.client
    shards = [{"name": "s", "connection": tenants.connection("s1")}]
    for name in ("pg_catalog", "a67", "a67_internal", "public", "information_schema", "rival", "Rival", "x; DROP", "pg_temp"):
        answer = client.post("/api/v1/databases", {"name": name, "shards": shards})
        assert answer.status in (400, 409), (name, answer.status, answer.text)
        assert CANARY not in answer.text


def test_tables_named_like_built_in_ones_shadow_nothing(tenants):
    shop = tenants.shop
    for name in ("pg_class", "pg_authid", "generate_series"):
        shop.ask(f"CREATE TABLE {name} (id int PRIMARY KEY, relname text)")
    assert shop.ask("SELECT * FROM pg_class").status == 403
    assert shop.data("SELECT * FROM generate_series(1, 2)") == [[1], [2]]
    for name in ("pg_class", "pg_authid", "generate_series"):
        shop.ask(f"DROP TABLE shop.{name}")


def test_unreachable_shards_do_not_tell_their_address(tenants):
    answer = tenants.shop.person.client.post("/api/v1/databases", {
        "name": f"gone_{uuid.uuid4().hex[:8]}",
        "shards": [{"name": "s", "connection": f"host={tenants.address} port=1 user=tenant password={CANARY} dbname=x"}]})
    assert answer.status in (400, 502, 503), (answer.status, answer.text)
    assert CANARY not in answer.text


def test_the_log_holds_no_values_of_hers(tenants):
    mark = f"value-{uuid.uuid4().hex}"
    for query in (f"SELECT '{mark}'::int", f"SELECT '{mark}' FROM nowhere", f"SELECT pg_read_file('{mark}')", f"SELEC '{mark}'"):
        assert tenants.shop.ask(query).status in REFUSED
    assert tenants.shop.ask("INSERT INTO item (id, name) VALUES (1, $1)", mark).status == 409
    log = tenants.cluster.log.read_text()
    assert mark not in log
    assert CANARY not in log


def test_refusals_are_on_record(tenants):
    tenants.shop.ask("SELECT pg_read_file('/etc/passwd')")
    row = tenants.cluster.rows("SELECT subject, actor_id::text FROM a67.audit WHERE action = 'request.denied' ORDER BY at DESC LIMIT 1")[0]
    assert "/api/v1/databases/shop/query" in row["subject"] and row["actor_id"] == tenants.shop.person.user_id
