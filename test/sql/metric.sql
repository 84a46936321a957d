\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(74);

-- The clock is the test's own: whole minutes of a day long ago, so that nothing of the server's own gets in between.
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-03-01 12:00:00Z' + after $$;
CREATE TEMP TABLE it (name text PRIMARY KEY, node_id uuid);
GRANT SELECT ON it TO PUBLIC;
CREATE FUNCTION pg_temp.join(name text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO it SELECT name, (a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:7009', rpad(name, 43, 'M'),
        '{"cpu_cores": 2, "memory_gb": 1, "disk_gb": 1}', name => name) ->> 'node_id')::uuid
$$;
CREATE FUNCTION pg_temp.id(name text DEFAULT 'met') RETURNS uuid LANGUAGE sql STABLE AS 'SELECT node_id FROM it WHERE it.name = id.name';
CREATE FUNCTION pg_temp.beat(after interval, metrics jsonb, name text DEFAULT 'met') RETURNS void LANGUAGE sql AS $$
    SELECT a67_internal._heartbeat_one(pg_temp.t(after), pg_temp.id(name), metrics)
$$;
CREATE FUNCTION pg_temp.seen(name text DEFAULT 'met') RETURNS a67_internal.node_observed LANGUAGE sql AS
    'SELECT o FROM a67_internal.node_observed o WHERE o.node_id = pg_temp.id(name)';
CREATE FUNCTION pg_temp.stats(since interval, until interval, step interval DEFAULT NULL, node text DEFAULT 'met') RETURNS SETOF record
LANGUAGE sql AS 'SELECT s.* FROM a67.node_stats(node, pg_temp.t(since), pg_temp.t(until), step) s';
SELECT pg_temp.join('met'), pg_temp.join('other') \g /dev/null

