\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(64);

-- The clock is the test's own; it starts now. The monitor's is not compared with it.
UPDATE a67_internal.monitor_state SET planned_at = NULL;
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
CREATE TEMP TABLE fleet (name text PRIMARY KEY, node_id uuid);
INSERT INTO fleet
SELECT n, (a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:' || 7100 + ascii(n), a67_internal._base64url(k.public_key),
    '{"cpu_cores": 2, "memory_gb": 1, "disk_gb": 1}', name => 'n-' || n) ->> 'node_id')::uuid
FROM unnest(ARRAY['a', 'b', 'c', 'd']) n, a67_internal._key_generate('ed25519', n) k;
UPDATE a67_internal.node_observed o SET status = 'ready', last_heartbeat_at = pg_temp.t('1 day') FROM fleet f WHERE o.node_id = f.node_id;

CREATE TEMP TABLE package AS SELECT a67.package_build('{"run": ""}') AS digest;
CREATE FUNCTION pg_temp.create(name text, replicas integer, memory text DEFAULT '64MiB') RETURNS jsonb LANGUAGE sql AS $$
    SELECT a67.deployment_create(jsonb_build_object('name', name, 'entrypoint', '["./run"]'::jsonb, 'package', p.digest,
        'replicas', replicas, 'env', '{"GREETING": "hi"}'::jsonb, 'resources', jsonb_build_object('memory', memory))) FROM package p
$$;
CREATE TEMP TABLE work (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text, done boolean DEFAULT false);
-- Plans at that time and keeps the commands; returns how many there are.
CREATE FUNCTION pg_temp.plan_at(after interval) RETURNS bigint LANGUAGE sql AS $$
    WITH p AS (INSERT INTO work SELECT * FROM a67_internal._reconciler_plan(pg_temp.t(after)) RETURNING 1) SELECT count(*) FROM p
$$;
-- Answers every open command of that method with that status.
CREATE FUNCTION pg_temp.answer(after interval, only_method text, status integer, body text DEFAULT '{}') RETURNS integer LANGUAGE sql AS $$
    WITH w AS (UPDATE work SET done = true WHERE NOT done AND method = only_method RETURNING key)
    SELECT a67_internal._reconciler_record(pg_temp.t(after), array_agg(key), array_agg(status), array_agg(body),
        array_agg('connection refused'::text)) FROM w
