\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(40);
\getenv inputs PG_ABS_SRCDIR
\set fixture :inputs /sql/fixture/rollout.sql
\i :fixture

-- Blue and green
SELECT a67.deployment_create(pg_temp.manifest('shop', 2, NULL)) \g /dev/null
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
CREATE FUNCTION pg_temp.update(strategy jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT a67.deployment_update('shop', pg_temp.manifest('shop', NULL, strategy));
    SELECT pg_temp.moved()
$$;
SELECT pg_temp.update('{"type": "blue_green", "observe": "30s", "test": {"path": "/smoke"}}') \g /dev/null
SELECT pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'running fill 0: 2+2', 'green beside blue');
SELECT pg_temp.plan_after() \g /dev/null
SELECT is(pg_temp.seen(), 'running test 0: 2+2', 'healthy: tested');
SELECT results_eq($$SELECT method, substring(url FROM '[0-9]+/.*') FROM work WHERE key LIKE 'test %'$$,
    $$VALUES ('GET', '4000/smoke'), ('GET', '4000/smoke')$$, 'each of them is asked');
CREATE TEMP TABLE asked AS SELECT * FROM work WHERE key LIKE 'test %';
SELECT is(pg_temp.plan_after(), 0::bigint, 'once, while the answer may come');
SELECT is(a67_internal._reconciler_record(pg_temp.at(), array_agg(replace(key, ' ' || o.epoch || ' ', ' ' || o.epoch - 1 || ' ')), array_agg(500),
    array_agg('{}'::text), array_agg(''::text)), 0, 'answers to an earlier step are dropped')
FROM asked, a67_internal.rollout o WHERE o.finished_at IS NULL;
SELECT pg_temp.answer() \g /dev/null
SELECT pg_temp.plan_after() \g /dev/null
SELECT is(pg_temp.seen(), 'running observe 100: 2+2', 'passed: green gets the requests, blue stays');
SELECT pg_temp.round('15 s') \g /dev/null
SELECT is(pg_temp.seen(), 'running observe 100: 2+2', 'for as long as it is to be observed');
SELECT alike(pg_temp.story('15 s'), 'succeeded done 100: 0+2', 'then blue goes');
SELECT is(pg_temp.reason(), 'judged by health alone: no ingress counts requests', 'by what it was judged');
SELECT pg_temp.round() \g /dev/null
SELECT pg_temp.update('{"type": "blue_green", "test": {"path": "/smoke"}}') \g /dev/null
CREATE TEMP TABLE blue AS SELECT replica_id, generation FROM a67_internal.replica WHERE desired_state = 'running';
SELECT is(pg_temp.story('2 s', 503), 'running fill 0: 2+2, running test 0: 2+2, rolling_back restore 0: 2+0, rolled_back done 0: 2+0', 'a test that fails');
SELECT alike(pg_temp.reason(), 'the smoke test failed: n-% answered 503', 'is told');
SELECT results_eq($$SELECT r.replica_id, r.generation FROM a67_internal.replica r WHERE r.desired_state = 'running' ORDER BY 1$$,
    'SELECT replica_id, generation FROM blue ORDER BY 1', 'blue was not touched');
SELECT pg_temp.update('{"type": "blue_green", "test": {"path": "/smoke"}}') \g /dev/null
SELECT alike(pg_temp.story('2 s', 0), '%rolled_back done 0: 2+0', 'no answer');
SELECT alike(pg_temp.reason(), 'the smoke test failed: n-% did not answer: connection refused', 'is a failure too');

-- A command is run once, as a replica that ends by itself
CREATE FUNCTION pg_temp.ended(code integer) RETURNS void LANGUAGE sql AS $$
    UPDATE a67_internal.replica SET state = 'finished', exit_code = code, log_tail = E'smoke\nsaid no\n' WHERE rollout_id IS NOT NULL
$$;
SELECT pg_temp.update('{"type": "blue_green", "test": {"command": ["./smoke", "{url}/x"]}, "observe": "0s"}') \g /dev/null
SELECT pg_temp.round(), pg_temp.round(), pg_temp.plan_after() \g /dev/null
SELECT is((SELECT body::jsonb - ARRAY['package', 'resources', 'generation', 'stop_grace_ms', 'runner', 'deployment', 'release'] FROM work
           WHERE body LIKE '%smoke%'), '{"app_type": "cron", "runtime": "executable", "entrypoint": ["./smoke", "http://127.0.0.1:4000/x"],
           "run_timeout_ms": 60000}'::jsonb, 'the command is told where a new replica is');
SELECT is(pg_temp.seen(), 'running test 0: 2+2', 'it counts as no replica');
SELECT pg_temp.answer(), pg_temp.report(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'running test 0: 2+2', 'while it runs');
SELECT pg_temp.ended(0) \g /dev/null
SELECT pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'succeeded done 100: 0+2', 'status 0 passes');
SELECT pg_temp.round() \g /dev/null
SELECT is_empty('SELECT FROM a67_internal.replica WHERE rollout_id IS NOT NULL', 'nothing of it is left');
SELECT pg_temp.update('{"type": "blue_green", "test": {"command": ["./smoke"]}}') \g /dev/null
SELECT pg_temp.round(), pg_temp.round(), pg_temp.round() \g /dev/null
SELECT pg_temp.ended(7) \g /dev/null
SELECT alike(pg_temp.story(), '%rolled_back done 0: 2+0', 'another one does not');
SELECT is(pg_temp.reason(), E'the smoke test failed: the command ended with status 7: smoke\nsaid no', 'with its last words');

