\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(49);

-- The clock is the test's own; it starts now.
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
CREATE TEMP TABLE fleet (name text PRIMARY KEY, node_id uuid);
INSERT INTO fleet
SELECT n, (a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:' || 7100 + ascii(n), a67_internal._base64url(k.public_key),
    '{"cpu_cores": 2, "memory_gb": 1, "disk_gb": 1}', name => 'n-' || n) ->> 'node_id')::uuid
FROM unnest(ARRAY['a', 'b', 'c']) n, a67_internal._key_generate('ed25519', n) k;
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

CREATE FUNCTION pg_temp.node_status(name text) RETURNS text LANGUAGE sql AS
    $$SELECT n.desired_state || ' ' || o.status FROM a67_internal.node n JOIN a67_internal.node_observed o USING (node_id)
      WHERE n.name = node_status.name AND n.node_id IN (SELECT node_id FROM fleet)$$;
-- Wanted replicas by node, those that run marked.
CREATE FUNCTION pg_temp.where_is(name text) RETURNS text LANGUAGE sql AS
    $$SELECT string_agg(node || CASE state WHEN 'running' THEN '!' ELSE '' END, ' ' ORDER BY node, state) FROM a67.replica
      WHERE deployment = where_is.name AND desired_state = 'running'$$;
CREATE FUNCTION pg_temp.drained() RETURNS bigint LANGUAGE sql AS
    $$SELECT count(*) FROM a67.event e JOIN fleet f ON f.node_id = e.subject_id WHERE e.type = 'node.drained'$$;
-- One round at that time: every command is obeyed, and every replica runs at once.
CREATE FUNCTION pg_temp.obey(after interval) RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.plan_at(after), pg_temp.answer(after, 'PUT', 202), pg_temp.answer(after, 'DELETE', 204), pg_temp.report('running')
$$;

-- Three replicas on three nodes
SELECT pg_temp.create('shop', 2), pg_temp.obey('0'), pg_temp.plan_at('1 s') \g /dev/null
SELECT is(pg_temp.status('shop'), 'running', 'an app runs');
SELECT a67.node_activate('n-a'), a67.node_activate('n-b'), a67.node_activate('n-c') \g /dev/null
SELECT is_empty($$SELECT FROM a67.event e JOIN fleet f ON f.node_id = e.subject_id WHERE e.type = 'node.desired.changed'$$,
    'what is active already is not activated');
-- The node that is drained is one with a replica, whichever it is.
CREATE TEMP TABLE chosen AS SELECT node AS name FROM a67.replica WHERE deployment = 'shop' ORDER BY node LIMIT 1;
CREATE FUNCTION pg_temp.chosen() RETURNS text LANGUAGE sql AS 'SELECT name FROM chosen';

-- Make before break
SELECT results_eq($$SELECT j ->> 'name', j ->> 'desired_state', j ->> 'status', j -> 'replicas' FROM a67.node_drain(pg_temp.chosen()) j$$,
    $$VALUES (pg_temp.chosen(), 'draining', 'ready', '1'::jsonb)$$, 'a drain says what is left');