-- What one heartbeat leaves in its row.
SELECT lives_ok($$SELECT pg_temp.beat('0', '{"cpu_percent": 10, "memory_percent": 20.5, "memory_free_bytes": 5, "memory_total_bytes": 9,
    "disk_percent": 30, "load1": 0.5, "uptime_s": 7, "active_requests": 3, "latency_ms": 4.5, "network_bytes": 1000, "requests": 8,
    "failures": 2}')$$, 'a heartbeat with everything');
SELECT results_eq($$SELECT (o).cpu_percent, (o).memory_percent, (o).memory_free_bytes, (o).disk_percent, (o).load1, (o).active_requests,
    (o).latency_ms, (o).network_bytes, (o).traffic_bytes, (o).recent_requests, (o).recent_failures, (o).metrics_at FROM pg_temp.seen() o$$,
    $$VALUES (10::real, 20.5::real, 5::bigint, 30::real, 0.5::real, 3, 4.5::real, 1000::bigint, 0::bigint, 8::float8, 2::float8, pg_temp.t('0'))$$,
    'is in the row');
SELECT lives_ok($$SELECT pg_temp.beat('60 s', '{"network_bytes": null}')$$, 'a heartbeat with nothing');
SELECT results_eq($$SELECT (o).cpu_percent, (o).latency_ms, (o).active_requests, (o).network_bytes, round((o).recent_requests), (o).last_heartbeat_at
    FROM pg_temp.seen() o$$, $$VALUES (NULL::real, NULL::real, NULL::integer, 1000::bigint, 4::float8, pg_temp.t('60 s'))$$,
    'leaves no value, keeps the counter, and halves what was lately');
SELECT is(a67_internal._heartbeat_record(pg_temp.t('61 s'), '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'), 0,
    'no heartbeats at all');
SELECT is(a67_internal._heartbeat_record(pg_temp.t('61 s'), ARRAY[gen_random_uuid()], ARRAY[pg_temp.t('61 s')], '{1}', '{1}', '{1}', '{1}',
    '{1}', '{1}', '{1}', '{1}', '{1}', '{1}'), 0, 'a node that is not there');
SELECT is((pg_temp.seen()).up_seconds, 0::float8, 'a gap of more than two intervals is no time');
SELECT pg_temp.beat('80 s', '{}') \g /dev/null
SELECT is((pg_temp.seen()).up_seconds, 20::float8, 'one of two intervals is');

-- What is no metric is refused by name.
SELECT throws_ok(format($$SELECT pg_temp.beat('81 s', %L)$$, format('{%s: %s}', to_json(m), v)), '22023', format('metric "%s" must be a number', m),
    format('%s cannot be %s', m, v))
FROM (VALUES ('cpu_percent', '"1"'), ('memory_percent', 'true'), ('disk_percent', '[]'), ('load1', '1e39'), ('latency_ms', '{}'),
    ('active_requests', '1.5'), ('active_requests', '2147483648'), ('requests', '-1'), ('failures', '1e30'), ('network_bytes', '"x"'),
    ('uptime_s', '-3'), ('memory_total_bytes', '0.1')) b (m, v);
SELECT is((pg_temp.seen()).metrics_at, pg_temp.t('80 s'), 'and changes nothing');

-- A minute's account.
SELECT results_eq($$SELECT m.bucket_at, m.samples, m.cpu_percent, m.cpu_percent_max, m.latency_ms, m.requests, m.failures, m.network_bytes
    FROM a67_internal.node_metric m WHERE m.node_id = pg_temp.id()$$,
    $$VALUES (pg_temp.t('0'), 1, 10::real, 10::real, 4.5::real, 8::bigint, 2::bigint, 0::bigint)$$, 'a minute that has ended is a row');
SELECT pg_temp.beat(make_interval(mins => 10, secs => s), jsonb_build_object('cpu_percent', s, 'memory_percent', 50, 'network_bytes', 2000 + s,
    'requests', 10, 'failures', 1)) FROM generate_series(10, 50, 20) s \g /dev/null
SELECT pg_temp.beat('10 min 55 s', '{"network_bytes": 100}') \g /dev/null
SELECT results_eq($$SELECT m.bucket_at, m.samples, m.cpu_percent, m.cpu_percent_max, m.memory_percent, m.disk_percent, m.latency_ms_max, m.requests,
    m.failures, m.network_bytes FROM a67_internal.node_metric_open m WHERE m.node_id = pg_temp.id()$$,
    $$VALUES (pg_temp.t('10 min'), 4, 30::real, 50::real, 50::real, NULL::real, NULL::real, 30::bigint, 3::bigint, 1050 + 100::bigint)$$,
    'the running minute: means and maxima of what was sent; a counter that fell starts anew');
SELECT is((SELECT count(*) FROM a67_internal.node_metric m WHERE m.node_id = pg_temp.id()), 2::bigint, 'it has no row yet');
SELECT pg_temp.beat('11 min', '{"cpu_percent": 90}') \g /dev/null
SELECT is((SELECT array_agg(m.samples ORDER BY m.bucket_at) FROM a67_internal.node_metric m WHERE m.node_id = pg_temp.id()), '{1,2,4}', 'now it has');
SELECT pg_temp.beat('10 min 59 s', '{"cpu_percent": 10}') \g /dev/null
SELECT is((SELECT m.cpu_percent FROM a67_internal.node_metric_open m WHERE m.node_id = pg_temp.id()), 50::real,
    'a heartbeat that comes a little late counts for the running minute');
SELECT is((pg_temp.seen()).last_heartbeat_at, pg_temp.t('11 min'), 'and does not make the node older');
SELECT is(a67_internal._heartbeat_record(pg_temp.t('11 min'), ARRAY[pg_temp.id()], ARRAY[pg_temp.t('1 day')], '{2}', '{1}', '{1}', '{1}', '{1}',
    '{1}', '{1}', NULL, NULL, NULL), 1, 'a heartbeat of the future');
SELECT is((pg_temp.seen()).last_heartbeat_at, pg_temp.t('11 min'), 'is one of now');
-- The clock is set back by an hour, and finds minutes that have their row.
SELECT pg_temp.beat('-50 min', '{"cpu_percent": 70}'), pg_temp.beat('0', '{"cpu_percent": 99}'), pg_temp.beat('1 min', '{"cpu_percent": 98}') \g /dev/null
SELECT results_eq($$SELECT m.bucket_at, m.cpu_percent FROM a67_internal.node_metric m WHERE m.node_id = pg_temp.id() ORDER BY 1$$,
    $$VALUES (pg_temp.t('-50 min'), 70::real), (pg_temp.t('0'), 10), (pg_temp.t('1 min'), NULL), (pg_temp.t('10 min'), 30), (pg_temp.t('11 min'), 34)$$,
    'a clock that was set back loses no minute, and the first account of one stays');
SELECT pg_temp.beat('12 min', '{"cpu_percent": 40}') \g /dev/null
SELECT throws_ok($$SELECT a67_internal._bucket_add('{1,2}', 1, 1, 1, 1, 1, 1, 1, 1)$$, '22023', 'bucket must have 19 numbers', 'an array of another kind');
SELECT is((a67_internal._bucket_add(NULL, 'NaN', 'Infinity', 1, NULL, -5, NULL, NULL, NULL))[2:16], '{0,0,0,0,0,0,1,1,1,0,0,0,1,-5,-5}'::float8[],
    'what is no number adds nothing; the largest may be negative');

-- Statistics of a node.
SELECT results_eq($$SELECT bucket_at, samples, cpu_percent, cpu_percent_max, requests, error_rate FROM a67.node_stats('met', pg_temp.t('0'), pg_temp.t('30 min'), '10 min')$$,
    $$VALUES (pg_temp.t('0'), 3::bigint, 10::float8, 10::float8, 8::bigint, 0.25::float8),
             (pg_temp.t('10 min'), 4 + 3 + 1::bigint, (4 * 30 + 3 * 34 + 40)::float8 / 8, 90::float8, 30::bigint, 0.1::float8)$$,
    'steps of ten minutes, each heartbeat weighing the same, the running minute among them');
SELECT is((SELECT count(*) FROM a67.node_stats(pg_temp.id()::text, pg_temp.t('10 min'), pg_temp.t('11 min'))), 1::bigint,
    'by id; the end is not in it; a minute a step where there is room');
SELECT is((SELECT array_agg(DISTINCT a67_internal._stats_step(pg_temp.t('0'), pg_temp.t(d)) ORDER BY a67_internal._stats_step(pg_temp.t('0'), pg_temp.t(d)))
    FROM unnest('{1 hour,3 hours,1 day,7 days,30 days,1 year}'::interval[]) d), '{1 minute,5 minutes,15 minutes,6 hours,1 day}'::interval[],
    'longer times have longer steps');
SELECT is_empty($$SELECT * FROM a67.node_stats('met')$$, 'nothing in the last hour');
SELECT is_empty($$SELECT * FROM a67.node_stats('other', pg_temp.t('0'), pg_temp.t('30 min'))$$, 'nothing of a node that is silent');
SELECT throws_ok(format('SELECT * FROM a67.node_stats(%L, %L, %L, %L)', n, f, t, s), c, m, what)
FROM (VALUES ('met', pg_temp.t('1 h'), pg_temp.t('1 h'), NULL, '22023', 'the time must begin before it ends', 'no time at all'),
             ('met', '-infinity', pg_temp.t('1 h'), NULL, '22023', 'time must be finite', 'all the past'),
             ('met', pg_temp.t('0'), 'infinity', NULL, '22023', 'time must be finite', 'all the future'),
             ('met', pg_temp.t('0'), pg_temp.t('1 h'), '30 s', '22023', 'step must be a number of whole minutes', 'half a minute'),
             ('met', pg_temp.t('0'), pg_temp.t('1 h'), '-1 h', '22023', 'step must be a number of whole minutes', 'backwards'),
             ('met', pg_temp.t('0'), pg_temp.t('1 h'), '90 s', '22023', 'step must be a number of whole minutes', 'a minute and a half'),
             ('met', pg_temp.t('0'), pg_temp.t('1 y'), '1 month', '22023', 'step must be a number of whole minutes', 'months differ'),
             ('met', pg_temp.t('0'), pg_temp.t('1001 min'), '1 min', '22023', 'more than 1000 steps', 'too many steps'),
             ('nobody', pg_temp.t('0'), pg_temp.t('1 h'), NULL, 'PT404', 'node "nobody" does not exist', 'a node that is not there'))
     v (n, f, t, s, c, m, what);

-- Totals.
UPDATE a67_internal.node_observed SET status = 'ready', latency_ms = 10, memory_percent = 50 WHERE node_id = pg_temp.id();
UPDATE a67_internal.node_observed SET status = 'failed', cpu_percent = 100, latency_ms = 1000 WHERE node_id = pg_temp.id('other');
UPDATE a67_internal.node SET desired_state = 'removed' WHERE node_id NOT IN (SELECT node_id FROM it);
DELETE FROM a67_internal.system_metric;
SELECT a67_internal._metric_tick(pg_temp.t('20 min')) \g /dev/null
SELECT results_eq($$SELECT at, nodes, nodes_by_status, cpu_cores, round(cpu_cores_used::numeric, 3), memory_bytes, memory_bytes_used, latency_ms, latency_ms_p99
    FROM a67.system_metric$$,
    $$VALUES (pg_temp.t('20 min'), 2, '{"ready": 1, "failed": 1}'::jsonb, 2::float8, 0.800, 1073741824::bigint, 536870912::bigint, 10::float8, 10::float8)$$,
    'a row of totals: nodes that are lost count as nodes only');
SELECT a67_internal._metric_tick(pg_temp.t('20 min 1 s')), a67_internal._metric_tick(pg_temp.t('20 min 6 s')) \g /dev/null
SELECT is((SELECT count(*) FROM a67.system_metric), 2::bigint, 'a round that was woken adds none');
SELECT a67_internal._metric_tick(pg_temp.t('10 min')) \g /dev/null
SELECT is((SELECT count(*) FROM a67.system_metric), 3::bigint, 'nor does a clock that was set back stop them');
SELECT is(a67.system_metrics() - 'at' - 'history' ->> 'nodes', '2', 'the totals of now');

-- The end of their time.
SELECT is(a67_internal._metric_prune(pg_temp.t('6 days')), 0, 'within a week nothing goes');
SELECT is(a67_internal._metric_prune(pg_temp.t('7 days 5 min'), 2), 2, 'a few at a time');
SELECT is(a67_internal._metric_prune(pg_temp.t('7 days 5 min')), 1, 'until all that are too old have gone');
SELECT is((SELECT min(bucket_at) FROM a67_internal.node_metric WHERE node_id = pg_temp.id()), pg_temp.t('10 min'), 'and no others');

-- Who sees what.
CREATE TEMP TABLE person AS SELECT n AS name, a67.user_create('metric-' || n || '@example.com') AS user_id FROM unnest('{ann,bob}'::text[]) n;
UPDATE a67_internal.node SET owner_id = (SELECT user_id FROM person WHERE name = 'ann') WHERE node_id = pg_temp.id();
CREATE FUNCTION pg_temp.be(who text) RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.user_id, 'role', 'a67_user')::text, true) || set_config('role', 'a67_user', true)
    FROM person p WHERE p.name = who
