\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(38);
\getenv inputs PG_ABS_SRCDIR
\set fixture :inputs /sql/fixture/rollout.sql
\i :fixture

-- An app that may not run twice: a replica on a dead node is lost when it has certainly stopped itself
SELECT throws_ok($$SELECT a67.deployment_create(pg_temp.manifest('shop', 1, '{"type": "canary"}', '{"on_partition": "stop"}'))$$, '22023', NULL,
    'what runs both releases at once is not for it');
SELECT a67.deployment_create(pg_temp.manifest('shop', 1, NULL, '{"on_partition": "stop", "partition_deadline": "60s", "stop_grace": "10s"}')) \g /dev/null
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
CREATE TEMP TABLE home AS SELECT node_id, replica_id FROM a67.replica WHERE deployment = 'shop';
UPDATE a67_internal.node_observed o SET status = 'failed', status_at = pg_temp.at() FROM home h WHERE o.node_id = h.node_id;
SELECT is(pg_temp.plan_after('1 s'), 0::bigint, 'nothing is started');
SELECT results_eq($$SELECT state, desired_state, error FROM a67.replica$$,
    $$SELECT 'lost', 'running', format('node "%s" failed: replaced when it has certainly stopped there', name) FROM a67.node JOIN home USING (node_id)$$,
    'it is lost, and its place is kept');
SELECT is(pg_temp.status(), 'failing', 'the deployment fails');
SELECT pg_temp.plan_after('97 s') \g /dev/null
SELECT is((SELECT count(*) FROM a67.replica), 1::bigint, '60 s of silence, 10 s of grace, twice 10 s for what was under way, 10 s more: not yet');
SELECT is(pg_temp.plan_after('3 s'), 1::bigint, 'then another one starts');
SELECT is((SELECT string_agg(desired_state || ' ' || state, ', ' ORDER BY created_at) FROM a67.replica), 'stopped lost, running pending', 'elsewhere');
SELECT pg_temp.answer(), pg_temp.report(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.status(), 'running', 'it runs');
-- A node that comes back in time keeps it
UPDATE a67_internal.node_observed o SET status = 'ready' FROM home h WHERE o.node_id = h.node_id;
SELECT pg_temp.round() \g /dev/null
SELECT is((SELECT count(*) FROM a67.replica), 1::bigint, 'back, it is told to stop the old one');
UPDATE home h SET node_id = r.node_id, replica_id = r.replica_id FROM a67.replica r;
UPDATE a67_internal.node_observed o SET status = 'failed', status_at = pg_temp.at() FROM home h WHERE o.node_id = h.node_id;
SELECT pg_temp.round('30 s') \g /dev/null
UPDATE a67_internal.node_observed o SET status = 'ready', status_at = pg_temp.at() FROM home h WHERE o.node_id = h.node_id;
SELECT pg_temp.report(), pg_temp.round() \g /dev/null
SELECT results_eq('SELECT replica_id, state FROM a67.replica', $$SELECT replica_id, 'running' FROM home$$, 'back in time, it keeps what it has');
-- Taken out: break before make
SELECT a67.node_drain(name) FROM a67.node JOIN home USING (node_id) \g /dev/null
SELECT pg_temp.plan_after() \g /dev/null
SELECT is((SELECT string_agg(desired_state, ', ') FROM a67.replica), 'stopped', 'a node is emptied by stopping first');
SELECT pg_temp.answer(), pg_temp.plan_after() \g /dev/null
SELECT is((SELECT string_agg(desired_state, ', ') FROM a67.replica), 'running', 'then starting elsewhere');
SELECT pg_temp.answer(), pg_temp.report(), pg_temp.round() \g /dev/null
SELECT a67.node_activate(name) FROM a67.node JOIN home USING (node_id) \g /dev/null
UPDATE a67_internal.node_observed o SET status = 'ready' FROM home h WHERE o.node_id = h.node_id;
UPDATE home h SET node_id = r.node_id, replica_id = r.replica_id FROM a67.replica r;
-- Where there is no room elsewhere it stays
SELECT a67.node_drain(name) FROM a67.node \g /dev/null
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
SELECT results_eq('SELECT replica_id, desired_state FROM a67.replica', $$SELECT replica_id, 'running' FROM home$$, 'without room elsewhere it stays');
SELECT alike((SELECT status_reason FROM a67.deployment), 'cannot empty %', 'and says so');
SELECT a67.node_activate(name) FROM a67.node \g /dev/null
UPDATE a67_internal.node_observed o SET status = 'ready' FROM fleet f WHERE o.node_id = f.node_id;
SELECT pg_temp.round() \g /dev/null
-- A rollout makes room first, whatever its surge
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 1, '{"max_surge": 1}', '{"on_partition": "stop"}')) \g /dev/null
SELECT pg_temp.moved(), pg_temp.plan_after() \g /dev/null
SELECT is(pg_temp.seen(), 'running replace 0: 0+0', 'the old one stops');
SELECT pg_temp.plan_after() \g /dev/null
SELECT is(pg_temp.seen(), 'running replace 0: 0+0', 'and is waited for');
SELECT pg_temp.answer() \g /dev/null
SELECT alike(pg_temp.story(), '%succeeded done 100: 0+1', 'before the new one starts');
SELECT a67.deployment_remove('shop') \g /dev/null
SELECT pg_temp.round(), pg_temp.round() \g /dev/null

