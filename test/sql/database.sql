\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(39);
-- Whose databases are whose. What is created over a network is tested in test/e2e/test_router_catalog.py.
INSERT INTO a67_internal."user" (user_id, email, role) VALUES
    ('00000000-0000-0000-0000-0000000000a1', 'ann@example.org', 'a67_user'),
    ('00000000-0000-0000-0000-0000000000b2', 'bob@example.org', 'a67_user');
INSERT INTO a67_internal.database (database_id, owner_id, name, key) VALUES
    ('00000000-0000-0000-0000-00000000da7a', '00000000-0000-0000-0000-0000000000a1', 'anns', 'id'),
    ('00000000-0000-0000-0000-00000000da7b', '00000000-0000-0000-0000-0000000000b2', 'bobs', NULL),
    ('00000000-0000-0000-0000-00000000da7c', NULL, 'operators', NULL);
INSERT INTO a67_internal.database_shard (database_id, name, weight, connection_sealed)
SELECT database_id, s.name, s.weight, '\x00' FROM a67_internal.database, (VALUES ('s1', 1), ('s2', 3)) s (name, weight);
INSERT INTO a67_internal.shard_replica (shard_id) SELECT shard_id FROM a67_internal.database_shard WHERE name = 's1';
CREATE FUNCTION pg_temp.act_as(person text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', format('{"role": "a67_user", "sub": "00000000-0000-0000-0000-0000000000%s"}', person), true);
END
$$;

-- ---- a user ----
SELECT pg_temp.act_as('a1') \g /dev/null
SET LOCAL ROLE a67_user;
SELECT is(jsonb_path_query_array(a67.database_list(), '$[*].name'), '["anns"]', 'her own are listed');
SELECT is(a67.database_get('anns') -> 'sharding', '{"strategy": "hash", "key": "id"}', 'her own, by name');
SELECT is(a67.database_get('00000000-0000-0000-0000-00000000DA7A') ->> 'name', 'anns', 'her own, by id');
SELECT is(jsonb_path_query_array(a67.database_get('anns'), '$.shards[*].replicas'), '[1, 0]', 'with replicas');
SELECT ok((a67.database_get('anns') #>> '{shards,1,share}')::numeric BETWEEN 0.6 AND 0.9, 'and shares by weight');
SELECT ok(a67.database_get('anns')::text !~ 'connection|sealed', 'and no connection string');
SELECT is((SELECT string_agg(name, ' ') FROM a67.database), 'anns', 'view database');
SELECT is((SELECT string_agg(concat_ws('.', database, name, replicas), ' ' ORDER BY name) FROM a67.database_shard), 'anns.s1.1 anns.s2.0', 'view database_shard');
SELECT is((SELECT count(*) FROM a67_internal.database), 1::bigint, 'the table itself shows no more');
SELECT throws_ok('SELECT connection_sealed FROM a67_internal.database_shard', '42501', NULL, 'sealed strings are for nobody');
SELECT throws_ok('SELECT connection_sealed FROM a67_internal.shard_replica', '42501', NULL, 'nor are replicas''');
SELECT throws_ok('SELECT * FROM a67_internal.shard_range', '42501', NULL, 'ranges are read by functions');
SELECT throws_ok('SELECT * FROM a67_internal.shard_directory', '42501', NULL, 'so are directories');
SELECT throws_ok($$UPDATE a67_internal.database SET name = 'mine'$$, '42501', NULL, 'nothing is written');
SELECT throws_ok($$SELECT a67.database_get('bobs')$$, 'PT404', 'database "bobs" does not exist', 'other people''s do not exist');
SELECT throws_ok($$SELECT a67.database_get('nobodys')$$, 'PT404', 'database "nobodys" does not exist', 'as what does not exist');
SELECT throws_ok($$SELECT a67.database_get('operators')$$, 'PT404', NULL, 'nor does the operator''s');
SELECT throws_ok($$SELECT a67.database_get('00000000-0000-0000-0000-00000000da7b')$$, 'PT404', NULL, 'by id neither');
SELECT throws_ok($$SELECT a67.database_get(NULL)$$, 'PT404', NULL, 'null is none');
SELECT throws_ok($$SELECT a67.database_drop('bobs')$$, 'PT404', NULL, 'nothing of others is dropped');
SELECT throws_ok($$SELECT a67_internal._shard_try('host=x', 's1', 'SELECT 1', true)$$, '42501', NULL, 'no connection without a database');
SELECT throws_ok($$SELECT a67_internal._shard_ask('a67_anns', 'SELECT 1', NULL)$$, '42501', NULL, 'no statement past the router');
SELECT throws_ok($$SELECT a67_internal._database_changed('anns')$$, '42501', NULL, 'no invalidation');
SELECT throws_ok($$SELECT a67_internal._shards_where('pg_class', 'true')$$, '42501', NULL, 'no conditions');
SELECT throws_ok($$SELECT a67.shard_of('a67_internal.database'::regclass::oid::regclass, 'x')$$, '42809', NULL, 'a table she may read is still no virtual one');
SELECT throws_ok($$SELECT a67.shard_of('a67_internal.vault'::regclass::oid::regclass, 'x')$$, '42P01', NULL, 'one she may not read does not exist');
RESET ROLE;

SELECT pg_temp.act_as('b2') \g /dev/null
SET LOCAL ROLE a67_user;
SELECT is(jsonb_path_query_array(a67.database_list(), '$[*].name'), '["bobs"]', 'he sees his');
RESET ROLE;

-- ---- an administrator, nobody, and the operator ----
SET LOCAL ROLE a67_admin;
SELECT is(jsonb_path_query_array(a67.database_list(), '$[*].name'), '["anns", "bobs", "operators"]', 'an administrator sees all');
SELECT is(a67.database_get('operators') ->> 'name', 'operators', 'the operator''s too');
SELECT is((SELECT count(*) FROM a67.database_shard), 6::bigint, 'and all shards');
RESET ROLE;
SELECT set_config('request.jwt.claims', '', true) \g /dev/null
SET LOCAL ROLE a67_user;
SELECT is(a67.database_list(), '[]', 'nobody has none');
SELECT throws_ok($$SELECT a67.database_get('anns')$$, 'PT401', NULL, 'and finds none');
RESET ROLE;
SET LOCAL ROLE a67_anon;
SELECT throws_ok($$SELECT a67.database_list()$$, '42501', NULL, 'strangers may not ask');
SELECT throws_ok($$SELECT a67.database_create('x', '[]')$$, '42501', NULL, 'nor create');
RESET ROLE;
SELECT is(a67.database_list(2, 1) -> 1 ->> 'name', 'operators', 'a page of the list');
SELECT throws_ok('SELECT a67.database_list(0)', '22023', NULL, 'a page of none');
SELECT lives_ok($$SELECT a67.database_drop('bobs')$$, 'what has no schema, server and roles can be dropped');
SELECT is((SELECT count(*) FROM a67_internal.database_shard s JOIN a67_internal.shard_replica USING (shard_id)), 2::bigint, 'its shards go with it');
SELECT throws_ok($$SELECT a67.database_drop('bobs')$$, 'PT404', NULL, 'once');
SELECT * FROM finish();
ROLLBACK;
