\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(71);
SET LOCAL client_min_messages = warning;
-- A database of two shards that nobody can connect to: what is refused here was refused before anything was sent.
INSERT INTO a67_internal.database (database_id, name, key) VALUES ('00000000-0000-0000-0000-0000000ddddd', 'define', 'tenant');
INSERT INTO a67_internal.database_shard (database_id, name, weight, server_version)
SELECT '00000000-0000-0000-0000-0000000ddddd', 's' || n, 1, 150000 FROM generate_series(1, 2) n;
CREATE SCHEMA define;
CREATE SERVER a67_define FOREIGN DATA WRAPPER a67_fdw OPTIONS (database 'define');
CREATE TYPE define.colour AS ENUM ('red', 'green');
CREATE FOREIGN TABLE define.base (id integer NOT NULL, n integer DEFAULT 5, t text) SERVER a67_define OPTIONS (strategy 'hash', key 'id');
CREATE FOREIGN TABLE define.paint (colour define.colour NOT NULL) SERVER a67_define OPTIONS (strategy 'hash', key 'colour');
CREATE FOREIGN TABLE define.region (region text) SERVER a67_define OPTIONS (strategy 'reference');
CREATE FOREIGN TABLE define.setting (name text) SERVER a67_define OPTIONS (strategy 'local', shard 's2');
CREATE FOREIGN TABLE define.log (day date) SERVER a67_define OPTIONS (strategy 'range', key 'day', mapping 'day');
CREATE DOMAIN define.code AS text CHECK (pg_read_file(VALUE) IS NULL);
CREATE FOREIGN TABLE define.tenant (tenant define.code) SERVER a67_define OPTIONS (strategy 'directory', key 'tenant', mapping 'tenant');
CREATE FUNCTION pg_temp.ddl(sql text) RETURNS text LANGUAGE sql AS $$SELECT string_agg(d, ', ') FROM a67.database_ddl('define', sql) d$$;
CREATE FUNCTION pg_temp.refused(sql text, state text, message text) RETURNS text LANGUAGE sql AS $$
    SELECT throws_ok(format('SELECT pg_temp.ddl(%L)', sql), state, message, sql)
$$;