SELECT is(a67.node_drain(pg_temp.chosen()) ->> 'desired_state', 'draining', 'again: the same');
SELECT is((SELECT count(*) FROM a67.event e JOIN fleet f ON f.node_id = e.subject_id WHERE e.type = 'node.desired.changed'), 1::bigint, 'one event');
SELECT is((SELECT count(*) FROM a67_internal.audit WHERE action = 'node.drain' AND subject IN (SELECT node_id::text FROM fleet)), 1::bigint, 'one act');
SELECT is(pg_temp.plan_at('2 s'), 1::bigint, 'one command');
SELECT is((SELECT method FROM work WHERE NOT done), 'PUT', 'a start');
SELECT is((SELECT count(*) FROM a67.replica WHERE deployment = 'shop' AND desired_state = 'running'), 3::bigint, 'the old one stays');
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'shop'), 2::bigint, 'and serves');
SELECT is(pg_temp.status('shop'), 'running', 'the deployment is what it was');
SELECT pg_temp.answer('2 s', 'PUT', 202) \g /dev/null
SELECT is(pg_temp.plan_at('3 s'), 0::bigint, 'as long as the new one does not run');
SELECT pg_temp.report('running') \g /dev/null
SELECT is(pg_temp.plan_at('4 s'), 1::bigint, 'then one command more');
SELECT is((SELECT method FROM work WHERE NOT done), 'DELETE', 'a stop');
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'shop' AND node <> pg_temp.chosen()), 2::bigint, 'others serve');
SELECT is(pg_temp.drained(), 0::bigint, 'not empty until its agent says so');
SELECT pg_temp.answer('4 s', 'DELETE', 204), pg_temp.plan_at('5 s'), pg_temp.plan_at('6 s') \g /dev/null
SELECT is(pg_temp.drained(), 1::bigint, 'now: one event');
SELECT is((a67.node_drain(pg_temp.chosen()) ->> 'drained_at')::timestamptz, pg_temp.t('5 s'), 'which the node bears too');
SELECT is(pg_temp.status('shop'), 'running', 'and the deployment never was anything but running');
SELECT is((SELECT count(*) FROM a67.event e JOIN a67.deployment d ON d.deployment_id = e.subject_id AND d.name = 'shop'
           WHERE e.payload ->> 'status' NOT IN ('pending', 'deploying', 'running')), 0::bigint, 'in no event either');

-- No room elsewhere
SELECT is(pg_temp.where_is('shop'), (SELECT string_agg('n-' || name || '!', ' ' ORDER BY name) FROM fleet WHERE 'n-' || name <> pg_temp.chosen()),
    'two nodes are left');
SELECT a67.node_drain('n-' || name) FROM fleet \g /dev/null
SELECT pg_temp.obey('10 s'), pg_temp.obey('20 s') \g /dev/null
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'shop'), 2::bigint, 'nowhere to go: they stay');
SELECT matches((SELECT status || ': ' || status_reason FROM a67.deployment WHERE name = 'shop'),
    '^running: cannot empty "n-.", "n-.": insufficient capacity for 2 of 2 replicas', 'and why');
SELECT throws_ok($$SELECT pg_temp.create('late', 1)$$, '53000', NULL, 'nothing new comes to them');
SELECT a67.node_activate(pg_temp.chosen()) \g /dev/null
SELECT pg_temp.obey('30 s'), pg_temp.obey('31 s'), pg_temp.obey('32 s') \g /dev/null
SELECT is(pg_temp.where_is('shop'), pg_temp.chosen() || '! ' || pg_temp.chosen() || '!', 'room again: both move there');
SELECT is((SELECT status || coalesce(status_reason, '') FROM a67.deployment WHERE name = 'shop'), 'running', 'the reason is gone');
SELECT is(pg_temp.drained(), 3::bigint, 'the others are empty');

-- A replacement that fails does not take the old one along; tries are bounded
SELECT a67.node_activate('n-' || name) FROM fleet \g /dev/null
SELECT a67.node_drain(pg_temp.chosen()) \g /dev/null
CREATE FUNCTION pg_temp.refuse(after interval) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.plan_at(after), pg_temp.answer(after, 'PUT', 507, '{"message": "no room"}'), pg_temp.answer(after, 'DELETE', 204);
    SELECT pg_temp.where_is('shop')
$$;
SELECT count(pg_temp.refuse(make_interval(mins => i))) FROM generate_series(1, 10) i \g /dev/null
SELECT is(pg_temp.refuse('11 min'), pg_temp.chosen() || '! ' || pg_temp.chosen() || '!', 'refused everywhere: the old ones stay');
SELECT is((SELECT count(*) FROM work WHERE NOT done), 0::bigint, 'and nothing more is tried');
SELECT cmp_ok((SELECT place_failures FROM a67_internal.deployment WHERE name = 'shop'), '>=', 5, 'after some failures');
SELECT is((SELECT status FROM a67.deployment WHERE name = 'shop'), 'running', 'it runs all the same');

