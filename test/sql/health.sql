\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(27);

-- The clock is the test's own; it starts now.
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
CREATE TEMP TABLE it AS SELECT a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:7009', repeat('H', 43),
    '{"cpu_cores": 1, "memory_gb": 1, "disk_gb": 1}', name => 'health-node') ->> 'node_id' AS node_id;
CREATE FUNCTION pg_temp.beat(after interval, metrics jsonb DEFAULT '{"cpu_percent": 1, "memory_percent": 1}') RETURNS integer
LANGUAGE sql AS $$
    SELECT a67_internal._heartbeat_record(pg_temp.t(after), ARRAY[node_id::uuid], ARRAY[pg_temp.t(after)], ARRAY[metrics]) FROM it
$$;
CREATE FUNCTION pg_temp.status() RETURNS text LANGUAGE sql AS $$SELECT status FROM a67.node WHERE name = 'health-node'$$;
-- A plan at that time; the probes of this node only.
CREATE FUNCTION pg_temp.probe(after interval) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT p.key FROM a67_internal._monitor_plan(pg_temp.t(after)) p, it WHERE p.key LIKE it.node_id || ' %'
$$;
CREATE FUNCTION pg_temp.answer(after interval, key text, status integer, body text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT a67_internal._monitor_record(pg_temp.t(after), ARRAY[key], ARRAY[status], ARRAY[body], ARRAY['connection refused']);
    SELECT pg_temp.status()
$$;
CREATE FUNCTION pg_temp.failed_probe(after interval) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.answer(after, (SELECT pg_temp.probe(after)), 0)
$$;
UPDATE a67_internal.node_observed o SET status_at = pg_temp.t('0') FROM it WHERE o.node_id = it.node_id::uuid;

SELECT is(pg_temp.beat('0'), 1, 'a beat is stored');
SELECT is_empty($$SELECT pg_temp.probe('1 s')$$, 'who beats is not probed');
SELECT is(pg_temp.status(), 'ready', 'the first beat makes it ready');
SELECT is_empty($$SELECT pg_temp.probe('13 s')$$, 'jitter and flush are allowed for');
SELECT is(pg_temp.status(), 'ready', 'still ready');

-- Silence, then two signals missing
SELECT isnt(pg_temp.probe('14 s'), NULL, 'silent: probed');
SELECT is(pg_temp.status(), 'suspect', 'and suspect');
SELECT is_empty($$SELECT pg_temp.probe('15 s')$$, 'one probe at a time: the lease holds');
SELECT is(pg_temp.failed_probe('21 s'), 'suspect', 'one probe failed');
SELECT is_empty($$SELECT pg_temp.probe('22 s')$$, 'the next after a pause');
SELECT is(pg_temp.failed_probe('27 s'), 'suspect', 'two probes failed');
SELECT is(pg_temp.failed_probe('33 s'), 'failed', 'three: failed');
SELECT results_eq($$SELECT severity, message, resolved_at IS NULL FROM a67.alert, it WHERE subject_id = it.node_id::uuid$$,
    $$VALUES ('critical', 'node "health-node" failed: neither heartbeat nor answer to a probe', true)$$, 'an alert is raised');
SELECT is_empty($$SELECT pg_temp.probe('60 s')$$, 'a failed node is not probed');

-- Return
SELECT pg_temp.beat('70 s') \g /dev/null
SELECT pg_temp.probe('70 s') \g /dev/null
SELECT is(pg_temp.status(), 'failed', 'one good sign is not enough');
SELECT pg_temp.probe('71 s') \g /dev/null
SELECT is(pg_temp.status(), 'failed', 'the same beat counts once');
SELECT pg_temp.beat('72 s') \g /dev/null
SELECT pg_temp.probe('72 s') \g /dev/null
SELECT is(pg_temp.status(), 'ready', 'two make it ready');
SELECT is_empty($$SELECT FROM a67.alert, it WHERE subject_id = it.node_id::uuid AND resolved_at IS NULL$$, 'the alert is resolved');
SELECT is((SELECT string_agg(payload ->> 'to', ' ' ORDER BY event_id) FROM a67.event, it
           WHERE subject_id = it.node_id::uuid AND type = 'node.status.changed'), 'ready suspect failed ready', 'every change is an event');

-- Load
SELECT pg_temp.beat('80 s', '{"cpu_percent": 95, "memory_percent": 1}') \g /dev/null
SELECT pg_temp.probe('80 s') \g /dev/null
SELECT is(pg_temp.status(), 'busy', 'cpu above 90 %: busy');
SELECT pg_temp.beat('81 s') \g /dev/null
SELECT pg_temp.probe('81 s') \g /dev/null
SELECT is(pg_temp.status(), 'ready', 'and ready again');

-- Answers that prove something else
CREATE TEMP TABLE probed AS SELECT pg_temp.probe('200 s') AS key;
SELECT is(pg_temp.answer('201 s', (SELECT key FROM probed), 200, format('{"node_id": "%s"}', it.node_id)), 'degraded',
    'silent, but the probe is answered: never failed') FROM it;
SELECT is(pg_temp.answer('202 s', (SELECT key FROM probed), 0), 'degraded', 'the same answer again is of an older epoch: dropped');
SELECT is(a67_internal._probe_sign(it.node_id::uuid, 200, '{"node_id": "00000000-0000-4000-8000-000000000001"}'), 'probe_failed',
    'another agent behind the address') FROM it;
SELECT is(a67_internal._probe_sign(it.node_id::uuid, 200, '<html>'), 'probe_invalid', 'nonsense') FROM it;
SELECT is(a67_internal._probe_sign(it.node_id::uuid, 503, ''), 'probe_failed', 'a server error') FROM it;

-- An answer that comes after the node has been heard again
UPDATE probed SET key = (SELECT pg_temp.probe('220 s'));
SELECT pg_temp.beat('221 s') \g /dev/null
SELECT is(pg_temp.answer('222 s', (SELECT key FROM probed), 0), 'degraded', 'heard since: the failed probe is dropped');

SELECT * FROM finish();
ROLLBACK;