$$;
GRANT SELECT ON person TO PUBLIC;
SELECT pg_temp.be('ann') \g /dev/null
SELECT is((SELECT count(*) FROM a67.node_stats('met', pg_temp.t('10 min'), pg_temp.t('12 min'))), 2::bigint, 'an owner sees his node');
SELECT throws_ok($$SELECT a67.node_stats(pg_temp.id('other')::text)$$, 'PT404', NULL, 'and none of others');
SELECT is(a67.system_metrics() ->> 'nodes', '1', 'totals are of his nodes');
SELECT throws_ok($$SELECT * FROM a67.system_metric$$, '42501', NULL, 'those of all are not his');
SELECT throws_ok($$SELECT * FROM a67_internal.node_metric$$, '42501', NULL, 'nor is the table');
SELECT pg_temp.be('bob') \g /dev/null
SELECT throws_ok($$SELECT a67.node_stats(pg_temp.id()::text)$$, 'PT404', NULL, 'nobody else sees it');
SELECT is(a67.system_metrics() - 'at', '{"nodes": 0, "nodes_by_status": {}, "cpu_cores": 0, "cpu_cores_used": 0, "memory_bytes": 0, "memory_bytes_used": 0,
    "active_requests": 0, "error_rate": null, "latency_ms": null, "latency_ms_p50": null, "latency_ms_p95": null, "latency_ms_p99": null,
    "replicas_wanted": 0, "replicas_running": 0, "history": []}'::jsonb, 'totals of nothing');