$$;
-- One round at that time in which every start is answered with that status and every stop is done: the number of
-- starts that were asked for, and the failures counted after it.
CREATE FUNCTION pg_temp.round(after interval, status integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    starts bigint;
BEGIN
    PERFORM pg_temp.plan_at(after);
    SELECT count(*) INTO starts FROM work WHERE NOT done AND method = 'PUT';
    PERFORM pg_temp.answer(after, 'PUT', status, '{"message": "no"}'), pg_temp.answer(after, 'DELETE', 204);
    RETURN starts || '/' || (SELECT place_failures FROM a67_internal.deployment WHERE name = 'shop');
END
$$;
-- What the nodes say: every replica that they were told to run is in that state.
CREATE FUNCTION pg_temp.report(state text, only_node text DEFAULT NULL, error text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT a67_internal._replica_observe(n, coalesce((
        SELECT jsonb_agg(jsonb_build_object('id', r.replica_id, 'generation', r.generation, 'state', report.state, 'port', 4000,
                                            'pid', 1, 'restarts', 0, 'error', report.error, 'log_tail', report.error))
        FROM a67_internal.replica r WHERE r.node_id = n.node_id AND r.desired_state = 'running'), '[]'))
    FROM a67_internal.node n JOIN fleet f USING (node_id)
    WHERE only_node IS NULL OR n.name = only_node
$$;
CREATE FUNCTION pg_temp.status(name text) RETURNS text LANGUAGE sql AS
    $$SELECT status FROM a67.deployment d WHERE d.name = status.name$$;

-- Creation
SELECT throws_ok($$SELECT a67.deployment_create(jsonb_build_object('name', 'x', 'entrypoint', '["a"]'::jsonb, 'package', repeat('0', 64)))$$,
    '22023', NULL, 'a package that is not there');
SELECT throws_ok($$SELECT pg_temp.create('big', 1, '2GiB')$$, '53000', 'insufficient capacity for 1 replicas', 'no node is that large');
SELECT is(pg_temp.status('big'), NULL, 'and nothing is left of it');
SELECT is(pg_temp.create('shop', 3) ->> 'status', 'pending', 'created');
SELECT is(current_setting('response.status', true), '202', 'accepted, not done');
SELECT throws_ok($$SELECT pg_temp.create('shop', 1)$$, '23505', 'deployment "shop" already exists', 'a name twice');

-- Placement and commands
SELECT is(pg_temp.plan_at('0'), 3::bigint, 'three commands');
SELECT is((SELECT count(DISTINCT node_id) FROM a67.replica WHERE deployment = 'shop'), 3::bigint, 'on three nodes');
SELECT is((SELECT DISTINCT method FROM work), 'PUT', 'all of them to run');
SELECT ok((SELECT bool_and(w.url = n.endpoint || '/v1/replicas/' || r.replica_id) FROM work w
           JOIN a67.replica r ON w.key LIKE r.replica_id || ' %' JOIN a67.node n USING (node_id)), 'to the right agents');
SELECT is((SELECT DISTINCT body::jsonb - 'package' - 'sealed_env' FROM work), '{"generation": 1, "deployment": "shop", "release": 1, "app_type": "backend",
    "runner": "process", "runtime": "executable", "entrypoint": ["./run"], "on_secret_change": "restart", "stop_grace_ms": 10000,
    "resources": {"cpu": 0.1, "memory_bytes": 67108864, "disk_bytes": 0, "pids": 1024}, "on_partition": "continue",
    "partition_deadline_ms": 60000}'::jsonb,
    'with what an agent must know');
SELECT is((SELECT count(DISTINCT token) FROM work WHERE token ~ '^[\w-]+\.[\w-]+\.[\w-]+$'), 3::bigint, 'each with a token of its own');
SELECT is(pg_temp.status('shop'), 'deploying', 'deploying');
SELECT is(pg_temp.plan_at('1 s'), 0::bigint, 'leased: not handed out again');
SELECT is(pg_temp.plan_at('12 s'), 3::bigint, 'a worker that died: handed out again when the lease ends');
SELECT is(a67_internal._reconciler_record(pg_temp.t('13 s'), array_agg(key), array_agg(400), array_agg('{}'::text), array_agg(''::text)), 0,
    'answers to the first round are of an older epoch: dropped') FROM (SELECT key FROM work ORDER BY ctid LIMIT 3) w;
UPDATE work SET done = true WHERE ctid IN (SELECT ctid FROM work ORDER BY ctid LIMIT 3);
SELECT is(pg_temp.answer('13 s', 'PUT', 202), 3, 'taken');
SELECT is(pg_temp.plan_at('30 s'), 0::bigint, 'nothing more to say');
SELECT pg_temp.report('running');
SELECT pg_temp.plan_at('31 s') \g /dev/null
SELECT is(pg_temp.status('shop'), 'running', 'running when the nodes say so');
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'shop' AND url ~ '^http://127.0.0.1:4000$'), 3::bigint, 'with endpoints');

-- A node fails
CREATE TEMP TABLE victim AS SELECT node, node_id, replica_id FROM a67.replica WHERE deployment = 'shop' ORDER BY node LIMIT 1;
UPDATE a67_internal.node_observed o SET status = 'failed' FROM victim v WHERE o.node_id = v.node_id;
SELECT is(pg_temp.plan_at('40 s'), 1::bigint, 'one replacement; the dead node is told nothing');
SELECT is((SELECT count(DISTINCT node_id) FROM a67.replica WHERE deployment = 'shop' AND desired_state = 'running'), 3::bigint, 'on the spare node');
SELECT is((SELECT state FROM a67.replica r JOIN victim v USING (replica_id)), 'lost', 'the old one is lost');
SELECT is(pg_temp.status('shop'), 'failing', 'one is missing');
SELECT pg_temp.answer('41 s', 'PUT', 202) \g /dev/null
SELECT pg_temp.report('running') FROM victim;
SELECT pg_temp.plan_at('42 s') \g /dev/null
SELECT is(pg_temp.status('shop'), 'running', 'made good');
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'shop'), 3::bigint, 'three endpoints again');
-- ... and returns
UPDATE a67_internal.node_observed o SET status = 'ready' FROM victim v WHERE o.node_id = v.node_id;
SELECT is(pg_temp.plan_at('50 s'), 1::bigint, 'back: one command');
SELECT ok((SELECT method = 'DELETE' AND url LIKE '%?generation=2' FROM work WHERE NOT done), 'to stop the surplus copy');
SELECT pg_temp.answer('50 s', 'DELETE', 409) \g /dev/null
SELECT pg_temp.plan_at('52 s') \g /dev/null
SELECT ok((SELECT url LIKE '%?generation=1000002' FROM work WHERE NOT done), 'a node that knows a later generation is outbid');
SELECT is(pg_temp.answer('52 s', 'DELETE', 202), 1, 'stopping');
SELECT is((SELECT state FROM a67.replica r JOIN victim v USING (replica_id)), 'stopping', 'shown as such');
SELECT is(pg_temp.plan_at('55 s'), 1::bigint, 'asked again');
SELECT is(pg_temp.answer('56 s', 'DELETE', 204), 1, 'nothing left');
SELECT is_empty($$SELECT FROM a67.replica JOIN victim v USING (replica_id)$$, 'then its row goes');

