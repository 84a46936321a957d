\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(74);

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
-- What an error says in its DETAIL, behind its code.
CREATE FUNCTION pg_temp.detail(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    words text;
BEGIN
    EXECUTE query;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS words = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || words;
END
$$;
-- A registration with a fresh token and key, and one more argument.
CREATE FUNCTION pg_temp.variant(argument text, value text) RETURNS text LANGUAGE sql AS $$
    SELECT format('SELECT a67.node_register(a67.join_token_create() ->> ''token'', ''https://h:1'', repeat(''V'', 43), '
                  'pg_temp.capabilities(), %I => %L)', argument, value)
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
SELECT is(pg_temp.detail($$SELECT a67.join_token_create(provider => 'No Blanks')$$), '22023 Field: provider.', 'a provider that is no word');
SELECT is(pg_temp.detail($$SELECT a67.join_token_create(region => '')$$), '22023 Field: region.', 'a region without a name');
SELECT is(pg_temp.detail($$SELECT a67.join_token_create(name => 'UPPER')$$), '22023 Field: name.', 'a node name that is none');

-- Registration
SELECT throws_ok($$SELECT pg_temp.register('a67j.x.y', 'A')$$, 'PT401', 'join token is invalid or expired', 'an unknown token');
SELECT throws_ok($$SELECT pg_temp.register('', 'A')$$, 'PT401', NULL, 'an empty token');
SELECT throws_ok($$SELECT pg_temp.register(NULL, 'A')$$, 'PT401', NULL, 'no token');
SELECT throws_ok($$SELECT pg_temp.register(pg_temp.it('token'), '*')$$, '22023', NULL, 'a key that is none');
SELECT throws_ok($$SELECT pg_temp.register(pg_temp.it('token'), 'A', 'Bad Name')$$, '22023', NULL, 'a name that is none');
SELECT throws_ok($$SELECT a67.node_register(pg_temp.it('token'), 'ftp://x', repeat('A', 43), pg_temp.capabilities())$$,
    '22023', NULL, 'an endpoint that is none');
SELECT throws_ok($$SELECT a67.node_register(pg_temp.it('token'), 'https://h:1', repeat('A', 43), '{"cpu_cores": 1}')$$,
    '22023', 'capability "memory_gb" is missing', 'a capability missing');
SELECT throws_ok($$SELECT a67.node_register(pg_temp.it('token'), 'https://h:1', repeat('A', 43), pg_temp.capabilities() || '{"gpu": 1}')$$,
    '22023', 'unknown capability "gpu"', 'a capability unknown');
SELECT is_empty($$
    SELECT argument, value, pg_temp.detail(pg_temp.variant(argument, value)) FROM (VALUES
        ('provider', 'Render'), ('provider', ''), ('region', 'eu west'), ('region', repeat('r', 64)), ('tier', 'Free!'),
        ('version', ''), ('version', repeat('v', 65)), ('version', E'1\n2'),
        ('services', '{}'), ('services', '{gpu}'), ('services', '{compute,NULL}'),
        ('labels', '[]'), ('labels', '"a"'), ('labels', 'null'), ('labels', '{"A": "x"}'), ('labels', '{"": "x"}'), ('labels', '{"-a": "x"}'),
        ('labels', (SELECT jsonb_object_agg('k' || i, 'v')::text FROM generate_series(1, 17) i))) v (argument, value)
    WHERE pg_temp.detail(pg_temp.variant(argument, value)) <> format('22023 Field: %s.', argument)$$, 'what is not what it should be is named');
SELECT is_empty($$
    SELECT value, pg_temp.detail(pg_temp.variant('labels', value)) FROM (VALUES ('{"a": 1}'), ('{"a": null}'), ('{"a": {}}'),
        (jsonb_build_object('a', repeat('x', 129))::text), ('{"a": "\u0007"}')) v (value)
    WHERE pg_temp.detail(pg_temp.variant('labels', value)) <> '22023 Field: labels.a.'$$, 'so is a label that is no short text');
SELECT is_empty($$SELECT e FROM unnest(ARRAY['http://h', 'http://h:0', 'http://h:65536', 'http://h:1/x', 'http://u@h:1', 'http://h h:1']) e
    WHERE pg_temp.detail(format('SELECT a67.node_register(pg_temp.it(''token''), %L, repeat(''A'', 43), pg_temp.capabilities())', e))
          <> '22023 Field: endpoint.'$$, 'an endpoint is scheme, host and port');
SELECT is_empty($$SELECT c FROM unnest(ARRAY['{"cpu_cores": 0}', '{"memory_gb": -1}', '{"disk_gb": "10"}', '{"disk_gb": 1e7}',
        '{"max_concurrent_requests": 1.5}', '{"max_concurrent_requests": true}']::jsonb[]) c
    WHERE pg_temp.detail(format('SELECT a67.node_register(pg_temp.it(''token''), ''https://h:1'', repeat(''A'', 43), %L)',
              pg_temp.capabilities() || c)) <> format('22023 Field: capabilities.%s.', (SELECT jsonb_object_keys(c)))$$,
    'a capability is a positive number');
INSERT INTO it SELECT 'one', pg_temp.register(pg_temp.it('token'), 'A', 'oak') ->> 'node_id';
SELECT is(pg_temp.status('one'), 'initializing', 'registered after all these failures: the token was not spent by them');
SELECT is(pg_temp.register(pg_temp.it('token'), 'A', 'oak') ->> 'node_id', pg_temp.it('one'), 'the same again is the same node');
SELECT is(pg_temp.register(pg_temp.it('token'), 'A') ->> 'controller_key', split_part(pg_temp.it('token'), '.', 3),
    'the answer carries the pinned key');
SELECT is_empty($$SELECT e FROM unnest(ARRAY['http://10.0.0.1:80', 'http://h:1', 'http://127.0.0.1.h:1', 'http://[::2]:1', 'http://localhost.h:1',
        'https://h', 'https://h:0', 'https://h:65536', 'https://h:1/', 'https://u@h:1', 'ftp://h:1', 'https://h h:1', '']) e
    WHERE pg_temp.detail(format('SELECT a67.node_register(pg_temp.it(''token''), %L, repeat(''A'', 43), pg_temp.capabilities())', e))
        <> '22023 Field: endpoint.'$$, 'an endpoint is an https URL with a port; http is for loopback addresses');
SELECT is((SELECT count(*) FROM unnest(ARRAY['https://h:1', 'https://[2001:db8::1]:1', 'http://127.0.0.1:1', 'http://127.1.2.3:65535', 'http://[::1]:1',
    'http://localhost:1']) e WHERE a67_internal._endpoint_check(e) = e), 6::bigint, 'which are these');
SELECT is(a67_internal._node_pin('11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo'), 'sha256//BuP9j9opu2CrWVV95h7bCuzbIxE0vjDnW0Vfjht5L6k=',
    'the pin of a node is the hash of its key as a certificate has it (RFC 8410)');
SELECT is((SELECT array_agg(DISTINCT a67_internal._node_pin(k)) FROM unnest(ARRAY['', 'no key', repeat('B', 43), repeat('A', 44)]) k),
    ARRAY['sha256//' || repeat('A', 43) || '='], 'what is no key has a pin that no server has');
SELECT throws_ok($$SELECT pg_temp.register(pg_temp.it('token'), 'B')$$, 'PT401', NULL, 'single use');
SELECT throws_ok($$SELECT pg_temp.register(a67.join_token_create() ->> 'token', 'A')$$, '23505', 'node is already registered',
    'the same key by another token');
SELECT is(pg_temp.detail($$SELECT pg_temp.register(a67.join_token_create() ->> 'token', 'A')$$), '23505 ' || pg_temp.it('one'),
    'and names that node');
SELECT throws_ok($$SELECT pg_temp.register(a67.join_token_create() ->> 'token', 'B', 'oak')$$, '23505', 'node "oak" already exists',
    'a name twice');
SELECT is(pg_temp.detail($$SELECT pg_temp.register(a67.join_token_create() ->> 'token', 'B', 'oak')$$), '23505 ' || pg_temp.it('one'),
    'and names that node');
SELECT is(pg_temp.detail(pg_temp.variant('node_id', pg_temp.it('one'))), '23505 ' || pg_temp.it('one'), 'an id twice');
SELECT is(a67.node_register(pg_temp.it('token'), 'http://127.0.0.1:7002', repeat('A', 43), pg_temp.capabilities(), node_id => pg_temp.it('one')::uuid,
    labels => '{"late": "yes"}') ->> 'node_id', pg_temp.it('one'), 'the same again, by its id');
SELECT results_eq($$SELECT endpoint, labels, name FROM a67.node WHERE node_id = pg_temp.it('one')::uuid$$,
    $$VALUES ('http://127.0.0.1:7002', '{}'::jsonb, 'oak')$$, 'a retry tells where the node is, the rest counted at first');
SELECT is(pg_temp.detail(format('SELECT a67.node_register(pg_temp.it(''token''), ''https://h:1'', repeat(''A'', 43), pg_temp.capabilities(), node_id => %L)',
    gen_random_uuid())), '23505 ' || pg_temp.it('one'), 'a node has one id');
SELECT throws_ok($$SELECT pg_temp.register(a67.join_token_create(provider => 'render') ->> 'token', 'B', provider => 'flyio')$$,
    'PT401', NULL, 'a token for another provider');
SELECT throws_ok($$SELECT pg_temp.register(a67.join_token_create(name => 'fir') ->> 'token', 'B', 'elm')$$, 'PT401', NULL, 'for another name');
SELECT throws_ok($$SELECT a67.node_register(a67.join_token_create(region => 'eu-west-1') ->> 'token', 'https://h:1', repeat('B', 43),
    pg_temp.capabilities(), region => 'us-east-1')$$, 'PT401', 'join token is for another provider, region or name', 'for another region');
INSERT INTO it SELECT 'two', pg_temp.register(a67.join_token_create(provider => 'render', name => 'elm') ->> 'token', 'B') ->> 'node_id';
SELECT results_eq($$SELECT name, provider FROM a67.node WHERE node_id = pg_temp.it('two')::uuid$$,
    $$VALUES ('elm', 'render')$$, 'what the node leaves open, the token decides');
SELECT a67.node_register(a67.join_token_create(region => 'eu-west-1') ->> 'token', 'http://[::1]:1', repeat('C', 43), pg_temp.capabilities(),
    provider => 'flyio', node_id => '00000000-0000-4000-8000-00000000000c', services => '{storage,compute,storage}', labels => '{"gpu": "no", "rack/row": "3 b"}',
    tier => 'hobby', version => '1.2') \g /dev/null
SELECT results_eq($$SELECT node_id, name, provider, region, tier, services, labels, version, desired_state, status, max_concurrent_requests FROM a67.node
        WHERE name LIKE 'node-%'$$,
    $$VALUES ('00000000-0000-4000-8000-00000000000c'::uuid, 'node-00000000', 'flyio', 'eu-west-1', 'hobby', '{compute,storage}'::text[],
        '{"gpu": "no", "rack/row": "3 b"}'::jsonb, '1.2', 'active', 'initializing', 100)$$, 'and what the token leaves open, the node');
SELECT results_eq($$SELECT region, services, labels, tier FROM a67.node WHERE node_id = pg_temp.it('two')::uuid$$,
    $$VALUES (NULL::text, '{compute}'::text[], '{}'::jsonb, NULL::text)$$, 'what nobody says has its default');

-- Revoking tokens
SELECT throws_ok($$SELECT a67.join_token_revoke(gen_random_uuid())$$, 'PT404', NULL, 'a token that is not there');
INSERT INTO it SELECT k, t ->> v FROM (SELECT a67.join_token_create() AS t) t, (VALUES ('unused', 'token'), ('unused id', 'join_token_id')) k (k, v);
SELECT isnt_empty($$SELECT FROM a67.join_token WHERE join_token_id = pg_temp.it('unused id')::uuid AND used_at IS NULL$$, 'a token has an id');
SELECT ok(a67.join_token_list() @> jsonb_build_array(jsonb_build_object('join_token_id', pg_temp.it('unused id')))
    AND strpos(a67.join_token_list()::text, split_part(pg_temp.it('unused'), '.', 2)) = 0, 'by which it is listed, without the token');
SELECT a67.join_token_revoke(pg_temp.it('unused id')::uuid);
SELECT throws_ok($$SELECT pg_temp.register(pg_temp.it('unused'), 'D')$$, 'PT401', NULL, 'revoked, it admits nobody');
SELECT a67.join_token_revoke(join_token_id) FROM a67.join_token WHERE node_id = pg_temp.it('one')::uuid;
SELECT throws_ok($$SELECT pg_temp.register(pg_temp.it('token'), 'A', 'oak')$$, 'PT401', NULL, 'a spent one ends too');
SELECT is(pg_temp.status('one'), 'initializing', 'the node that it admitted stays');
SELECT is((SELECT count(*) FROM a67.audit WHERE action = 'join_token.revoke'), 2::bigint, 'and it is in the audit trail');
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
SELECT results_eq($$SELECT method, url, pin FROM a67_internal._reconciler_plan(now()) WHERE key LIKE 'stray ' || pg_temp.it('one') || '%'$$,
    $$VALUES ('DELETE', 'http://127.0.0.1:7002/v1/replicas/00000000-0000-4000-8000-000000000001',
              'sha256//ciq9EumaU2fzda65ZyqOB3EuA8Kt0W+o1pFNHPou/gw=')$$, 'and is to be removed, by a server with the key of the node');
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
SELECT is((SELECT count(DISTINCT node_id) FROM a67.node_select(2, 1000000, 0.1, seed => 7)), 2::bigint, 'two replicas on two nodes');
SELECT throws_ok($$SELECT a67.node_select(1, 10000000000, 0.1)$$, '53000', 'insufficient capacity for 1 replicas', 'none has that much memory');
SELECT ok((SELECT bool_and(score BETWEEN 0 AND 1 AND parts ?& ARRAY['cpu', 'memory', 'latency', 'connections', 'reliability'])
           FROM a67.node_select(1, 0, 0, seed => 7)), 'the score is explained');

-- Removal
SELECT throws_ok($$SELECT a67.node_deregister('nix')$$, 'PT404', 'node "nix" does not exist', 'a node that is not there');
SELECT a67.node_deregister('oak');
SELECT is_empty($$SELECT FROM a67.node WHERE name = 'oak'$$, 'removed: not shown');
SELECT throws_ok($$SELECT pg_temp.beat('one', 9)$$, 'PT410', NULL, 'and told so');
SELECT set_config('request.jwt.claims', '', true) \g /dev/null
SELECT is(pg_temp.detail(pg_temp.variant('node_id', pg_temp.it('one'))), '23505 ' || pg_temp.it('one'), 'its id is not used again');
SELECT lives_ok($$SELECT pg_temp.register(a67.join_token_create() ->> 'token', 'A', 'oak')$$, 'its name and key are free again');
SELECT throws_ok($$SELECT a67.node_deregister(pg_temp.it('one'))$$, 'PT404', NULL, 'removed once');

SELECT * FROM finish();
ROLLBACK;