SELECT set_config('request.jwt.claims', '', true) \g /dev/null
SELECT throws_ok($$SELECT a67.system_metrics()$$, 'PT401', NULL, 'a stranger sees nothing');
RESET ROLE;

-- The past of the whole, and of one owner's nodes.
SELECT is(jsonb_path_query_array(a67_internal._system_history(pg_temp.t('20 min 30 s'), NULL), '$[*].nodes'), '[2, 2]', 'the past of the whole, by minutes');
SELECT is(a67_internal._system_history(pg_temp.t('12 min 30 s'), (SELECT user_id FROM person WHERE name = 'ann')) -> -1 ->> 'cpu_percent', '40',
    'of one owner, the running minute last');
SELECT is(a67_internal._system_history(pg_temp.t('12 min 30 s'), (SELECT user_id FROM person WHERE name = 'bob')), '[]', 'of nobody');

-- One node must not keep the heartbeats of others from their rows, whatever it says and whenever it comes back.
SELECT pg_temp.join('odd') \g /dev/null
SELECT lives_ok(format($$SELECT pg_temp.beat('2 h', '{"requests": 5, "failures": 1}', 'odd'), pg_temp.beat(%L, '{"requests": 7}', 'odd')$$, a),
    'a node that was away for ' || a) FROM unnest('{2 h 1 min,40 h,9000 h}'::text[]) a;