-- The agent lost a replica
UPDATE work SET done = true;
SELECT a67_internal._replica_observe(n, '[]') FROM a67_internal.node n
WHERE n.node_id = (SELECT node_id FROM a67.replica WHERE deployment = 'shop' ORDER BY node LIMIT 1);
SELECT is(pg_temp.plan_at('60 s'), 1::bigint, 'what an agent has lost it is told again');
SELECT pg_temp.answer('61 s', 'PUT', 202) \g /dev/null
SELECT pg_temp.report('running');

-- Scaling
SELECT a67.deployment_scale('shop', 4) \g /dev/null
SELECT is(pg_temp.plan_at('70 s'), 1::bigint, 'one more');
SELECT is(pg_temp.status('shop'), 'scaling', 'scaling');
SELECT pg_temp.answer('71 s', 'PUT', 202) \g /dev/null
SELECT pg_temp.report('running');
SELECT a67.deployment_scale('shop', 1) \g /dev/null
SELECT is(pg_temp.plan_at('72 s'), 3::bigint, 'three less');
SELECT is((SELECT count(*) FROM a67.replica WHERE deployment = 'shop' AND desired_state = 'running'), 1::bigint, 'one stays');
SELECT pg_temp.answer('73 s', 'DELETE', 404) \g /dev/null
SELECT throws_ok($$SELECT a67.deployment_scale('shop', 1001)$$, '22023', NULL, 'not beyond the limit');
SELECT throws_ok($$SELECT a67.deployment_scale('nix', 1)$$, 'PT404', 'deployment "nix" does not exist', 'not what is not there');

-- Stop, start
SELECT a67.deployment_stop('shop') \g /dev/null
SELECT pg_temp.plan_at('80 s') \g /dev/null
SELECT is(pg_temp.status('shop'), 'stopping', 'stopping');
SELECT pg_temp.answer('81 s', 'DELETE', 204) \g /dev/null
SELECT pg_temp.plan_at('82 s') \g /dev/null
SELECT is(pg_temp.status('shop'), 'stopped', 'stopped');
SELECT a67.deployment_start('shop') \g /dev/null

-- A refusal: replaced on other nodes, a bounded number of times
SELECT is((SELECT string_agg(pg_temp.round(i * interval '2 min', 400), ' ') FROM generate_series(10, 16) i),
    '1/1 1/2 1/3 1/4 1/5 0/5 0/5', 'five tries, then none');
SELECT pg_temp.answer('1 h', 'DELETE', 404) \g /dev/null
SELECT pg_temp.plan_at('1 h') \g /dev/null
SELECT is(pg_temp.status('shop'), 'failed', 'given up');
SELECT is((SELECT status_reason FROM a67.deployment WHERE name = 'shop'), 'agent answered 400: no', 'the reason is kept');
SELECT is((SELECT count(*) FROM a67.alert WHERE message = 'deployment "shop" is failed' AND resolved_at IS NULL), 1::bigint, 'an alert');
SELECT a67.deployment_start('shop') \g /dev/null
SELECT is(pg_temp.plan_at('61 min'), 1::bigint, 'a new command tries again');

-- A node that cannot be reached: three tries, then the next node
UPDATE work SET done = true;
SELECT is((SELECT string_agg(pg_temp.round('61 min' + i * interval '30 s', 0), ' ') FROM generate_series(1, 3) i), '1/0 1/0 1/1',
    'the third time the replica is given up');
