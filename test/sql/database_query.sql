\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
-- The frame that hostile SQL runs in, on a schema of ordinary tables: what it lets through, and that nothing of it stays.
SELECT plan(68);

CREATE ROLE frame NOLOGIN;
CREATE SCHEMA stall;
CREATE TYPE stall.mood AS ENUM ('bad', 'good');
CREATE DOMAIN stall.short AS text CHECK (length(value) < 10);
CREATE DOMAIN stall.trap AS text CHECK (pg_backend_pid() > 0);
CREATE TABLE stall.item (id serial PRIMARY KEY, name text, feels stall.mood, label stall.short, at timestamptz DEFAULT now(), key uuid DEFAULT gen_random_uuid());
CREATE TABLE stall.trapped (id int, t stall.trap, pid int DEFAULT pg_backend_pid(), r regclass);
CREATE TABLE stall.hidden (id int);
CREATE VIEW stall.good AS SELECT id, name FROM stall.item WHERE feels = 'good';
CREATE VIEW stall.spy AS SELECT usename FROM pg_stat_activity;
CREATE VIEW stall.slow AS SELECT pg_backend_pid() AS pid;
GRANT USAGE ON SCHEMA stall TO frame;
GRANT SELECT, INSERT, UPDATE, DELETE ON stall.item, stall.trapped, stall.good, stall.spy, stall.slow TO frame;
GRANT USAGE ON SEQUENCE stall.item_id_seq TO frame;