SELECT is((pg_temp.seen('odd')).recent_requests, 7::float8, 'what was then is forgotten');
SELECT lives_ok($$UPDATE a67_internal.node_observed SET recent_requests = 5e-324, recent_failures = 5e-324 WHERE node_id = pg_temp.id('odd');
    SELECT pg_temp.beat('9000 h 1 min', '{"requests": 0, "network_bytes": 0}', 'odd')$$, 'a count that has faded to next to nothing');
SELECT lives_ok($$SELECT pg_temp.beat(make_interval(hours => 9000, mins => 2, secs => s), jsonb_build_object('requests', 9223372036854775807,
    'network_bytes', CASE WHEN s % 2 = 0 THEN 9223372036854775807 ELSE 1 END, 'cpu_percent', CASE WHEN s % 2 = 0 THEN 1e-44 ELSE 0 END,
    'load1', 1e-44, 'memory_percent', 3e37, 'disk_percent', -3e37), 'odd') FROM generate_series(0, 40, 13) s$$, 'the largest and the smallest numbers');
SELECT lives_ok($$SELECT pg_temp.beat('9000 h 3 min', '{"memory_percent": 3e37, "disk_percent": 3e37}', 'odd')$$, 'their minute ends');
SELECT results_eq($$SELECT (o).traffic_bytes, (o).memory_percent, (o).disk_percent FROM pg_temp.seen('odd') o$$,
    $$VALUES (9223372036854775807, 100::real, 100::real)$$, 'a counter stops at its end, shares at the whole');
SELECT lives_ok($$SELECT a67_internal._system_totals(pg_temp.t('9000 h 3 min'), NULL)$$, 'and there are totals');

SELECT * FROM finish();
ROLLBACK;