SELECT pg_temp.plan_at('64 min') \g /dev/null
SELECT is((SELECT string_agg(method, ' ' ORDER BY method) FROM work WHERE NOT done), 'DELETE PUT', 'stopped there, started elsewhere');
-- One that never gets to run
UPDATE work SET done = true;
UPDATE a67_internal.replica r SET pushed_generation = generation, deadline_at = pg_temp.t('3 h') WHERE desired_state = 'running';
SELECT pg_temp.plan_at('2 h 59 min') \g /dev/null
SELECT is((SELECT place_failures FROM a67_internal.deployment WHERE name = 'shop'), 1, 'before the deadline');
SELECT pg_temp.plan_at('3 h') \g /dev/null
SELECT is((SELECT place_failures FROM a67_internal.deployment WHERE name = 'shop'), 2, 'past it: failed');
SELECT is((SELECT status_reason FROM a67.deployment WHERE name = 'shop'), 'not running within 5min', 'and why');

-- Removal
SELECT a67.deployment_remove('shop') \g /dev/null
SELECT throws_ok($$SELECT a67.deployment_scale('shop', 1)$$, 'PT404', NULL, 'removed: takes no more commands');
SELECT throws_ok($$SELECT pg_temp.create('shop', 1)$$, '23505', NULL, 'its name is taken until every node has confirmed');
UPDATE work SET done = true;
SELECT pg_temp.plan_at('4 h') \g /dev/null
SELECT pg_temp.answer('4 h', 'DELETE', 204) \g /dev/null
SELECT pg_temp.plan_at('4 h 1 min') \g /dev/null
SELECT is(pg_temp.status('shop'), NULL, 'gone');
SELECT is(pg_temp.create('shop', 1) ->> 'status', 'pending', 'its name is free');

-- A dead node does not hold up a removal; what it still runs when it returns is a stray
SELECT pg_temp.plan_at('5 h') \g /dev/null
SELECT pg_temp.answer('5 h', 'PUT', 202) \g /dev/null
SELECT pg_temp.report('running');
CREATE TEMP TABLE left_over AS SELECT replica_id, node_id FROM a67.replica WHERE deployment = 'shop';
UPDATE a67_internal.node_observed o SET status = 'failed' FROM left_over l WHERE o.node_id = l.node_id;
SELECT a67.deployment_remove('shop') \g /dev/null
SELECT pg_temp.plan_at('5 h 1 min') \g /dev/null
SELECT is(pg_temp.status('shop'), NULL, 'removed though its node is dead');
UPDATE a67_internal.node_observed o SET status = 'ready' FROM left_over l WHERE o.node_id = l.node_id;
SELECT a67_internal._replica_observe(n, jsonb_build_array(jsonb_build_object('id', l.replica_id, 'generation', 1, 'state', 'running')))
FROM a67_internal.node n JOIN left_over l USING (node_id);
SELECT is((SELECT method || ' ' || split_part(key, ' ', 1) FROM a67_internal._reconciler_plan(pg_temp.t('5 h 2 min'))), 'DELETE stray',
    'back, it is told to stop it');

-- What one agent answers does not spoil the answers of others
SELECT is(a67_internal._answer_error(500, body, NULL), 'agent answered 500', 'JSON that jsonb does not take: ' || left(body, 12))
FROM unnest(ARRAY['{"message": "\u0000"}', repeat('[', 60000), '[1e999999]']) body;

-- A deployment that cannot be placed for an error stops none of the others
CREATE FUNCTION pg_temp.poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.deployment_id = (SELECT deployment_id FROM a67_internal.deployment WHERE name = 'poison') THEN
        RAISE EXCEPTION 'not this one';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER poison BEFORE INSERT ON a67_internal.replica FOR EACH ROW EXECUTE FUNCTION pg_temp.poison();
SELECT pg_temp.create(name, 1, '1MiB') FROM unnest(ARRAY['poison', 'wholesome']) name \g /dev/null
SET LOCAL client_min_messages = error;
SELECT cmp_ok(pg_temp.plan_at('6 h'), '>', 0::bigint, 'a plan in spite of an error');
RESET client_min_messages;
SELECT results_eq($$SELECT d.name, count(r)::integer FROM a67_internal.deployment d LEFT JOIN a67_internal.replica r USING (deployment_id)
    WHERE d.name IN ('poison', 'wholesome') GROUP BY 1 ORDER BY 1$$, $$VALUES ('poison', 0), ('wholesome', 1)$$, 'which places the others');

SELECT * FROM finish();
ROLLBACK;
