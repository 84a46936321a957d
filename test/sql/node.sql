\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(44);

CREATE TEMP TABLE it (what text PRIMARY KEY, value text);
CREATE FUNCTION pg_temp.it(what text) RETURNS text LANGUAGE sql AS 'SELECT value FROM it WHERE it.what = $1';
CREATE FUNCTION pg_temp.capabilities() RETURNS jsonb LANGUAGE sql AS
    $$SELECT '{"cpu_cores": 2, "memory_gb": 0.5, "disk_gb": 10}'::jsonb$$;
CREATE FUNCTION pg_temp.register(token text, key_letter text, name text DEFAULT NULL, provider text DEFAULT NULL)
RETURNS jsonb LANGUAGE sql AS $$
    SELECT a67.node_register(token, 'http://127.0.0.1:7001', repeat(key_letter, 43), pg_temp.capabilities(),
                             name => register.name, provider => register.provider)
$$;
CREATE FUNCTION pg_temp.beat(node text, version bigint, replicas jsonb DEFAULT '[]', boot text DEFAULT 'aaaaaaaa',
    status text DEFAULT 'ok') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', json_build_object('role', 'a67_node', 'sub', pg_temp.it(node))::text, true);
    PERFORM a67.node_heartbeat(boot, version, '{"cpu_percent": 10, "memory_percent": 20}', replicas, NULL, status);
    PERFORM set_config('request.jwt.claims', '', true);
END
$$;
CREATE FUNCTION pg_temp.status(node text) RETURNS text LANGUAGE sql AS
    $$SELECT status FROM a67.node WHERE node_id = pg_temp.it(status.node)::uuid$$;

-- Join tokens
INSERT INTO it SELECT 'token', a67.join_token_create() ->> 'token';
SELECT matches(pg_temp.it('token'), '^a67j\.[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{43}$', 'a join token: prefix, secret, controller key');
SELECT is_empty($$SELECT FROM a67_internal.join_token t WHERE strpos(t::text, split_part(pg_temp.it('token'), '.', 2)) > 0$$,
    'the secret itself is not stored');
SELECT is(current_setting('response.status', true), '201', 'made: 201');
SELECT throws_ok($$SELECT a67.join_token_create(ttl => '0 seconds')$$, '22023', NULL, 'a token without life');
SELECT throws_ok($$SELECT a67.join_token_create(ttl => '31 days')$$, '22023', NULL, 'a token that lives too long');

-- Registration
SELECT throws_ok($$SELECT pg_temp.register('a67j.x.y', 'A')$$, 'PT401', 'join token is invalid or expired', 'an unknown token');
SELECT throws_ok($$SELECT pg_temp.register('', 'A')$$, 'PT401', NULL, 'an empty token');
SELECT throws_ok($$SELECT pg_temp.register(NULL, 'A')$$, 'PT401', NULL, 'no token');
SELECT throws_ok($$SELECT pg_temp.register(pg_temp.it('token'), '*')$$, '22023', NULL, 'a key that is none');
SELECT throws_ok($$SELECT pg_temp.register(pg_temp.it('token'), 'A', 'Bad Name')$$, '22023', NULL, 'a name that is none');
SELECT throws_ok($$SELECT a67.node_register(pg_temp.it('token'), 'ftp://x', repeat('A', 43), pg_temp.capabilities())$$,
    '22023', NULL, 'an endpoint that is none');
SELECT throws_ok($$SELECT a67.node_register(pg_temp.it('token'), 'http://h:1', repeat('A', 43), '{"cpu_cores": 1}')$$,
    '22023', 'capability "memory_gb" is missing', 'a capability missing');
SELECT throws_ok($$SELECT a67.node_register(pg_temp.it('token'), 'http://h:1', repeat('A', 43), pg_temp.capabilities() || '{"gpu": 1}')$$,
    '22023', 'unknown capability "gpu"', 'a capability unknown');
INSERT INTO it SELECT 'one', pg_temp.register(pg_temp.it('token'), 'A', 'oak') ->> 'node_id';
SELECT is(pg_temp.status('one'), 'initializing', 'registered after all these failures: the token was not spent by them');
SELECT is(pg_temp.register(pg_temp.it('token'), 'A', 'oak') ->> 'node_id', pg_temp.it('one'), 'the same again is the same node');
SELECT is(pg_temp.register(pg_temp.it('token'), 'A') ->> 'controller_key', split_part(pg_temp.it('token'), '.', 3),
    'the answer carries the pinned key');
SELECT throws_ok($$SELECT pg_temp.register(pg_temp.it('token'), 'B')$$, 'PT401', NULL, 'single use');
SELECT throws_ok($$SELECT pg_temp.register(a67.join_token_create() ->> 'token', 'A')$$, '23505', 'node is already registered',
    'the same key by another token');
SELECT throws_ok($$SELECT pg_temp.register(a67.join_token_create() ->> 'token', 'B', 'oak')$$, '23505', 'node "oak" already exists',
    'a name twice');
SELECT throws_ok($$SELECT pg_temp.register(a67.join_token_create(provider => 'render') ->> 'token', 'B', provider => 'flyio')$$,
    'PT401', NULL, 'a token for another provider');