-- ---- refused ----
SELECT pg_temp.refused(sql, state, message) FROM (VALUES
    ('CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))', '42P16', 'table "t" has no shard key'),
    ('CREATE TABLE t (tenant int, b int PRIMARY KEY)', '0A000', 'primary key on table "t" must include the shard key'),
    ('CREATE TABLE t (a int PRIMARY KEY, b int UNIQUE)', '0A000', 'unique constraint on table "t" must include the shard key'),
    ('CREATE TABLE t (a int PRIMARY KEY, b int, UNIQUE (b) INCLUDE (a))', '0A000', 'unique constraint on table "t" must include the shard key'),
    ('CREATE TABLE t (a int PRIMARY KEY, EXCLUDE USING btree (a WITH <>))', '0A000', 'exclusion constraint on table "t" must include the shard key'),
    ('CREATE TABLE t (a text PRIMARY KEY REFERENCES base (id))', '0A000', 'foreign key from table "t" to "base" cannot be enforced'),
    ('CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES base (id))', '0A000', 'foreign key from table "t" to "base" must include the shard keys'),
    ('CREATE TABLE t (a int PRIMARY KEY REFERENCES base (n))', '0A000', 'foreign key from table "t" to "base" must include the shard keys'),
    ('CREATE TABLE t (a int PRIMARY KEY, b text REFERENCES setting (name))', '0A000', 'foreign key from table "t" to "setting" cannot be enforced'),
    ('CREATE TABLE t (a text PRIMARY KEY REFERENCES region (region) ON UPDATE CASCADE)', '0A000', 'the shard key cannot follow a reference table with ON UPDATE CASCADE'),
    ('CREATE TABLE t (a int PRIMARY KEY REFERENCES base (id) ON DELETE SET DEFAULT)', '0A000', 'a foreign key cannot set the shard key to its default'),
    ('CREATE TABLE t (a int PRIMARY KEY, b text CHECK (b <> current_user))', '0A000', 'expression depends on the session, or on chance, and shards compute it on their own'),
    ('CREATE TABLE t (a int PRIMARY KEY, b text CHECK (b <> current_setting(''x'')))', '0A000', 'expression depends on the session, or on chance, and shards compute it on their own'),
    ('CREATE TABLE t (a xml PRIMARY KEY)', '0A000', 'column "a" of table "t" cannot be a shard key'),
    ('CREATE TABLE t (a int PRIMARY KEY OPTIONS (x ''y''))', '42601', NULL),
    ('CREATE TABLE t (a int OPTIONS (x ''y'') PRIMARY KEY)', '0A000', 'columns of virtual tables have no options'),
    ('CREATE TABLE base (a int PRIMARY KEY)', '42P07', 'relation "base" already exists'),
    ('CREATE TABLE other.t (a int PRIMARY KEY)', '3F000', 'schema "other" is not that of database "define"'),
    ('CREATE TABLE t (LIKE base INCLUDING INDEXES, tenant int)', '0A000', 'LIKE … INCLUDING INDEXES needs the same shard key'),
    ('CREATE TABLE t (LIKE pg_class)', '42P01', 'table "pg_class" does not exist'),
    ('CREATE UNIQUE INDEX ON base (n)', '0A000', 'unique index on table "base" must include the shard key'),
    ('CREATE UNIQUE INDEX ON base (n, (id + 0), id COLLATE "C")', '0A000', 'unique index on table "base" must include the shard key'),
    ('ALTER TABLE base DROP id', '0A000', 'shard key "id" of table "base" cannot be dropped'),
    ('ALTER TABLE base ADD x int, ALTER id TYPE text', '0A000', 'type of the shard key of table "base" cannot be changed so'),
    ('ALTER TABLE base ALTER id TYPE numeric(5, 1)', '0A000', 'type of the shard key of table "base" cannot be changed so'),
    ('ALTER TABLE base ALTER n TYPE text USING random()::text', '0A000', 'expression depends on the session, or on chance, and shards compute it on their own'),
    ('ALTER TABLE base ALTER t TYPE timestamptz USING now()', '0A000', 'expression depends on the session, or on chance, and shards compute it on their own'),
    ('ALTER TABLE base INHERIT region', '0A000', 'this form of ALTER TABLE is not supported for virtual tables'),
    ('ALTER FOREIGN TABLE base OPTIONS (SET key ''n'')', '0A000', 'this form of ALTER TABLE is not supported for virtual tables'),
    ('ALTER VIEW base ALTER n SET DEFAULT 1', '0A000', 'ALTER VIEW is not supported for virtual databases'),
    ('ALTER TYPE colour RENAME VALUE ''red'' TO ''pink''', '0A000', 'labels of type "colour" cannot be renamed'),
    ('DROP TYPE colour CASCADE', '2BP01', 'cannot drop type "colour"'),
    ('DROP TABLE base, nothing', '42P01', 'table "nothing" does not exist'),
    ('DROP FUNCTION f()', '0A000', 'DROP FUNCTION is not supported for virtual databases'),
    ('CREATE VIEW v AS SELECT relname FROM pg_class', '0A000', 'a view of a virtual database can use its own tables and views only'),
    ('CREATE TEMP VIEW v AS SELECT 1 AS x', '0A000', 'a virtual database has nothing temporary'),
    ('COMMENT ON INDEX i IS ''x''', '0A000', 'COMMENT is supported for tables, columns, views, sequences and types'),
    ('COPY base FROM PROGRAM ''id''', '0A000', 'COPY is not supported for virtual databases'),
    ('SET ROLE postgres', '0A000', 'SET is not supported for virtual databases'),
    (' ; ', '22023', 'there is no statement in the text'),
    ('CREATE TABLE "', '42601', NULL)) r (sql, state, message);
SELECT throws_ok($$SELECT a67.database_ddl('nobody', 'DROP TABLE base')$$, 'PT404', 'database "nobody" does not exist', 'a database that does not exist');
SELECT throws_ok($$SELECT a67.database_ddl('define', repeat(' ', 1048577))$$, '22023', 'invalid text of statements', 'too much');
SELECT throws_ok($$SELECT a67.table_create('define', NULL)$$, '22023', 'invalid definition', 'nothing to create');

-- ---- here, and nowhere else ----
SELECT is(pg_temp.ddl($$CREATE VIEW v AS SELECT n FROM base WHERE id = 1; CREATE SEQUENCE s; COMMENT ON TABLE base IS 'all'; COMMENT ON COLUMN define.base.n IS 'one'$$),
    'CREATE VIEW, CREATE SEQUENCE, COMMENT, COMMENT', 'views, sequences and comments');
SELECT is(pg_temp.ddl('ALTER TABLE base ADD COLUMN IF NOT EXISTS n int; DROP TABLE IF EXISTS nothing; CREATE TABLE IF NOT EXISTS base (x int)'),
    'ALTER TABLE, DROP TABLE, CREATE TABLE', 'what is there, or is not, already');
SELECT is(a67.database_schema('define') -> 'tables' -> 0,
    '{"name": "base", "strategy": "hash", "key": "id", "comment": "all", "columns": [{"name": "id", "type": "integer", "not_null": true}, {"name": "n", "type": "integer", "not_null": false, "default": "5", "comment": "one"}, {"name": "t", "type": "text", "not_null": false}]}'::jsonb,
    'the registry has it');