-- Canary, judged by requests
CREATE OR REPLACE FUNCTION a67_internal._ingress_on() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
CREATE FUNCTION pg_temp.routed() RETURNS void LANGUAGE sql AS $$
    UPDATE a67_internal.replica SET routed = 'in' WHERE desired_state = 'running';
    UPDATE a67_internal.replica SET routed = 'out', drain_until = '-infinity' WHERE desired_state = 'stopped';
$$;
-- So many more requests to each replica of one side, failed ones among them, and their mean latency.
CREATE FUNCTION pg_temp.traffic(new boolean, more integer, failed integer DEFAULT 0, ms float8 DEFAULT 10) RETURNS void LANGUAGE sql AS $$
    INSERT INTO a67_internal.replica_traffic AS t (replica_id, requests, failures, latency_sum_ms)
    SELECT r.replica_id, more, failed, more * ms FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id)
    WHERE r.desired_state = 'running' AND (r.release <> d.release) = traffic.new
    ON CONFLICT (replica_id) DO UPDATE SET requests = t.requests + more, failures = t.failures + failed,
        latency_sum_ms = t.latency_sum_ms + more * ms
$$;
CREATE FUNCTION pg_temp.canary() RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.update('{"type": "canary", "steps": [10, 60, 100], "step_interval": "20s"}');
    SELECT pg_temp.round(), pg_temp.routed(), pg_temp.round(), pg_temp.routed(), pg_temp.round()
$$;
SELECT pg_temp.routed() \g /dev/null
SELECT pg_temp.traffic(false, 5000, 5000) \g /dev/null
SELECT pg_temp.canary() \g /dev/null
SELECT is(pg_temp.seen(), 'running observe 10: 2+1', 'a tenth of the requests, the old ones whole');
SELECT pg_temp.traffic(false, 100, 1), pg_temp.traffic(true, 19, 19), pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'running observe 10: 2+1', 'too few requests to judge by');
SELECT pg_temp.round('15 s'), pg_temp.round('5 s') \g /dev/null
SELECT is(pg_temp.seen(), 'running fill 10: 2+2', 'the next step');
SELECT is(pg_temp.reason(), 'judged by health alone: 19 requests are too few', 'and why');
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
SELECT pg_temp.routed(), pg_temp.round(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'running observe 60: 2+2', 'more requests');
SELECT pg_temp.traffic(false, 100, 1), pg_temp.traffic(true, 100, 5), pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'running observe 60: 2+2', 'five of a hundred are not more than five above one');
SELECT pg_temp.round('15 s'), pg_temp.round('5 s'), pg_temp.round(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'running observe 100: 2+2', 'all of them');
SELECT pg_temp.traffic(true, 100, 9), pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'rolling_back restore 0: 2+0', 'nine are too many, even at the last step') ;
SELECT alike(pg_temp.reason(), '18 of 200 requests failed, of the old release 0 of 0', 'counted since the step began');
SELECT pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'rolled_back done 0: 2+0', 'back');
SELECT pg_temp.canary() \g /dev/null
SELECT pg_temp.traffic(false, 100, 1, 30), pg_temp.traffic(true, 100, 1, 61), pg_temp.round() \g /dev/null
SELECT is(pg_temp.reason(), '61.0 ms a request, of the old release 30.0 ms', 'one that is slow goes back');
SELECT pg_temp.routed(), pg_temp.round() \g /dev/null
-- Judged by health: a replica that fails, replicas that start anew
SELECT pg_temp.canary() \g /dev/null
INSERT INTO bad SELECT max(release) FROM a67.release;
SELECT pg_temp.report(), pg_temp.round(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.reason(), 'replicas that served failed or started anew: exit status 1', 'one replica that fails is enough');
SELECT pg_temp.routed(), pg_temp.round() \g /dev/null
DELETE FROM bad;
SELECT pg_temp.canary() \g /dev/null
UPDATE a67_internal.replica SET restarts = 3 WHERE release = (SELECT max(release) FROM a67.release);
SELECT pg_temp.plan_after() \g /dev/null
SELECT is(pg_temp.reason(), 'replicas that served failed or started anew', 'as are three restarts');
SELECT pg_temp.answer(), pg_temp.routed(), pg_temp.round(), pg_temp.round() \g /dev/null
-- Paused by its owner it keeps its share; promoted it goes to its end
SELECT pg_temp.canary() \g /dev/null
SELECT a67.deployment_pause('shop') \g /dev/null
SELECT pg_temp.round('10 s') FROM generate_series(1, 6) \g /dev/null
SELECT is(pg_temp.seen(), 'paused observe 10: 2+1', 'paused for a minute');
SELECT a67.deployment_promote('shop') \g /dev/null
SELECT pg_temp.moved(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'running observe 10: 2+2', 'promoted: the rest is brought up first');
SELECT pg_temp.routed(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'succeeded done 100: 0+2', 'then it is done');
SELECT is((SELECT count(*) FROM a67_internal.replica WHERE desired_state = 'stopped' AND drain_until > pg_temp.at()), 2::bigint,
    'what gets requests is drained before it stops');
SELECT is(pg_temp.plan_after('1 s'), 0::bigint, 'so nobody is told to stop yet');
SELECT pg_temp.plan_after('10 s') \g /dev/null
SELECT is((SELECT count(*) FROM work WHERE method = 'DELETE'), 2::bigint, 'later they are');

SELECT * FROM finish();
ROLLBACK;