INSERT INTO it SELECT 'two', pg_temp.register(a67.join_token_create(provider => 'render', name => 'elm') ->> 'token', 'B') ->> 'node_id';
SELECT results_eq($$SELECT name, provider FROM a67.node WHERE node_id = pg_temp.it('two')::uuid$$,
    $$VALUES ('elm', 'render')$$, 'what the node leaves open, the token decides');
UPDATE a67_internal.join_token SET expires_at = now() - interval '1 second' WHERE used_at IS NULL;

-- Heartbeats
SELECT throws_ok($$SELECT a67.node_heartbeat('aaaaaaaa', 1, '{}', '[]')$$, '42501', NULL, 'only a node beats');
SELECT lives_ok($$SELECT pg_temp.beat('one', 1)$$, 'a first beat');
SELECT is(pg_temp.status('one'), 'ready', 'makes the node ready');
SELECT is((SELECT cpu_percent FROM a67.node WHERE name = 'oak'), 10::real, 'its metrics are kept');
SELECT throws_ok($$SELECT pg_temp.beat('one', 1, '[]', 'zz')$$, '22023', NULL, 'a boot id that is none');
SELECT throws_ok($$SELECT pg_temp.beat('one', -1)$$, '22023', NULL, 'a version that is none');
SELECT throws_ok($$SELECT pg_temp.beat('one', 1, '{}')$$, '22023', NULL, 'replicas that are no array');
SELECT throws_ok($$SELECT pg_temp.beat('one', 1, '[]', 'aaaaaaaa', 'fine')$$, '22023', NULL, 'a status that is none');
SELECT pg_temp.beat('one', 2, '[{"id": "00000000-0000-4000-8000-000000000001", "generation": 1, "state": "running"}]');
SELECT is((SELECT stray_replicas FROM a67_internal.node_observed WHERE node_id = pg_temp.it('one')::uuid),
    ARRAY['00000000-0000-4000-8000-000000000001'::uuid], 'a replica that nobody knows is a stray');
SELECT results_eq($$SELECT method, url FROM a67_internal._reconciler_plan(now()) WHERE key LIKE 'stray ' || pg_temp.it('one') || '%'$$,
    $$VALUES ('DELETE', 'http://127.0.0.1:7001/v1/replicas/00000000-0000-4000-8000-000000000001')$$, 'and is to be removed');
SELECT is_empty($$SELECT FROM a67_internal._reconciler_plan(now()) WHERE key LIKE 'stray ' || pg_temp.it('one') || '%'$$,
    'not asked for twice at once');
SELECT a67_internal._reconciler_record(now(),
    ARRAY['stray ' || pg_temp.it('one') || ' 00000000-0000-4000-8000-000000000001'], ARRAY[204], ARRAY[''], ARRAY[NULL::text]) \g /dev/null
SELECT is((SELECT stray_replicas FROM a67_internal.node_observed WHERE node_id = pg_temp.it('one')::uuid), '{}', 'confirmed, forgotten');
SELECT pg_temp.beat('one', 1, '[{"id": "00000000-0000-4000-8000-000000000001", "generation": 1, "state": "running"}]');
SELECT is((SELECT state_version FROM a67_internal.node_observed WHERE node_id = pg_temp.it('one')::uuid), 2::bigint,
    'a beat that was overtaken changes nothing');
SELECT pg_temp.beat('one', 0, '[]', 'bbbbbbbb');
SELECT is((SELECT state_version FROM a67_internal.node_observed WHERE node_id = pg_temp.it('one')::uuid), 0::bigint,
    'a new boot starts anew');
SELECT pg_temp.beat('one', 1, '[]', 'bbbbbbbb', 'stopping');
SELECT is(pg_temp.status('one'), 'offline', 'a goodbye');
SELECT pg_temp.beat('one', 0, '[]', 'cccccccc');
SELECT is(pg_temp.status('one'), 'ready', 'and back');

-- Selection
SELECT pg_temp.beat('two', 1);
SELECT is((SELECT count(DISTINCT node_id) FROM a67.node_select(2, 1000000, 0.1, 7)), 2::bigint, 'two replicas on two nodes');
SELECT is((SELECT count(*) FROM a67.node_select(1, 10000000000, 0.1, 7)), 0::bigint, 'none has that much memory');
SELECT ok((SELECT bool_and(score BETWEEN 0 AND 1 AND parts ?& ARRAY['cpu', 'memory', 'latency', 'connections', 'reliability'])
           FROM a67.node_select(1, 0, 0, 7)), 'the score is explained');

-- Removal
SELECT throws_ok($$SELECT a67.node_remove('nix')$$, 'PT404', 'node "nix" does not exist', 'a node that is not there');
SELECT a67.node_remove('oak');
SELECT is_empty($$SELECT FROM a67.node WHERE name = 'oak'$$, 'removed: not shown');
SELECT throws_ok($$SELECT pg_temp.beat('one', 9)$$, 'PT410', NULL, 'and told so');
SELECT set_config('request.jwt.claims', '', true) \g /dev/null
SELECT lives_ok($$SELECT pg_temp.register(a67.join_token_create() ->> 'token', 'A', 'oak')$$, 'its name and key are free again');

SELECT * FROM finish();
ROLLBACK;