CREATE FUNCTION pg_temp.ask(query text, params jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql
    AS $$SELECT a67_internal._query_run('stall', 'frame', query, params)$$;
CREATE FUNCTION pg_temp.data(query text, params jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql
    AS $$SELECT pg_temp.ask(query, params) -> 'data'$$;
-- SQLSTATE and detail of an error; the transaction goes on as in a function that catches it.
CREATE FUNCTION pg_temp.error(query text, params jsonb DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM pg_temp.ask(query, params);
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN sqlstate || rtrim(' ' || detail);
END
$$;

-- What is allowed.
SELECT is(pg_temp.data($$INSERT INTO item (name, feels, label) VALUES ('a', 'good', 'x'), ('b', 'bad', NULL) RETURNING id, name, feels$$),
    '[[1, "a", "good"], [2, "b", "bad"]]', 'defaults of sequences, times and uuids');
SELECT is(pg_temp.data('SELECT * FROM good'), '[[1, "a"]]', 'a view of the schema');
SELECT is(pg_temp.data('SELECT name FROM stall.item WHERE id = $1', '[2]'), '[["b"]]', 'a qualified name and a parameter');
SELECT is(pg_temp.data('SELECT enum_range(NULL::mood), $1::mood, ''ab''::short', '["bad"]'), '[[["bad", "good"], "bad", "ab"]]', 'own types');
SELECT is(pg_temp.data('SELECT i FROM item i WHERE id = 1') #>> '{0,0,name}', 'a', 'a whole row');
SELECT is(pg_temp.data('SELECT current_user'), '[["frame"]]', 'whose rights');
SELECT is(pg_temp.data('SELECT pg_typeof(1)'), '[["integer"]]', 'pg_typeof');
SELECT is(pg_temp.data('SELECT nextval(''item_id_seq'')'), '[[3]]', 'a sequence of the schema');
SELECT is(pg_temp.ask('UPDATE item SET name = ''c'' WHERE id = 2') -> 'rows_affected', '1', 'changed rows are counted');
SELECT is(pg_temp.ask('DELETE FROM item WHERE id = 2') -> 'rows_affected', '1', 'deleted ones too');
SELECT is(pg_temp.data('EXPLAIN (COSTS OFF) SELECT 1'), '[["Result"]]', 'EXPLAIN');
SELECT is(pg_temp.data('WITH w AS (INSERT INTO item (name) VALUES (''w'') RETURNING name) SELECT * FROM w'), '[["w"]]', 'a writing CTE');
SELECT is(pg_temp.ask('SELECT 1 AS a, ''x''::varchar(5) AS "B c"') -> 'columns',
    '[{"name": "a", "type": "integer"}, {"name": "B c", "type": "character varying(5)"}]', 'columns');
SELECT is(pg_temp.ask('SELECT FROM item WHERE false') - 'query' - 'execution_time_ms',
    '{"columns": [], "data": [], "rows_returned": 0, "shards_queried": 0, "token": null}', 'no columns, no rows');

-- What is not.
SELECT alike(pg_temp.error(query), '42501%', query) FROM unnest(ARRAY[
    'SELECT * FROM hidden', 'SELECT * FROM spy', 'TABLE pg_class', 'INSERT INTO pg_class SELECT * FROM pg_class', 'SELECT lastval()',
    'SET ROLE frame', 'RESET ALL', 'VACUUM', 'COPY item TO STDOUT', 'NOTIFY x', 'LISTEN x', 'BEGIN', 'COMMIT', 'DO ''BEGIN END''', 'SHOW ALL',
    'INSERT INTO trapped (id, t) VALUES (1, ''x'')', 'INSERT INTO trapped (id) VALUES (1)', 'SELECT r FROM trapped',
    'SELECT trapped FROM trapped', 'SELECT ''x''::trap', 'SELECT * FROM slow', 'SELECT a67.version()', 'SELECT * FROM a67_internal.database',
    'SELECT set_config(''role'', ''none'', false)', 'SELECT current_setting(''role'')', 'SELECT pg_advisory_lock(1)',
    'SELECT array_agg(c) FROM pg_class c', 'SELECT 1::regclass', 'SELECT (SELECT max(oid) FROM pg_proc)', 'VALUES (pg_backend_pid())',
    'EXPLAIN SELECT pg_backend_pid()', 'SELECT 1 ORDER BY pg_backend_pid()', 'SELECT nextval(1259::regclass)', 'SELECT regclassin(''item'')']) query;

-- Errors: one statement, positions, parameters.
SELECT is(pg_temp.error('SELECT 1; SELECT 2'), '42601 Field: query.', 'two statements');
SELECT is(pg_temp.error(''), '42601 Field: query.', 'none');
SELECT is(pg_temp.error(E'SELECT\n nope'), '42703 Field: query, line 2, column 2 (position 9).', 'a place');
SELECT is(pg_temp.error('SELECT * FROM itme'), '42P01 Field: query, line 1, column 15 (position 15).', 'an unknown table');
SELECT throws_like($$SELECT pg_temp.ask('SELECT 1/0')$$, 'division by zero', 'errors keep their message');
SELECT is(pg_temp.error('SELECT $1::int', '["x"]'), '22P02 Field: params, number 1.', 'a parameter of the wrong type');
SELECT is(pg_temp.error('SELECT $1::int', '{"a": 1}'), '22023 Field: params.', 'no array');
SELECT is(pg_temp.error('SELECT $2::int', '[1]'), '22023 Field: params.', 'too few');
SELECT is(pg_temp.error('INSERT INTO item (label) VALUES ($1)', '["much too long"]'), '23514 Field: params, number 1.', 'a check of a domain');
SELECT is(pg_temp.error('SELECT generate_series(1, 100000)'), '54000', 'too many rows');

-- What stays: nothing.
SELECT is(current_user::text, session_user::text, 'the role is as before');
SELECT is(setting, reset_val, name || ' is as before') FROM pg_settings
WHERE name IN ('jit', 'temp_file_limit', 'max_parallel_workers_per_gather', 'a67.shard_timeout') ORDER BY name;
SELECT unalike(current_setting('search_path'), '%stall%', 'the search path is as before');
SELECT is((SELECT count(*) FROM pg_cursors WHERE NOT is_holdable AND name LIKE '<unnamed%'), 0::bigint, 'no portal is left');
SELECT throws_ok($$SELECT a67_internal._query_run('nowhere', 'frame', 'SELECT 1', NULL)$$, '3F000', NULL, 'an unknown schema');
SELECT throws_ok($$SELECT a67.database_query('nowhere', 'SELECT 1')$$, 'PT404', NULL, 'an unknown database');
SELECT throws_ok($$SELECT a67.database_role_create('nowhere', 'nobody')$$, 'PT404', NULL, 'a role of an unknown database');

SELECT * FROM finish();
ROLLBACK;