-- The owner's other commands while a drain goes on
SELECT a67.deployment_scale('shop', 1) \g /dev/null
SELECT pg_temp.plan_at('12 min') \g /dev/null
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'shop'), 1::bigint, 'scaled down: one goes at once');
SELECT pg_temp.answer('12 min', 'PUT', 202), pg_temp.answer('12 min', 'DELETE', 204), pg_temp.report('running'), pg_temp.obey('13 min'),
    pg_temp.obey('14 min') \g /dev/null
SELECT is((SELECT count(*) FROM a67.endpoint WHERE deployment = 'shop' AND node <> pg_temp.chosen()), 1::bigint, 'the other moves');
SELECT a67.node_drain('n-' || name) FROM fleet \g /dev/null
SELECT a67.deployment_stop('shop') \g /dev/null
SELECT pg_temp.obey('15 min'), pg_temp.plan_at('16 min') \g /dev/null
SELECT is(pg_temp.status('shop'), 'stopped', 'stopped: all go, room or not');

-- Maintenance
SELECT a67.node_activate('n-' || name) FROM fleet \g /dev/null
SELECT is(a67.node_maintenance('n-a') ->> 'status', 'maintenance', 'maintenance is a status');
SELECT is(a67.node_maintenance('n-a') ->> 'status', 'maintenance', 'again: the same');
UPDATE a67_internal.node_observed o SET last_heartbeat_at = pg_temp.t('-1 day') FROM fleet f WHERE o.node_id = f.node_id AND f.name = 'a';
UPDATE a67_internal.monitor_state SET planned_at = pg_temp.t('16 min'), blind_until = '-infinity', doubt_until = '-infinity';
SELECT is_empty($$SELECT p.key FROM a67_internal._monitor_plan(pg_temp.t('16 min')) p, fleet f WHERE f.name = 'a' AND p.key LIKE f.node_id || ' %'$$,
    'silent for a day, and not probed');
SELECT is(pg_temp.node_status('n-a'), 'maintenance maintenance', 'or failed');
SELECT is_empty($$SELECT FROM a67.discovery WHERE node = 'n-a'$$, 'it is not found by those who look for a service');
SELECT is(a67.node_drain('n-a') ->> 'status', 'initializing', 'from maintenance to draining: looked after again');
SELECT is(a67.node_maintenance('n-a') ->> 'status', 'maintenance', 'and back');
SELECT is(a67.node_activate('n-a') ->> 'status', 'initializing', 'activated');
UPDATE a67_internal.node_observed o SET status_at = pg_temp.t('16 min') FROM fleet f WHERE o.node_id = f.node_id AND f.name = 'a';
SELECT is_empty($$SELECT p.key FROM a67_internal._monitor_plan(pg_temp.t('16 min 13 s')) p, fleet f WHERE f.name = 'a' AND p.key LIKE f.node_id || ' %'$$,
    'it has its time to beat, however long it was silent');
SELECT isnt_empty($$SELECT p.key FROM a67_internal._monitor_plan(pg_temp.t('16 min 14 s')) p, fleet f WHERE f.name = 'a' AND p.key LIKE f.node_id || ' %'$$,
    'and no longer');

-- Whom it is refused to
SELECT throws_ok($$SELECT a67.node_drain('nowhere')$$, 'PT404', 'node "nowhere" does not exist', 'a node that is not there');
SELECT throws_ok($$SELECT a67.node_maintenance(NULL)$$, 'PT404', NULL, 'no node');
SELECT a67.node_deregister('n-c') \g /dev/null
SELECT throws_ok($$SELECT a67.node_activate('n-c')$$, 'PT404', NULL, 'a removed node');
CREATE TEMP TABLE other AS SELECT a67.user_create('other@example.com') AS user_id;
SELECT set_config('request.jwt.claims', json_build_object('sub', user_id, 'role', 'a67_user')::text, true) || set_config('role', 'a67_user', true)
FROM other \g /dev/null
SELECT throws_ok($$SELECT a67.node_drain('n-b')$$, 'PT404', NULL, 'somebody else''s node');
SELECT throws_ok(format('SELECT a67.node_drain(%L)', (SELECT 'n-b')), 'PT404', NULL, 'by whatever name');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
