\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(86);

-- Schedules ---------------------------------------------------------------------------------------------------------------
SELECT is(a67_internal._cron_fault(s), f, coalesce(s, 'nothing')) FROM (VALUES
    ('*/5 * * * *', NULL), ('@daily', NULL), ('0 0 29 2 *', NULL), ('0 9-17/2 * jan,JUL mon-fri', NULL), ('0 0 * * 7', NULL),
    ('* * * *', 'has fewer than five fields'), ('* * * * * *', 'has more than five fields'), ('', 'has fewer than five fields'),
    ('60 * * * *', 'has no minute (from 0 to 59) as field 1'), ('0 0 30 2 *', 'never comes due'),
    ('0 0 $ * *', 'has no day of the month (from 1 to 31) as field 3'), ('@reboot', 'is none of the known names with "@"')) v (s, f);
SELECT is(a67_internal._cron_next('0 0 29 2 *', '2026-01-01Z'), '2028-02-29Z', 'the next leap day');
SELECT is(a67_internal._cron_next('0 0 13 * 5', '2026-01-01Z'), '2026-01-02Z', 'either day field counts when both are given');
SELECT is(a67_internal._cron_previous('0 12 * * *', '1999-12-31 11:59:59.5Z'), '1999-12-30 12:00Z', 'before the year 2000');
SELECT throws_ok($$SELECT a67_internal._cron_next('nonsense', now())$$, '22023', 'invalid schedule "nonsense"', 'no schedule');
SELECT throws_ok($$SELECT a67_internal._cron_next('@daily', 'infinity')$$, '22008', NULL, 'no time');

-- Two nodes, one owner; the clock is the test's own -------------------------------------------------------------------------
CREATE TEMP TABLE fleet (name text PRIMARY KEY, node_id uuid);
INSERT INTO fleet
SELECT n, (a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:' || 7100 + ascii(n), a67_internal._base64url(k.public_key),
    '{"cpu_cores": 2, "memory_gb": 1, "disk_gb": 1}', name => 'n-' || n) ->> 'node_id')::uuid
