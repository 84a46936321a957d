\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(129);

-- Ann and Bob; three nodes of Ann's, with keys that things can be sealed to.
CREATE TEMP TABLE person (name text PRIMARY KEY, user_id uuid);
INSERT INTO person SELECT n, a67.user_create(n || '@example.com') FROM unnest(ARRAY['ann', 'bob']) n;
INSERT INTO person SELECT 'root', a67.user_create('root@example.com', 'a67_admin');
GRANT SELECT ON person TO a67_user, a67_admin;
CREATE FUNCTION pg_temp.act_as(person text, role text DEFAULT 'a67_user') RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.user_id, 'role', role)::text, true) || set_config('role', role, true)
    FROM person p WHERE p.name = person
$$;
CREATE FUNCTION pg_temp.act_as_nobody() RETURNS text LANGUAGE sql AS
    $$SELECT set_config('role', 'none', true) || set_config('request.jwt.claims', '', true)$$;
-- What a statement says in DETAIL when it fails.
CREATE FUNCTION pg_temp.detail(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    EXECUTE statement;
    RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
    RETURN said;
END
$$;

SELECT pg_temp.act_as('ann') \g /dev/null
CREATE TEMP TABLE package ON COMMIT DROP AS SELECT a67.package_build('{"run": ""}') AS digest;
CREATE FUNCTION pg_temp.app(name text, change jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT a67.deployment_create(jsonb_build_object('name', name, 'entrypoint', '["./run"]'::jsonb, 'package', p.digest,
        'replicas', 0) || change) FROM package p
$$;

-- Storing
SELECT is(a67.secret_set('db-password', 'canary-one') - 'updated_at', '{"name": "db-password", "version": 1}'::jsonb, 'stored');
SELECT is(current_setting('response.status', true), '201', 'created');
SELECT is((a67.secret_set('db-password', 'canary-two') ->> 'version')::bigint, 2::bigint, 'replaced: the next version');
SELECT is(current_setting('response.status', true), '200', 'not created');
SELECT is((a67.secret_set('api.key_1', E'canary-three "\n\\ \u20ac') ->> 'version'), '1', 'any text');
SELECT throws_ok(format('SELECT a67.secret_set(%L, %L)', n, 'canary'), '22023', NULL, 'no name: ' || left(quote_nullable(n), 10))
FROM unnest(ARRAY[NULL, '', 'Upper', '-x', 'x.', 'a b', E'a\n', 'a/b', repeat('a', 64)]) n;
SELECT is(pg_temp.detail($$SELECT a67.secret_set('Upper', 'canary')$$), 'Field: name.', 'the field is named');
SELECT throws_ok($$SELECT a67.secret_set('x', NULL)$$, '22023', 'value must be a string of 1 to 65536 bytes', 'no value');
SELECT throws_ok($$SELECT a67.secret_set('x', '')$$, '22023', NULL, 'an empty value');
SELECT throws_ok($$SELECT a67.secret_set('x', repeat('x', 65537))$$, '22023', NULL, 'a value too long');
SELECT throws_ok($$SELECT a67.secret_set('x', repeat(chr(1), 20000))$$, '22023', NULL, 'or one that is, as it travels');
SELECT lives_ok($$SELECT a67.secret_set('large', repeat('x', 65536))$$, 'just long enough');
SELECT is(pg_temp.detail($$SELECT a67.secret_set('x', '')$$), 'Field: value.', 'again the field, not the value');

-- Seeing
SELECT is((SELECT string_agg(name || ' ' || version, ', ' ORDER BY name) FROM a67.secret), 'api.key_1 1, db-password 2, large 1', 'her secrets');
SELECT is((SELECT count(*) FROM jsonb_array_elements(a67.secret_list())), 3::bigint, 'as a list');
SELECT is((SELECT array_agg(DISTINCT key ORDER BY key) FROM jsonb_array_elements(a67.secret_list()) e, jsonb_object_keys(e) key),
    ARRAY['created_at', 'deployments', 'name', 'size_bytes', 'updated_at', 'version'], 'without values');
SELECT ok(a67.secret_list()::text NOT LIKE '%canary%' AND NOT EXISTS (SELECT FROM a67.secret s WHERE s::text LIKE '%canary%'), 'without any');
SELECT throws_ok('SELECT sealed FROM a67_internal.secret', '42501', NULL, 'not even sealed ones');
SELECT throws_ok('SELECT env_sealed FROM a67_internal.release', '42501', NULL, 'nor env values');
SELECT throws_ok($$SELECT a67_internal._vault_open('\x00', 'x')$$, '42501', NULL, 'and nothing opens them');
SELECT throws_ok($$SELECT a67_internal._env_seal('k', gen_random_uuid(), NULL, NULL, '{}', '{}', '{}')$$, '42501', NULL, 'or hands them out');
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is_empty('SELECT name FROM a67.secret', 'Bob sees none of them');
SELECT is(a67.secret_list(), '[]'::jsonb, 'in no list');
SELECT throws_ok($$SELECT a67.secret_remove('db-password')$$, 'PT404', 'secret "db-password" does not exist', 'nor can he remove one');
SELECT is((a67.secret_set('db-password', 'canary-bob') ->> 'version'), '1', 'the same name is another secret');
SELECT pg_temp.act_as('root', 'a67_admin') \g /dev/null
SELECT is((SELECT count(*) FROM a67.secret WHERE name = 'db-password'), 2::bigint, 'an administrator sees that both are there');
SELECT throws_ok('SELECT sealed FROM a67_internal.secret', '42501', NULL, 'and no more');
SELECT set_config('role', 'a67_node', true) \g /dev/null
SELECT throws_ok('SELECT a67.secret_list()', '42501', NULL, 'a node asks for nothing');
SELECT throws_ok($$SELECT a67.secret_set('x', 'y')$$, '42501', NULL, 'sets nothing');
SELECT set_config('role', 'a67_anon', true) \g /dev/null
SELECT throws_ok('SELECT a67.secret_list()', '42501', NULL, 'nor does a stranger');
SELECT throws_ok('SELECT * FROM a67.secret', '42501', NULL, 'by no door');

-- At most 1000
SELECT pg_temp.act_as_nobody() \g /dev/null
INSERT INTO a67_internal.secret (owner_id, name, sealed, size_bytes)
SELECT user_id, 'n' || i, '\x00', 1 FROM person, generate_series(1, 999) i WHERE name = 'bob';
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT throws_ok($$SELECT a67.secret_set('one-more', 'canary')$$, '22023', 'too many secrets', 'a thousand is enough');
SELECT lives_ok($$SELECT a67.secret_set('db-password', 'canary-bob-2')$$, 'those that are there can change');
SELECT a67.secret_remove('n1');
SELECT lives_ok($$SELECT a67.secret_set('one-more', 'canary')$$, 'after one went');

-- Manifests
CREATE FUNCTION pg_temp.faults(change jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(f.pointer || ' ' || f.problem, ' | ' ORDER BY f.pointer COLLATE "C") FROM a67.manifest_check(
        jsonb_build_object('name', 'shop', 'entrypoint', jsonb_build_array('./run'), 'package', repeat('ab', 32)) || change) f
$$;
SELECT is(pg_temp.faults('{"secrets": {"PASSWORD": "db-password"}, "on_secret_change": "SIGHUP"}'), NULL, 'a good manifest');
SELECT is(pg_temp.faults('{"secrets": []}'), '/secrets is empty', 'no object');
SELECT is(pg_temp.faults('{"env": {"E": "x"}, "secrets": {"9": "a", "A": 1, "B": "Upper", "A67_X": "a", "E": "a", "PORT": "a", "OK": "a"},
        "on_secret_change": "SIGKILL", "nam": 1}'),
    '/nam is not a field | /on_secret_change is "SIGKILL" | /secrets/9 is not a name that a variable can have'
    ' | /secrets/A is a number | /secrets/A67_X is not a name that a variable can have | /secrets/B is a string'
    ' | /secrets/E is in env too | /secrets/PORT is not a name that a variable can have', 'every fault at once');
SELECT is(pg_temp.faults(jsonb_build_object('secrets', (SELECT jsonb_object_agg('V' || i, 'a') FROM generate_series(1, 65) i))),
    '/secrets has 65 members', 'too many');
SELECT is(pg_temp.faults(jsonb_build_object('env', (SELECT jsonb_object_agg('V' || i, repeat('x', 4096)) FROM generate_series(1, 17) i))),
    '/env has 17 members', 'too much env');
SELECT pg_temp.act_as_nobody() \g /dev/null
SELECT is(a67_internal._manifest_normal('{"name": "a", "entrypoint": ["a"], "package": "abababababababababababababababababababababababababababababababab",
    "secrets": {"A": "b"}}') ->> 'on_secret_change', 'restart', 'restarted by default');
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is(a67.package_build('{"run": ""}') IS NOT NULL, true, 'Bob has the same package');
SELECT throws_ok($$SELECT pg_temp.app('thief', '{"secrets": {"A": "api.key_1", "B": "db-password", "C": "nix"}}')$$, '22023',
    'invalid manifest: /secrets/A: secret "api.key_1" does not exist', 'what is not his does not exist');
SELECT is(pg_temp.detail($$SELECT pg_temp.app('thief', '{"secrets": {"A": "api.key_1", "B": "db-password", "C": "nix"}}')$$),
    E'/secrets/A: secret "api.key_1" does not exist\n/secrets/C: secret "nix" does not exist', 'every one that is missing');
SELECT is_empty($$SELECT name FROM a67.deployment$$, 'nothing came of it');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(pg_temp.app('shop', '{"env": {"GREETING": "canary-env", "OTHER": ""}, "secrets": {"PASSWORD": "db-password", "AGAIN": "db-password"}}')
    ->> 'status', 'pending', 'a deployment of hers');
SELECT is(pg_temp.app('plain') ->> 'status', 'pending', 'one without either');
SELECT is((SELECT manifest -> 'env' FROM a67.release WHERE deployment = 'shop'), '{"GREETING": null, "OTHER": null}'::jsonb, 'names of env, no values');
SELECT is((SELECT manifest -> 'env' FROM a67.release WHERE deployment = 'plain'), '{}'::jsonb, 'no env is empty');
SELECT is((SELECT manifest -> 'secrets' FROM a67.release WHERE deployment = 'shop'), '{"AGAIN": "db-password", "PASSWORD": "db-password"}'::jsonb,
    'secrets by their names');
SELECT ok(a67.deployment_get('shop')::text NOT LIKE '%canary%' AND a67.event_list()::text NOT LIKE '%canary%', 'answers and events know no values');
SELECT is((SELECT deployments FROM a67.secret WHERE name = 'db-password'), ARRAY['shop'], 'the secret knows who names it');
SELECT throws_ok($$SELECT a67.secret_remove('db-password')$$, '23503', 'secret "db-password" is in use', 'in use');
SELECT is(pg_temp.detail($$SELECT a67.secret_remove('db-password')$$), 'Deployments: shop.', 'by whom');
SELECT lives_ok($$SELECT a67.secret_remove('api.key_1')$$, 'one that is not used goes');
SELECT throws_ok($$SELECT a67.secret_remove('api.key_1')$$, 'PT404', NULL, 'once');
SELECT is((a67.secret_set('api.key_1', 'x') ->> 'version'), '1', 'its name begins anew');
SELECT a67.secret_set('l' || i, repeat('x', 65000)) FROM generate_series(1, 4) i \g /dev/null
SELECT throws_ok($$SELECT pg_temp.app('heavy', '{"secrets": {"A": "l1", "B": "l2", "C": "l3", "D": "l4", "E": "large"}}')$$, '22023',
    'invalid manifest: /secrets: together with env at most 262144 bytes', 'too much in all');
SELECT lives_ok($$SELECT pg_temp.app('heavy', '{"secrets": {"A": "l1", "B": "l2", "C": "l3", "D": "l4", "E": "api.key_1"}}')$$, 'less is taken');
SELECT throws_ok($$SELECT a67.secret_set('api.key_1', repeat('x', 60000))$$, '22023', 'value is too long for deployment "heavy"', 'and cannot grow');
SELECT pg_temp.act_as_nobody() \g /dev/null
SELECT is((SELECT count(*) FROM a67_internal.release WHERE position('canary'::bytea IN env_sealed) > 0 OR manifest::text LIKE '%canary%')
    + (SELECT count(*) FROM a67_internal.secret WHERE position('canary'::bytea IN sealed) > 0), 0::bigint, 'sealed at rest');
SELECT throws_ok($$SELECT a67_internal._vault_open(sealed, a67_internal._secret_label(owner_id, 'api.key_1')) FROM a67_internal.secret s
    JOIN person p ON p.user_id = s.owner_id AND p.name = 'ann' WHERE s.name = 'db-password'$$, '22000', NULL, 'a value does not open under another name');
SELECT throws_ok($$SELECT a67_internal._vault_open(s.sealed, a67_internal._secret_label(b.user_id, s.name)) FROM a67_internal.secret s
    JOIN person a ON a.user_id = s.owner_id AND a.name = 'ann', person b WHERE s.name = 'db-password' AND b.name = 'bob'$$, '22000', NULL,
    'nor as another user''s');

-- Handing out: three nodes, two replicas
SELECT pg_temp.act_as('ann') \g /dev/null
CREATE TEMP TABLE token ON COMMIT DROP AS SELECT n, a67.join_token_create() ->> 'token' AS token FROM unnest(ARRAY['a', 'b', 'c']) n;
SELECT pg_temp.act_as_nobody() \g /dev/null
CREATE TEMP TABLE fleet ON COMMIT DROP AS
SELECT n AS name, (a67.node_register(t.token, 'http://127.0.0.1:' || 7300 + ascii(n), a67_internal._base64url(k.public_key),
    '{"cpu_cores": 2, "memory_gb": 1, "disk_gb": 1}', name => 's-' || n) ->> 'node_id')::uuid AS node_id
FROM token t, a67_internal._key_generate('ed25519', n) k;
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
UPDATE a67_internal.node_observed o SET status = 'ready', last_heartbeat_at = pg_temp.t('1 day') FROM fleet f WHERE o.node_id = f.node_id;
CREATE TEMP TABLE work (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text, done boolean DEFAULT false);
CREATE FUNCTION pg_temp.plan_at(after interval) RETURNS bigint LANGUAGE sql AS $$
    WITH p AS (INSERT INTO work SELECT * FROM a67_internal._reconciler_plan(pg_temp.t(after)) RETURNING 1) SELECT count(*) FROM p
$$;
CREATE FUNCTION pg_temp.answer(after interval, status integer) RETURNS integer LANGUAGE sql AS $$
    WITH w AS (UPDATE work SET done = true WHERE NOT done RETURNING key)
    SELECT a67_internal._reconciler_record(pg_temp.t(after), array_agg(key), array_agg(status), array_agg('{}'::text),
        array_agg('connection refused'::text)) FROM w
$$;
CREATE FUNCTION pg_temp.report(state text, only_replica uuid DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT a67_internal._replica_observe(n, (
        SELECT jsonb_agg(jsonb_build_object('id', r.replica_id, 'port', 4000, 'pid', 1, 'restarts', 0, 'generation', r.generation,
               'state', CASE WHEN only_replica IS NULL OR r.replica_id = only_replica THEN report.state ELSE r.state END))
        FROM a67_internal.replica r WHERE r.node_id = n.node_id AND r.desired_state = 'running'))
    FROM a67_internal.node n JOIN fleet f USING (node_id)
    WHERE EXISTS (SELECT FROM a67_internal.replica r WHERE r.node_id = n.node_id AND r.desired_state = 'running')
$$;
CREATE FUNCTION pg_temp.set(name text, value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.act_as('ann');
    PERFORM a67.secret_set(set.name, set.value);
    PERFORM pg_temp.act_as_nobody();
END
$$;
CREATE FUNCTION pg_temp.scale(name text, replicas integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.act_as('ann');
    PERFORM a67.deployment_scale(scale.name, scale.replicas);
    PERFORM pg_temp.act_as_nobody();
END
$$;
CREATE FUNCTION pg_temp.versions(app text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(DISTINCT r.secrets_version) FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id)
    WHERE d.name = app AND r.desired_state = 'running'
$$;
CREATE FUNCTION pg_temp.released() RETURNS bigint LANGUAGE sql AS $$SELECT count(*) FROM a67_internal.audit WHERE action = 'secret.release'$$;

SELECT pg_temp.scale('shop', 2);
SELECT is(pg_temp.plan_at('0'), 2::bigint, 'two commands');
SELECT ok((SELECT bool_and(body::jsonb ->> 'sealed_env' ~ '^[A-Za-z0-9+/]+=*$' AND NOT body::jsonb ?| ARRAY['env', 'secrets']
                           AND body::jsonb ->> 'on_secret_change' = 'restart' AND length(body::jsonb ->> 'env_version') = 32
                           AND body NOT LIKE '%canary%') FROM work), 'what an app may know is sealed');
SELECT is((SELECT count(DISTINCT body::jsonb ->> 'sealed_env') FROM work), 2::bigint, 'for each replica by itself');
SELECT ok((SELECT length(decode(body::jsonb ->> 'sealed_env', 'base64')) - 48 = length(format(
    '{"replica":"%s","env":{"OTHER": "", "GREETING": "canary-env"},"secrets":{"AGAIN":"canary-two","PASSWORD":"canary-two"}}',
    gen_random_uuid())) FROM work LIMIT 1), 'all of it, and nothing else');
SELECT is((SELECT string_agg(DISTINCT regexp_replace(regexp_replace(subject, '[0-9a-f-]{36}', 'ID', 'g'), 's-.', 'N'), ',') FROM a67_internal.audit
           WHERE action = 'secret.release'), 'secret "db-password" version 2 to replica ID of "shop" on node ID "N"', 'audited');
SELECT is(pg_temp.released(), 2::bigint, 'once for each replica and secret');
-- The answer is lost: the same generation again, sealed and audited anew
SELECT is(pg_temp.plan_at('12 s'), 2::bigint, 'sent again');
SELECT is((SELECT string_agg(DISTINCT body::jsonb ->> 'generation', ',') FROM work), '1', 'under the same generation');
SELECT is((SELECT count(DISTINCT body::jsonb ->> 'env_version') FROM work), 1::bigint, 'as the same version');
SELECT is(pg_temp.released(), 4::bigint, 'that, too, is a hand-out');
-- Lost once more, and the secret changes meanwhile
SELECT pg_temp.set('db-password', 'canary-four');
UPDATE work SET done = true;
SELECT is(pg_temp.plan_at('24 s'), 2::bigint, 'and again');
SELECT is((SELECT string_agg(DISTINCT body::jsonb ->> 'generation', ',') FROM work WHERE NOT done), '2', 'other secrets are another generation');
SELECT is(pg_temp.answer('24 s', 202), 2, 'taken');
SELECT pg_temp.report('running');
SELECT pg_temp.plan_at('25 s') \g /dev/null
SELECT is((SELECT status FROM a67_internal.deployment WHERE name = 'shop'), 'running', 'running');

-- Replacement by restart: one at a time
SELECT pg_temp.set('db-password', 'canary-five');
SELECT is(pg_temp.plan_at('30 s'), 1::bigint, 'one replica is told');
SELECT is((SELECT status FROM a67_internal.deployment WHERE name = 'shop'), 'scaling', 'and the status shows it');
SELECT pg_temp.answer('30 s', 202) \g /dev/null
SELECT is(pg_temp.plan_at('31 s'), 0::bigint, 'taken is not yet running');
CREATE TEMP TABLE first ON COMMIT DROP AS SELECT r.replica_id FROM a67_internal.replica r WHERE r.generation = 3;
SELECT pg_temp.report('starting', replica_id) FROM first;
SELECT is(pg_temp.plan_at('32 s'), 0::bigint, 'nor is starting');
SELECT pg_temp.report('running', replica_id) FROM first;
SELECT is(pg_temp.plan_at('33 s'), 1::bigint, 'running: the next one');
SELECT is((SELECT count(*) FROM work w JOIN first f ON w.key LIKE f.replica_id || ' %' WHERE NOT done), 0::bigint, 'which is the other');
SELECT pg_temp.answer('33 s', 202) \g /dev/null
SELECT pg_temp.report('running');
SELECT is(pg_temp.plan_at('34 s'), 0::bigint, 'nothing more to say');
SELECT is((SELECT status FROM a67_internal.deployment WHERE name = 'shop'), 'running', 'done');

-- A node that is away gets it when it is back; the other does not wait for it
UPDATE a67_internal.node_observed o SET status = 'suspect' FROM a67_internal.replica r JOIN first USING (replica_id) WHERE o.node_id = r.node_id;
SELECT pg_temp.set('db-password', 'canary-six');
SELECT is(pg_temp.plan_at('40 s'), 1::bigint, 'one of two is there');
SELECT pg_temp.answer('40 s', 202) \g /dev/null
SELECT pg_temp.report('running');
SELECT is(pg_temp.plan_at('41 s'), 0::bigint, 'nobody else is told');
SELECT is((SELECT status FROM a67_internal.deployment WHERE name = 'shop'), 'scaling', 'the other is waited for');
UPDATE a67_internal.node_observed o SET status = 'ready' FROM a67_internal.replica r JOIN first USING (replica_id) WHERE o.node_id = r.node_id;
SELECT is(pg_temp.plan_at('42 s'), 1::bigint, 'back: told');
-- … but does not answer: the running app is not given up for that
SELECT pg_temp.answer('42 s', 0) \g /dev/null
SELECT count(pg_temp.plan_at('42 s' + i * interval '2 min')) + count(pg_temp.answer('42 s' + i * interval '2 min', 0)) FROM generate_series(1, 4) i \g /dev/null
SELECT is((SELECT desired_state || ' ' || state FROM a67_internal.replica JOIN first USING (replica_id)), 'running running', 'asked again and again');
SELECT pg_temp.plan_at('20 min') \g /dev/null
SELECT pg_temp.answer('20 min', 202) \g /dev/null
SELECT pg_temp.report('running');
SELECT pg_temp.plan_at('21 min') \g /dev/null
SELECT is((SELECT status FROM a67_internal.deployment WHERE name = 'shop') || pg_temp.versions('shop'), 'running1', 'until it has it');

-- A new secret with which the app fails stops there: the other goes on with the old one
SELECT pg_temp.set('db-password', 'canary-wrong');
SELECT pg_temp.plan_at('22 min') \g /dev/null
SELECT pg_temp.answer('22 min', 202) \g /dev/null
SELECT pg_temp.report('failed', (SELECT r.replica_id FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id)
    WHERE d.name = 'shop' AND r.secrets_version = d.secrets_version));
CREATE FUNCTION pg_temp.rounds(start interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..8 LOOP
        PERFORM pg_temp.plan_at(start + i * interval '2 min');
        PERFORM pg_temp.answer(start + i * interval '2 min', CASE WHEN i % 2 = 0 THEN 400 ELSE 404 END);
    END LOOP;
END
$$;
SELECT pg_temp.rounds('23 min');
SELECT is((SELECT count(*) FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id)
           WHERE d.name = 'shop' AND r.state = 'running' AND r.desired_state = 'running' AND r.secrets_version <> d.secrets_version), 1::bigint,
    'one still serves');
SELECT is((SELECT status FROM a67_internal.deployment WHERE name = 'shop'), 'failing', 'and the owner is told');
SELECT pg_temp.set('db-password', 'canary-right');
UPDATE work SET done = true;
SELECT ok(pg_temp.plan_at('1 h') > 0, 'a better one is tried at once');
SELECT ok(EXISTS (SELECT FROM work WHERE NOT done AND method = 'PUT'), 'where the other failed');

-- By signal: all at once, and they go on running
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT pg_temp.app('chatty', '{"secrets": {"KEY": "api.key_1"}, "on_secret_change": "SIGHUP", "replicas": 3}') \g /dev/null
SELECT pg_temp.act_as_nobody() \g /dev/null
UPDATE work SET done = true;
SELECT pg_temp.plan_at('2 h') \g /dev/null
SELECT is((SELECT string_agg(DISTINCT body::jsonb ->> 'on_secret_change', ',') FROM work WHERE NOT done AND body LIKE '%chatty%'), 'SIGHUP',
    'agents know the signal');
SELECT pg_temp.answer('2 h', 202) \g /dev/null
SELECT pg_temp.report('running');
SELECT pg_temp.plan_at('121 min') \g /dev/null
UPDATE work SET done = true;
SELECT pg_temp.set('api.key_1', 'canary-chatty');
SELECT pg_temp.plan_at('122 min') \g /dev/null
SELECT is((SELECT count(*) FROM work WHERE NOT done AND body LIKE '%chatty%'), 3::bigint, 'three at once');
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'chatty'), 3::bigint, 'none is out of routing');
-- One that cannot be opened waits; the others do not
SELECT pg_temp.answer('122 min', 202) \g /dev/null
SELECT pg_temp.report('running');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT a67.secret_set('api.key_1', 'canary-1'), a67.secret_set('db-password', 'canary-2') \g /dev/null
SELECT pg_temp.act_as_nobody() \g /dev/null
UPDATE a67_internal.secret SET sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) WHERE name = 'api.key_1';
-- The warnings about it name replicas, which are others each time.
SET LOCAL client_min_messages = error;
SELECT pg_temp.plan_at('123 min') \g /dev/null
SELECT is((SELECT count(*) FROM work WHERE NOT done AND body LIKE '%chatty%'), 0::bigint, 'what was tampered with stays here');
SELECT ok(EXISTS (SELECT FROM work WHERE NOT done AND body LIKE '%shop%'), 'others get theirs');
SELECT is_empty($$SELECT FROM a67_internal.audit WHERE action = 'secret.release' AND subject LIKE '%api.key_1" version 3%'$$, 'nothing left, so nothing is noted');

-- Without the vault
UPDATE work SET done = true;
SELECT a67_internal._vault_hold() \g /dev/null
SELECT is(pg_temp.plan_at('3 h'), 0::bigint, 'commands wait');
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'chatty'), 3::bigint, 'apps go on');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT throws_ok($$SELECT a67.secret_set('x', 'canary')$$, 'PT503', 'vault is sealed', 'no secret can be stored');
SELECT throws_ok($$SELECT pg_temp.app('late', '{"env": {"A": "b"}}')$$, 'PT503', 'vault is sealed', 'nor env values');
SELECT lives_ok($$SELECT pg_temp.app('bare')$$, 'what has none of that is taken');
SELECT ok(jsonb_array_length(a67.secret_list()) > 0, 'names can be read');
SELECT pg_temp.act_as_nobody() \g /dev/null
SELECT a67.vault_unseal() \g /dev/null
SELECT ok(pg_temp.plan_at('3 h') > 0, 'opened: commands again');

-- What seals for a node
CREATE FUNCTION pg_temp.seal(node_key text, variables text[], secrets bytea[], labels text[]) RETURNS text LANGUAGE sql AS $$
    SELECT a67_internal._env_seal(node_key, gen_random_uuid(), NULL, NULL, variables, secrets, labels)
$$;
CREATE TEMP TABLE good ON COMMIT DROP AS SELECT a67_internal._base64url(k.public_key) AS node_key, a67_internal._vault_seal('v', 'l') AS sealed
FROM a67_internal._key_generate('ed25519', 'good') k;
SELECT ok(pg_temp.seal(node_key, '{A}', ARRAY[sealed], '{l}') IS NOT NULL, 'a good call') FROM good;
SELECT throws_ok(format('SELECT pg_temp.seal(%L, %L, %L, %L)', k, '{A}', ARRAY[sealed], '{l}'), '22000',
    'the public key of the node is not an Ed25519 key', 'no key: ' || left(k, 5))
FROM good, unnest(ARRAY['', 'x', repeat('A', 43), repeat('x', 43), repeat('_', 42) || '8']) k;
SELECT throws_ok(format('SELECT pg_temp.seal(%L, %L, %L, %L)', node_key, '{A}', ARRAY[sealed], '{other}'), '22000', 'could not open sealed value',
    'another label') FROM good;
SELECT throws_ok(format('SELECT pg_temp.seal(%L, %L, %L, %L)', node_key, v, ARRAY[sealed], '{l}'), '22023', NULL, 'arrays that do not fit: ' || v)
FROM good, unnest(ARRAY['{}', '{A,B}', '{NULL}']) v;
SELECT throws_ok($$SELECT a67_internal._env_seal(NULL, gen_random_uuid(), NULL, NULL, '{}', '{}', '{}')$$, '22023', NULL, 'no key at all');
SELECT throws_ok(format('SELECT a67_internal._env_seal(%L, gen_random_uuid(), %L, NULL, ''{}'', ''{}'', ''{}'')', node_key, sealed), '22023', NULL,
    'env without a label') FROM good;

SELECT is_empty($$SELECT audit_id FROM a67_internal.audit WHERE subject LIKE '%canary%'$$, 'the audit trail holds no value');
SELECT is_empty($$SELECT event_id FROM a67_internal.event WHERE payload::text LIKE '%canary%'$$, 'nor do events');

SELECT * FROM finish();
ROLLBACK;