-- All or nothing
SELECT throws_ok($$SELECT a67.deployment_create(pg_temp.manifest('shop', 100, NULL, '{"atomic": true}'))$$, '53000',
    'insufficient capacity for 100 replicas', 'all of it must fit');
SELECT a67.deployment_create(pg_temp.manifest('shop', 3, NULL, '{"atomic": true}')) \g /dev/null
SELECT pg_temp.moved(), pg_temp.plan_after(), pg_temp.answer() \g /dev/null
UPDATE a67_internal.replica SET state = 'running' WHERE replica_id IN (SELECT replica_id FROM a67_internal.replica ORDER BY replica_id LIMIT 2);
SELECT pg_temp.plan_after('4 min 50 s') \g /dev/null
SELECT is((SELECT count(*) FROM a67.replica WHERE desired_state = 'running'), 3::bigint, 'two of three run');
SELECT pg_temp.plan_after('11 s') \g /dev/null
SELECT is((SELECT count(*) FROM a67.replica WHERE desired_state = 'running'), 0::bigint, 'not all in time: none is wanted any more');
SELECT pg_temp.answer(), pg_temp.round(), pg_temp.round() \g /dev/null
SELECT results_eq('SELECT status, status_reason FROM a67.deployment',
    $$VALUES ('failed', 'not all of 3 replicas ran within 5min: not running within 5min')$$, 'failed, and why');
SELECT isnt_empty('SELECT FROM a67_internal.replica_failure WHERE error = ''not running within 5min''', 'each failure is kept');
SELECT a67.deployment_start('shop') \g /dev/null
SELECT pg_temp.moved(), pg_temp.round(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.status(), 'running', 'a command tries again');

-- While nobody looked nothing was late
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL)) \g /dev/null
SELECT pg_temp.moved(), pg_temp.plan_after() \g /dev/null
UPDATE a67_internal.monitor_state SET planned_at = pg_temp.at(), blind = '0', blind_until = '-infinity';
SELECT pg_temp.plan_after('1 h') \g /dev/null
SELECT is(pg_temp.seen(), 'running replace 0: 3+1', 'the monitor has not looked yet: nothing is decided');
SELECT is((SELECT count(*) FROM a67_internal.replica WHERE state = 'failed'), 0::bigint, 'and no replica late');
SELECT a67_internal._doubt_clock(pg_temp.at()) \g /dev/null
SELECT is((SELECT count(*) FROM a67_internal.replica WHERE deadline_at < pg_temp.at() + interval '4 min'), 0::bigint, 'then the hour counts against none');
UPDATE a67_internal.monitor_state SET planned_at = NULL;
DELETE FROM work;
SELECT pg_temp.round(), pg_temp.round('20 s') \g /dev/null
SELECT alike(pg_temp.story(), '%succeeded done 100: 0+3', 'and the rollout goes on');

-- New secrets and rollouts: nothing is restarted beside a rollout
SELECT a67.secret_set('key', '1') \g /dev/null
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL, '{"secrets": {"KEY": "key"}}')) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT alike(pg_temp.story(), '%succeeded done 100: 0+3', 'a release with a secret');
SELECT pg_temp.round() \g /dev/null
SELECT is((SELECT generation - settled_generation FROM a67_internal.deployment), 0::bigint, 'whose secret is not taken for a new one');
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, '{"max_surge": 1}', '{"secrets": {"KEY": "key"}}')) \g /dev/null
SELECT pg_temp.moved(), pg_temp.round() \g /dev/null
SELECT a67.secret_set('key', '2') \g /dev/null
SELECT alike(pg_temp.story(), '%succeeded done 100: 0+3', 'a new value meanwhile');
SELECT is((SELECT max(generation) FROM a67_internal.replica WHERE release < (SELECT release FROM a67.deployment) AND desired_state = 'running'), NULL,
    'the old ones are gone, and none was restarted before');
SELECT pg_temp.round() FROM generate_series(1, 8) \g /dev/null
SELECT is((SELECT count(*) FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id) WHERE r.secrets_version = d.secrets_version),
    3::bigint, 'all have the new value in the end');

-- Whoever watches and explains
SELECT is((SELECT string_agg(status || ': ' || progress, E'\n') FROM a67.deployment_watch('shop', '0')), 'running: 3 of 3 replicas run', 'watched');
SELECT throws_ok($$SELECT * FROM a67.deployment_watch('shop', '2 days')$$, '22023', NULL, 'not for ever');
SELECT throws_ok($$SELECT * FROM a67.deployment_watch('nix')$$, 'PT404', NULL, 'nor what is not there');
SELECT is((SELECT string_agg(subject || ': ' || finding, ', ' ORDER BY subject) FROM a67.deployment_explain('shop') WHERE subject !~ '^(replica|failure)'),
    'capacity: there is room, deployment: running', 'explained');
SELECT is((SELECT count(*) FROM a67.deployment_explain('shop') WHERE subject LIKE 'replica %' AND finding = 'running'
           AND detail LIKE '%score of the node 0.%'), 3::bigint, 'with a line for each replica');
SELECT throws_ok($$SELECT * FROM a67.deployment_explain(NULL)$$, 'PT404', NULL, 'nothing to explain');

SELECT * FROM finish();
ROLLBACK;