FROM unnest(ARRAY['a', 'b', 'c', 'd']) n, a67_internal._key_generate('ed25519', n) k;
UPDATE a67_internal.node_observed o SET status = 'ready', last_heartbeat_at = '2030-12-31Z' FROM fleet f WHERE o.node_id = f.node_id;
CREATE TEMP TABLE package AS SELECT a67.package_build('{"run": ""}') AS digest;
CREATE FUNCTION pg_temp.at(clock text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$SELECT ('2030-01-01 ' || clock || 'Z')::timestamptz$$;
CREATE FUNCTION pg_temp.make(name text, change jsonb DEFAULT '{}', due text DEFAULT '01:00') RETURNS void LANGUAGE sql AS $$
    SELECT a67.deployment_create(jsonb_build_object('name', name, 'app_type', 'cron', 'schedule', '*/5 * * * *', 'entrypoint', '["./run"]'::jsonb,
        'package', p.digest) || change) FROM package p;
    UPDATE a67_internal.cron_app a SET next_at = pg_temp.at(due) FROM a67_internal.deployment d WHERE d.deployment_id = a.deployment_id AND d.name = make.name;
$$;
CREATE TEMP TABLE work (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text, done boolean DEFAULT false);
-- Plans at that time; returns how many commands there were to start and to stop.
CREATE FUNCTION pg_temp.tick(clock text) RETURNS text LANGUAGE sql AS $$
    WITH p AS (INSERT INTO work SELECT * FROM a67_internal._reconciler_plan(pg_temp.at(clock)) RETURNING method)
    SELECT count(*) FILTER (WHERE method = 'PUT') || ' ' || count(*) FILTER (WHERE method = 'DELETE') FROM p
$$;
CREATE FUNCTION pg_temp.answer(clock text, only_method text, status integer, error text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    WITH w AS (UPDATE work SET done = true WHERE NOT done AND method = only_method RETURNING key)
    SELECT a67_internal._reconciler_record(pg_temp.at(clock), array_agg(key), array_agg(status), array_agg('{}'::text), array_agg(error)) FROM w
$$;
-- The node of the run reports that of its replica.
CREATE FUNCTION pg_temp.report(name text, state text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    SELECT p.*, n AS node INTO STRICT r FROM a67_internal.replica p JOIN a67_internal.node n USING (node_id)
    JOIN a67_internal.deployment d USING (deployment_id) WHERE d.name = report.name AND p.desired_state = 'running';
    PERFORM a67_internal._replica_observe(r.node, (SELECT jsonb_agg(jsonb_build_object('id', o.replica_id, 'generation', o.generation,
        'state', o.state) || CASE WHEN o.replica_id = r.replica_id THEN jsonb_build_object('state', report.state, 'port', NULL) || more ELSE '{}' END)
        FROM a67_internal.replica o WHERE o.node_id = r.node_id));
END
$$;
CREATE FUNCTION pg_temp.runs(name text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(to_char(c.scheduled_at AT TIME ZONE 'UTC', 'HH24:MI') || ' ' || c.state, ', ' ORDER BY c.cron_run_id), 'none')
    FROM a67.cron_run c WHERE c.deployment = runs.name
$$;
CREATE FUNCTION pg_temp.last_error(name text) RETURNS text LANGUAGE sql AS
    $$SELECT c.error FROM a67.cron_run c WHERE c.deployment = last_error.name ORDER BY c.cron_run_id DESC LIMIT 1$$;
CREATE FUNCTION pg_temp.drop(name text) RETURNS void LANGUAGE sql AS $$
    SELECT a67.deployment_remove(name);
    DELETE FROM a67_internal.replica r USING a67_internal.deployment d WHERE r.deployment_id = d.deployment_id AND d.name = drop.name;
    DELETE FROM a67_internal.deployment d WHERE d.name = drop.name;
    UPDATE work SET done = true;
$$;

-- A run from its minute to its end --------------------------------------------------------------------------------------------
SELECT pg_temp.make('job') \g /dev/null
SELECT is((SELECT a.schedule FROM a67_internal.cron_app a), '*/5 * * * *', 'the schedule is in force');
SELECT is(pg_temp.tick('00:59:59'), '0 0', 'nothing is to be done before its time');
SELECT is((SELECT status FROM a67.deployment WHERE name = 'job'), 'running', 'the app is as it should be');
SELECT is(pg_temp.tick('01:00'), '1 0', 'its minute');
SELECT is(pg_temp.runs('job'), '01:00 pending', 'a run');
SELECT is((SELECT body::jsonb - 'package' FROM work WHERE NOT done), '{"app_type": "cron", "runner": "process", "runtime": "executable",
    "release": 1, "deployment": "job", "entrypoint": ["./run"], "generation": 1, "on_partition": "continue", "stop_grace_ms": 10000,
    "on_secret_change": "none", "partition_deadline_ms": 60000, "run_timeout_ms": 3600000,
    "resources": {"cpu": 0.1, "pids": 1024, "disk_bytes": 0, "memory_bytes": 67108864}}'::jsonb, 'what its agent is told');
SELECT is(pg_temp.tick('01:00:01'), '0 0', 'once');
SELECT is(a67_internal._cron_due(deployment_id, pg_temp.at('01:00:02')), NULL, 'whoever comes second') FROM a67_internal.deployment WHERE name = 'job';
SELECT pg_temp.answer('01:00:02', 'PUT', 202) \g /dev/null
SELECT pg_temp.report('job', 'running', '{"started_at": "2030-01-01T01:00:03Z"}') \g /dev/null
SELECT pg_temp.tick('01:00:04') \g /dev/null
SELECT is((SELECT state || ' ' || started_at::text FROM a67.cron_run), 'running ' || pg_temp.at('01:00:03')::text, 'it runs');
SELECT is(pg_temp.tick('01:05:30'), '0 0', 'the next one comes due too early');
SELECT is(pg_temp.runs('job'), '01:00 running, 01:05 skipped', 'and is left out');
SELECT is(pg_temp.last_error('job'), 'the run of 2030-01-01T01:00:00Z was still going on', 'which is said');
SELECT pg_temp.report('job', 'finished', '{"started_at": "2030-01-01T01:00:03Z", "exit_code": 0, "duration_ms": 317000, "log_tail": "done"}') \g /dev/null
SELECT is(pg_temp.tick('01:06'), '0 1', 'its end: the agent may forget it');
SELECT is((SELECT state || ' ' || exit_code || ' ' || duration_ms || ' ' || log_tail FROM a67.cron_run ORDER BY cron_run_id LIMIT 1), 'succeeded 0 317000 done', 'kept');
SELECT pg_temp.answer('01:06:01', 'DELETE', 204) \g /dev/null
SELECT is((SELECT count(*) FROM a67.replica WHERE deployment = 'job'), 0::bigint, 'nothing is left of it on the node');
SELECT is((SELECT array_agg(payload ->> 'state' ORDER BY event_id) FROM a67.event WHERE type = 'run.changed'),
    '{pending,running,skipped,succeeded}', 'every change is an event');
SELECT is((SELECT jsonb_agg(e ->> 'state') FROM jsonb_array_elements(a67.deployment_runs('job')) e), '["skipped", "succeeded"]', 'the list, the latest first');
SELECT is(jsonb_array_length(a67.deployment_runs('job', 1, 1)), 1, 'in pages');

-- Failures --------------------------------------------------------------------------------------------------------------------
CREATE FUNCTION pg_temp.run_out(name text, clock text, exit_code integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.tick(clock), pg_temp.answer(clock, 'PUT', 202);
    PERFORM pg_temp.report(name, 'finished', jsonb_build_object('started_at', pg_temp.at(clock), 'exit_code', exit_code, 'duration_ms', 5));
    PERFORM pg_temp.tick(clock || ':01'), pg_temp.answer(clock || ':02', 'DELETE', 204);
END
$$;
SELECT pg_temp.run_out('job', '01:10', 3), pg_temp.run_out('job', '01:15', 137) \g /dev/null
SELECT is((SELECT string_agg(state || ' ' || exit_code, ', ' ORDER BY cron_run_id) FROM a67.cron_run WHERE scheduled_at >= pg_temp.at('01:10')),
    'failed 3, failed 137', 'exit codes');
SELECT is(pg_temp.last_error('job'), 'ended with exit code 137', 'in words');
SELECT is_empty($$SELECT FROM a67.alert WHERE resolved_at IS NULL$$, 'two failures are no alert');
SELECT pg_temp.run_out('job', '01:20', 1) \g /dev/null
SELECT is((SELECT message FROM a67.alert WHERE resolved_at IS NULL), 'deployment "job": the last 3 runs failed', 'three are one');
SELECT pg_temp.run_out('job', '01:25', 0) \g /dev/null
SELECT is_empty($$SELECT FROM a67.alert WHERE resolved_at IS NULL$$, 'until one succeeds');

-- Missed and late -------------------------------------------------------------------------------------------------------------
SELECT is(pg_temp.tick('03:01:30'), '0 0', 'two hours of silence');
SELECT is((SELECT count(*) || ' ' || min(scheduled_at)::text || ' ' || max(scheduled_at)::text FROM a67.cron_run WHERE state = 'missed'),
    '10 ' || pg_temp.at('02:15')::text || ' ' || pg_temp.at('03:00')::text, 'the last ten are recorded');
SELECT is((SELECT error FROM a67.cron_run WHERE scheduled_at = pg_temp.at('02:15')), 'nobody was there to begin it, nor any since 2030-01-01T01:30:00Z', 'with the rest');
SELECT is((SELECT next_at FROM a67_internal.cron_app), pg_temp.at('03:05'), 'none of them is run later');
SELECT is(pg_temp.tick('03:05:59'), '1 0', 'less than a minute late is in time');
SELECT pg_temp.answer('03:06', 'PUT', 202), pg_temp.report('job', 'finished', '{"exit_code": 0}'), pg_temp.tick('03:06:01') \g /dev/null
SELECT is(a67_internal._cron_due(deployment_id, pg_temp.at('03:06:10')), NULL, 'a job that starts late begins nothing') FROM a67_internal.deployment WHERE name = 'job';
SELECT pg_temp.drop('job') \g /dev/null

-- Beside pg_cron ----------------------------------------------------------------------------------------------------------------
SELECT pg_temp.make('timed') \g /dev/null
-- As if it were in another session: plans of this one look for pg_cron once a minute.
SELECT set_config('a67_internal.cron_at', pg_temp.at('00:59:59')::text, true) \g /dev/null
UPDATE a67_internal.cron_app SET job_id = 1;
SELECT is(pg_temp.tick('01:00:10'), '0 0', 'pg_cron has time to begin it');
SELECT isnt(a67_internal._cron_due(deployment_id, pg_temp.at('01:00:11')), NULL, 'and does') FROM a67_internal.deployment WHERE name = 'timed';
SELECT is(pg_temp.tick('01:00:12'), '1 0', 'the reconciler places it');
SELECT is((SELECT next_at FROM a67_internal.cron_app), pg_temp.at('01:05'), 'and knows that it has begun');
SELECT pg_temp.answer('01:00:13', 'PUT', 202), pg_temp.report('timed', 'finished', '{"exit_code": 0}'), pg_temp.tick('01:00:14') \g /dev/null
SELECT set_config('a67_internal.cron_at', pg_temp.at('01:04:59')::text, true) \g /dev/null
SELECT pg_temp.tick('01:05:20') \g /dev/null
SELECT is(pg_temp.runs('timed'), '01:00 succeeded, 01:05 pending', 'where it is late the reconciler steps in');
SELECT pg_temp.drop('timed') \g /dev/null

-- Overlap -------------------------------------------------------------------------------------------------------------------------
SELECT pg_temp.make('allow', '{"overlap": "allow", "schedule": "* * * * *"}') \g /dev/null
SELECT pg_temp.tick('01:00'), pg_temp.tick('01:01') \g /dev/null
SELECT is(pg_temp.runs('allow'), '01:00 pending, 01:01 pending', 'allow: beside each other');
UPDATE a67_internal.replica SET deadline_at = NULL;
SELECT pg_temp.tick('01:0' || m) FROM generate_series(2, 6) m \g /dev/null
UPDATE a67_internal.replica SET deadline_at = NULL;
SELECT pg_temp.tick('01:' || m) FROM unnest(ARRAY['07', '08', '09', '10']) m \g /dev/null
SELECT is((SELECT count(*) FILTER (WHERE state = 'pending') || ' ' || count(*) FILTER (WHERE state = 'skipped') FROM a67.cron_run), '10 1', 'ten at most');
SELECT pg_temp.drop('allow') \g /dev/null
SELECT pg_temp.make('replace', '{"overlap": "replace"}') \g /dev/null
SELECT pg_temp.tick('01:00'), pg_temp.answer('01:00', 'PUT', 202), pg_temp.report('replace', 'running'), pg_temp.tick('01:00:01') \g /dev/null
SELECT is(pg_temp.tick('01:05'), '0 1', 'replace: the old one is stopped first');
SELECT is(pg_temp.runs('replace'), '01:00 replaced, 01:05 pending', 'both are recorded');
SELECT pg_temp.answer('01:05:01', 'DELETE', 204) \g /dev/null
SELECT is(pg_temp.tick('01:05:02'), '1 0', 'then the new one begins');
SELECT pg_temp.drop('replace') \g /dev/null

-- Nodes that fail -----------------------------------------------------------------------------------------------------------------
CREATE FUNCTION pg_temp.node_of(name text) RETURNS uuid LANGUAGE sql AS
    $$SELECT r.node_id FROM a67.replica r WHERE r.deployment = node_of.name AND r.desired_state = 'running'$$;
SELECT pg_temp.make('lost') \g /dev/null
SELECT pg_temp.tick('01:00'), pg_temp.answer('01:00', 'PUT', 202), pg_temp.report('lost', 'running'), pg_temp.tick('01:00:01') \g /dev/null
UPDATE a67_internal.node_observed SET status = 'failed' WHERE node_id = pg_temp.node_of('lost');
SELECT is(pg_temp.tick('01:00:02') || ', ' || pg_temp.tick('01:00:03'), '0 0, 0 0', 'a run on a node that dies is not run twice');
SELECT matches(pg_temp.runs('lost') || ': ' || pg_temp.last_error('lost'), '^01:00 failed: node lost: node "n-.*" failed$', 'it has failed');
UPDATE a67_internal.node_observed o SET status = 'ready' FROM fleet f WHERE o.node_id = f.node_id;
SELECT pg_temp.drop('lost') \g /dev/null
SELECT pg_temp.make('early') \g /dev/null
SELECT a67_internal._cron_tick(pg_temp.at('01:00')) \g /dev/null
UPDATE a67_internal.node_observed SET status = 'failed' WHERE node_id = pg_temp.node_of('early');
SELECT pg_temp.tick('01:00:02') \g /dev/null
SELECT is(pg_temp.tick('01:00:05') || ' ' || pg_temp.tick('01:00:07') || ' ' || pg_temp.runs('early'), '0 0 1 0 01:00 pending', 'one that nobody was told of goes elsewhere');
UPDATE a67_internal.node_observed o SET status = 'ready' FROM fleet f WHERE o.node_id = f.node_id;
SELECT pg_temp.drop('early') \g /dev/null

-- Three nodes are tried, each by what is sent and answered.
CREATE FUNCTION pg_temp.tries(change jsonb, status integer, error text, attempts integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    sent integer := 0;
    said text;
BEGIN
    PERFORM pg_temp.make('tried', change);
    FOR i IN 0 .. 80 BY 4 LOOP
        PERFORM pg_temp.tick(format('01:%s:%s', i / 60, i % 60));
        sent := sent + (SELECT count(*) FROM work WHERE NOT done AND method = 'PUT');
        PERFORM pg_temp.answer(format('01:%s:%s', i / 60, i % 60), 'PUT', status, error),
                pg_temp.answer(format('01:%s:%s', i / 60, i % 60), 'DELETE', 404);
    END LOOP;
    said := format('%s, %s nodes, %s', sent, (SELECT cardinality(tried_nodes) FROM a67_internal.cron_run),
                   (SELECT state || ': ' || c.error FROM a67.cron_run c));
    PERFORM pg_temp.drop('tried');
    RETURN said;
END
$$;
SELECT is(pg_temp.tries('{}', 400, NULL, 3), '3, 2 nodes, failed: agent answered 400: ', 'refused by three nodes');
SELECT is(pg_temp.tries('{}', 0, 'connection refused', 3), '9, 2 nodes, failed: could not reach the agent: connection refused', 'three nodes, three attempts each');
SELECT is(pg_temp.tries('{}', 0, 'timeout', 3), '3, 0 nodes, failed: could not reach the agent: timeout', 'not elsewhere when it may have begun');

SELECT pg_temp.make('start') \g /dev/null
SELECT pg_temp.tick('01:00'), pg_temp.answer('01:00', 'PUT', 202), pg_temp.report('start', 'failed', '{"error": "no such program"}') \g /dev/null
SELECT pg_temp.tick('01:00:01') \g /dev/null
SELECT is(pg_temp.runs('start') || ': ' || pg_temp.last_error('start'), '01:00 pending: no such program', 'what could not start is tried elsewhere');
SELECT pg_temp.tick('01:00:03'), pg_temp.answer('01:00:03', 'PUT', 202),
       pg_temp.report('start', 'failed', '{"error": "took longer than 1s", "started_at": "2030-01-01T01:00:04Z", "exit_code": 143, "duration_ms": 1000}') \g /dev/null
SELECT pg_temp.tick('01:00:06') \g /dev/null
SELECT is(pg_temp.runs('start') || ': ' || pg_temp.last_error('start'), '01:00 failed: took longer than 1s', 'what had started is not');
SELECT is((SELECT exit_code || ' ' || duration_ms FROM a67.cron_run), '143 1000', 'with what is known of it');
SELECT pg_temp.drop('start') \g /dev/null

-- Where it may run ------------------------------------------------------------------------------------------------------------------
SELECT pg_temp.make('there', '{"affinity": {"nodes": ["n-c"]}}') \g /dev/null
SELECT pg_temp.tick('01:00') \g /dev/null
SELECT is((SELECT node FROM a67.cron_run), 'n-c', 'on the node that it asks for');
SELECT pg_temp.drop('there') \g /dev/null
SELECT pg_temp.make('nowhere', '{"affinity": {"nodes": ["n-c"]}}') \g /dev/null
UPDATE a67_internal.node SET desired_state = 'maintenance' WHERE name = 'n-c';
SELECT pg_temp.tick('01:00') \g /dev/null
SELECT matches(pg_temp.last_error('nowhere'), '^insufficient capacity for a run: Of \d+ nodes, 1 is taken out by its owner, \d+ are ruled out by the manifest\. Ruled out: \d+ by name\.$', 'no room: why');
SELECT is(pg_temp.tick('01:04'), '0 0', 'it waits for room');
UPDATE a67_internal.cron_run SET created_at = pg_temp.at('00:50');
SELECT pg_temp.tick('01:04:30') \g /dev/null
SELECT is(pg_temp.runs('nowhere'), '01:00 failed', 'but not for ever');
UPDATE a67_internal.node SET desired_state = 'active' WHERE name = 'n-c';
SELECT pg_temp.drop('nowhere') \g /dev/null

-- Commands of the owner -----------------------------------------------------------------------------------------------------------
SELECT pg_temp.make('mine') \g /dev/null
SELECT throws_ok($$SELECT a67.deployment_scale('mine', 2)$$, '22023', 'deployment "mine" has no replicas but its runs', 'not scaled');
SELECT is(a67.deployment_run('mine') ->> 'state', 'pending', 'run now');
SELECT is(current_setting('response.status', true), '202', 'accepted');
SELECT throws_ok($$SELECT a67.deployment_run('mine')$$, 'PT409', 'deployment "mine" is running already', 'not twice');
SELECT is((SELECT count(*) || ' ' || bool_and(by_hand) FROM a67.cron_run), '1 true', 'one run, by hand');
SELECT pg_temp.tick('00:30'), pg_temp.answer('00:30', 'PUT', 202), pg_temp.report('mine', 'running'), pg_temp.tick('00:30:01') \g /dev/null
SELECT a67.deployment_stop('mine') \g /dev/null
SELECT is((SELECT state || ': ' || error FROM a67.cron_run), 'stopped: the deployment was stopped', 'stop ends the run');
SELECT is(pg_temp.tick('01:00'), '0 1', 'on its node too, and no other comes due');
SELECT is((SELECT status FROM a67.deployment WHERE name = 'mine'), 'stopping', 'which takes a moment');
SELECT throws_ok($$SELECT a67.deployment_run('mine')$$, 'PT409', 'deployment "mine" is stopped', 'not by hand either');
SELECT pg_temp.answer('01:00', 'DELETE', 204), pg_temp.tick('01:01') \g /dev/null
SELECT is((SELECT status FROM a67.deployment WHERE name = 'mine') || (SELECT count(*) FROM a67_internal.cron_app), 'stopped0', 'stopped');
SELECT a67.deployment_start('mine') \g /dev/null
SELECT ok((SELECT next_at > now() AND next_at <= now() + interval '5 minutes' FROM a67_internal.cron_app), 'start goes on from now');
SELECT a67.deployment_update('mine', jsonb_build_object('name', 'mine', 'app_type', 'cron', 'schedule', '@yearly', 'entrypoint', '["./run"]'::jsonb, 'package', digest)) FROM package \g /dev/null
SELECT is((SELECT schedule || ' ' || release FROM a67_internal.cron_app JOIN a67_internal.deployment USING (deployment_id)), '@yearly 2', 'another schedule at once');
INSERT INTO a67_internal.cron_run (deployment_id, release, scheduled_at, state, finished_at)
SELECT deployment_id, 2, pg_temp.at('00:00') + i * interval '1 minute', 'succeeded', now() FROM a67_internal.deployment, generate_series(1, 150) i WHERE name = 'mine';
SELECT a67_internal._cron_begin(d, '2030-02-01Z', '2030-02-01Z', false), a67_internal._cron_finish(c.cron_run_id, now(), 'failed', 'x')
FROM a67_internal.deployment d, LATERAL (SELECT max(cron_run_id) + 1 AS cron_run_id FROM a67_internal.cron_run) c WHERE d.name = 'mine' \g /dev/null
SELECT is((SELECT count(*) FROM a67.cron_run), 100::bigint, 'the last hundred are kept');
SELECT throws_ok($$SELECT a67.deployment_runs('no-such')$$, 'PT404', 'deployment "no-such" does not exist', 'runs of nothing');
SELECT throws_ok($$SELECT a67.deployment_run('no-such')$$, 'PT404', NULL, 'nor can it be run');
SELECT a67.deployment_create(jsonb_build_object('name', 'web', 'entrypoint', '["./run"]'::jsonb, 'replicas', 0, 'package', digest)) FROM package \g /dev/null
SELECT throws_ok($$SELECT a67.deployment_run('web')$$, '22023', 'deployment "web" is no cron app', 'nor can a backend');
SELECT a67.deployment_remove('mine'), pg_temp.tick('01:02') \g /dev/null
SELECT is((SELECT count(*) FROM a67_internal.cron_app) + (SELECT count(*) FROM a67.cron_run), 0::bigint, 'removed with all its runs');

SELECT * FROM finish();
ROLLBACK;