SELECT is(a67.database_schema('define') -> 'types' -> 1, '{"name": "colour", "kind": "enum", "labels": ["red", "green"]}'::jsonb, 'and the types');
SELECT throws_like($$SELECT a67.database_ddl('define', 'DROP VIEW v; DROP SEQUENCE s; CREATE TABLE t (a int PRIMARY KEY)')$$, '%shard "s%', 'no shard can be reached');
SELECT has_view('define', 'v', 'so nothing happened');

-- ---- keys and ranges ----
SELECT is(a67_internal._table_key('define.log', '1 march 2026'), '2026-03-01', 'a bound as its type reads it');
SELECT is(a67_internal._table_key('define.tenant', '/etc/passwd'), '/etc/passwd', 'conditions of a domain are not run');
SELECT throws_ok($$SELECT a67_internal._table_key('define.log', 'soon')$$, '22007', NULL, 'no date');
SELECT throws_ok($$SELECT a67_internal._table_key('define.region', 'x')$$, '42809', '"region" is not a virtual table with a shard key', 'no key');
SELECT lives_ok($$SELECT a67.database_range_assign('define', 'day', 's1', '2026-01-01', '2026-02-01')$$, 'a range');
SELECT lives_ok($$SELECT a67.database_range_assign('define', 'day', 's2', NULL, '2026-01-01')$$, 'up to it');
SELECT throws_ok($$SELECT a67.database_range_assign('define', 'day', 's1', '2026-01-31')$$, '22023', NULL, 'one day is in both');
SELECT throws_ok($$SELECT a67.database_range_assign('define', 'day', 's1', '2026-03-01', '2026-03-01')$$, '22023', NULL, 'an empty range');
SELECT throws_ok($$SELECT a67.database_range_assign('define', 'day', 's3', '2026-03-01')$$, '22023', 'database "define" has no shard "s3"', 'no such shard');
SELECT throws_ok($$SELECT a67.database_range_assign('define', 'tenant', 's1')$$, '22023', NULL, 'a directory has no ranges');
SELECT is(a67.shard_of('define.log', '2026-01-31'), 's1', 'the ranges are used');
SELECT lives_ok($$SELECT a67.database_key_assign('define', 'tenant', 'acme', 's2')$$, 'a key');
SELECT results_eq($$SELECT s.name FROM a67_internal.shard_directory d JOIN a67_internal.database_shard s USING (shard_id) WHERE d.key = 'acme' AND d.database_id = '00000000-0000-0000-0000-0000000ddddd'$$, ARRAY['s2'], 'is there');
SELECT throws_ok($$SELECT a67.database_key_assign('define', 'day', '2026-01-01', 's2')$$, '22023', NULL, 'ranges have no keys');

-- ---- import ----
SELECT is(a67_internal._import_definition('Old', '{"primary": "p", "unique": {"p": ["id", "No"]}, "columns": [
    {"name": "id", "type": "integer", "not_null": true, "identity": "a", "generated": false},
    {"name": "No", "type": "text", "collation": "C", "not_null": false, "identity": "", "generated": false, "default": "''x''::text"},
    {"name": "g", "type": "integer", "not_null": false, "identity": "", "generated": true, "default": "(id * 2)"}]}'),
    'CREATE TABLE "Old" (id integer NOT NULL GENERATED BY DEFAULT AS IDENTITY, "No" text COLLATE "C" DEFAULT ''x''::text, g integer GENERATED ALWAYS AS ((id * 2)) STORED, PRIMARY KEY (id, "No"))',
    'the definition of what shards have');
SELECT is(a67_internal._import_difference(jsonb_build_object('columns', one), jsonb_build_object('columns', other)), difference, coalesce(difference, 'equal'))
FROM (VALUES
    ('[{"name": "a", "type": "int"}]'::jsonb, '[{"name": "a", "type": "int"}]'::jsonb, NULL),
    ('[{"name": "a", "type": "int"}]', '[{"name": "a", "type": "text"}]', 'Column "a" has another type.'),
    ('[{"name": "a", "not_null": true}]', '[{"name": "a", "not_null": false}]', 'Column "a" has another not null.'),
    ('[{"name": "a"}, {"name": "b"}]', '[{"name": "a"}]', 'Column "b" is missing there.'),
    ('[{"name": "a"}]', '[{"name": "a"}, {"name": "b"}]', 'Column "b" is there only.'),
    ('[{"name": "a"}, {"name": "b"}]', '[{"name": "b"}, {"name": "a"}]', 'The order of its columns is another.')) d (one, other, difference);
SELECT * FROM finish();
ROLLBACK;
