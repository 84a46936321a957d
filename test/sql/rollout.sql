\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(73);
\getenv inputs PG_ABS_SRCDIR
\set fixture :inputs /sql/fixture/rollout.sql
\i :fixture

-- Rolling
SELECT throws_ok($$SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL))$$, 'PT404', 'deployment "shop" does not exist',
    'no deployment, no release');
SELECT a67.deployment_create(pg_temp.manifest('shop', 3, NULL)) \g /dev/null
SELECT throws_ok(format('SELECT a67.deployment_%s(''shop'')', command), 'PT409', 'deployment "shop" has no rollout under way', command)
FROM unnest(ARRAY['pause', 'resume', 'abort', 'promote']) command;
SELECT throws_ok($$SELECT a67.deployment_rollback('shop')$$, 'PT409', 'deployment "shop" has no release before this one', 'nothing to go back to');
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.status(), 'running', 'release 1 runs');
SELECT throws_ok($$SELECT a67.deployment_update('shop', pg_temp.manifest('shopping', 3, NULL))$$, '22023',
    'invalid manifest: /name: must be "shop"', 'it keeps its name');
SELECT throws_ok($$SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL) || '{"app_type": "worker"}')$$, '22023',
    'invalid manifest: /app_type: must be "backend"', 'and its kind');
SELECT throws_ok($$SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL) || jsonb_build_object('package', repeat('0', 64)))$$,
    '22023', NULL, 'with a package that is there');
SELECT is((a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL)) #- '{rollout,id}'::text[]) - 'deployment_id'::text,
    '{"status": "running", "release": 1, "rollout": {"from_release": 1, "to_release": 2, "strategy": "rolling", "state": "running", "phase": "start",
      "weight": 0}}'::jsonb, 'a new release');
SELECT throws_ok($$SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL))$$, 'PT409',
    'deployment "shop" has a rollout under way', 'one at a time');
SELECT is(pg_temp.story(), 'running replace 0: 3+1, running replace 25: 2+1, running replace 33: 2+2, running replace 50: 1+2, '
    'running replace 66: 1+3, running replace 75: 0+3, succeeded done 100: 0+3', 'rolling: one more, one less');
SELECT is((SELECT release FROM a67.deployment WHERE name = 'shop'), 2, 'release 2 is the deployment''s');
SELECT pg_temp.round() \g /dev/null
SELECT is(pg_temp.status(), 'running', 'and runs');
SELECT is((SELECT count(*) FROM a67.replica WHERE deployment = 'shop'), 3::bigint, 'nothing of release 1 is left');
SELECT is((SELECT string_agg(payload ->> 'phase', ' ' ORDER BY event_id) FROM a67.event WHERE type = 'rollout.step'),
    'start replace replace replace replace replace replace done', 'every step is told');

-- The number of replicas comes with the release when its manifest says one, and surge and shortage are as it says
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 4, '{"max_surge": "50%", "max_unavailable": 1}')) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT is(pg_temp.story(), 'running replace 0: 2+3, running replace 60: 0+4, succeeded done 100: 0+4',
    'two more, one less, to another number');
SELECT is((SELECT replicas_desired FROM a67.deployment WHERE name = 'shop'), 4, 'which is the deployment''s now');
SELECT a67.deployment_scale('shop', 2) \g /dev/null
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', NULL, NULL)) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT alike(pg_temp.story(), '%succeeded done 100: 0+2', 'without one it stays');

-- Releases that do not become healthy go back
INSERT INTO bad VALUES (5);
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL)) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT is(pg_temp.story('5 s'), 'running replace 0: 2+2, running replace 0: 2+0, running replace 0: 2+2, '
    'rolled_back done 0: 2+0', 'three failed replicas, and it goes back');
SELECT is(pg_temp.reason(), '4 replicas failed: exit status 1', 'with its reason');
SELECT pg_temp.round() \g /dev/null
SELECT results_eq($$SELECT status, status_reason, release, replicas_desired FROM a67.deployment WHERE name = 'shop'$$,
    $$VALUES ('running', 'release 4 to 5, rolling, rolled back: 4 replicas failed: exit status 1', 4, 2)$$, 'all is as before');
SELECT is((SELECT severity || ': ' || message FROM a67.alert WHERE dedup_key LIKE 'rollout-failed:%' AND resolved_at IS NULL),
    'warning: rollout of deployment "shop" to release 5 goes back: 4 replicas failed: exit status 1', 'an alert');
SELECT is((SELECT count(*) FROM a67_internal.replica_failure f WHERE f.release = 5 AND f.error = 'exit status 1' AND f.log_tail = 'bye'), 4::bigint,
    'the failures are kept with their last lines');
-- Without automatic rollback it stops
INSERT INTO bad VALUES (6);
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', NULL, '{"auto_rollback": false}')) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT alike(pg_temp.story('5 s'), '%, paused replace 0: 2+0', 'stopped where it was');
SELECT is(pg_temp.status(), 'deploying', 'a rollout is under way');
SELECT alike((SELECT status_reason FROM a67.deployment WHERE name = 'shop'), 'release 4 to 6, rolling, paused in phase replace: 3 replicas failed%', 'and says where');
DELETE FROM bad;
SELECT is(a67.deployment_resume('shop') #>> '{rollout,state}', 'running', 'resumed');
SELECT pg_temp.moved() \g /dev/null
SELECT alike(pg_temp.story(), '%succeeded done 100: 0+2', 'it comes to its end');
SELECT is_empty($$SELECT FROM a67.alert WHERE dedup_key LIKE 'rollout-failed:%' AND resolved_at IS NULL$$, 'the alert is over');
-- Nothing comes forward
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 2, NULL) || '{"resources": {"memory": "2GiB"}}') \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT pg_temp.round(), pg_temp.round('4 min 50 s') \g /dev/null
SELECT alike(pg_temp.reason(), 'insufficient capacity for 1 of 2 replicas%', 'no room for what is new');
SELECT is(pg_temp.seen(), 'running replace 0: 2+0', 'it waits');
SELECT pg_temp.round('11 s') \g /dev/null
SELECT alike(pg_temp.reason(), 'nothing came forward within 5min: insufficient capacity%', 'not for ever');
SELECT pg_temp.round() \g /dev/null
SELECT is(pg_temp.seen(), 'rolled_back done 0: 2+0', 'back');

-- Orders
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, NULL)) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT pg_temp.round() \g /dev/null
SELECT is(a67.deployment_pause('shop') #>> '{rollout,state}', 'paused', 'paused');
SELECT is(a67.deployment_pause('shop') #>> '{rollout,state}', 'paused', 'twice is once');
SELECT is(pg_temp.story('10 min'), 'paused replace 50: 1+2', 'it stays for as long as it takes');
SELECT a67.deployment_scale('shop', 4) \g /dev/null
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
SELECT is((SELECT count(*) FROM a67.replica WHERE deployment = 'shop' AND desired_state = 'running'), 4::bigint, 'scaled meanwhile');
SELECT is(a67.deployment_abort('shop') #>> '{rollout,state}', 'rolling_back', 'aborted');
SELECT throws_ok(format('SELECT a67.deployment_%s(''shop'')', command), 'PT409',
    format('cannot %s the rollout of deployment "shop": it goes back already', command), command || ' comes too late')
FROM unnest(ARRAY['pause', 'resume', 'promote']) command;
SELECT is(a67.deployment_abort('shop') #>> '{rollout,state}', 'rolling_back', 'another abort changes nothing');
SELECT pg_temp.moved() \g /dev/null
SELECT alike(pg_temp.story(), '%aborted done 0: 4+0', 'back to four of the old ones');
SELECT is(pg_temp.reason(), 'aborted by its owner', 'by its owner');
-- Another one takes its place
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 4, NULL)) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT pg_temp.round(), pg_temp.round(), pg_temp.round() \g /dev/null
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 4, NULL), supersede => true) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT is((SELECT string_agg(state || ' ' || coalesce(reason, ''), ', ' ORDER BY created_at, finished_at NULLS LAST)
           FROM (SELECT * FROM a67_internal.rollout ORDER BY to_release DESC LIMIT 2) o), 'aborted superseded by another release, running ', 'superseded');
SELECT pg_temp.plan_after() \g /dev/null
SELECT cmp_ok((SELECT count(*) FROM a67.replica WHERE deployment = 'shop' AND state = 'running' AND desired_state = 'running'), '>=', 4::bigint,
    'what it had brought up serves on');
SELECT pg_temp.answer(), pg_temp.report() \g /dev/null
SELECT alike(pg_temp.story(), '%succeeded done 100: 0+4', 'and is replaced in its turn');
SELECT is((SELECT count(DISTINCT release) FROM a67.replica WHERE deployment = 'shop'), 1::bigint, 'one release is left');
-- Stopping ends a rollout
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 4, NULL)) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT pg_temp.round() \g /dev/null
SELECT a67.deployment_stop('shop') \g /dev/null
SELECT is((SELECT state || ': ' || reason FROM a67_internal.rollout ORDER BY to_release DESC LIMIT 1), 'aborted: ended by stop', 'stopped');
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.status(), 'stopped', 'nothing runs');
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 2, NULL)) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT is((SELECT d.release = max(r.release) AND d.replicas_desired = 2 FROM a67.deployment d JOIN a67.release r USING (deployment_id)
           WHERE d.name = 'shop' GROUP BY d.release, d.replicas_desired), true, 'a release is in use at once');
SELECT a67.deployment_start('shop') \g /dev/null
SELECT pg_temp.round(), pg_temp.round() \g /dev/null
SELECT is(pg_temp.status(), 'running', 'started');

-- Back to earlier releases
SELECT throws_ok($$SELECT a67.deployment_rollback('shop', 999)$$, '22023', 'deployment "shop" has no release 999', 'one that is not there');
SELECT throws_ok(format('SELECT a67.deployment_rollback(''shop'', %s)', release), 'PT409', NULL, 'the one that is there')
FROM a67.deployment WHERE name = 'shop';
SELECT is(a67.deployment_rollback('shop', 2) #>> '{rollout,to_release}', '2', 'to an early one');
SELECT pg_temp.moved() \g /dev/null
SELECT alike(pg_temp.story(), '%succeeded done 100: 0+2', 'rolled out');
SELECT is(a67.deployment_rollback('shop') #>> '{rollout,to_release}', (SELECT max(release)::text FROM a67.release), 'and to the one before');
SELECT pg_temp.moved() \g /dev/null
SELECT is(a67.deployment_rollback('shop') #>> '{rollout,state}', 'rolling_back', 'during a rollout: back to where it came from');
SELECT pg_temp.moved() \g /dev/null
SELECT alike(pg_temp.story(), '%aborted done 0: 2+0', 'which is an abort');

-- Recreate: none of the old is left before the first new one starts
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, '{"type": "recreate"}')) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT pg_temp.plan_after() \g /dev/null
SELECT is(pg_temp.seen(), 'running drain 0: 0+0', 'first all of the old one stop');
SELECT pg_temp.plan_after() \g /dev/null
SELECT is(pg_temp.seen(), 'running drain 0: 0+0', 'no sooner than they have');
SELECT pg_temp.answer() \g /dev/null
SELECT is(pg_temp.story(), 'running fill 0: 0+3, succeeded done 100: 0+3', 'then the new ones start');
SELECT is((SELECT replicas_desired FROM a67.deployment WHERE name = 'shop'), 3, 'as many as it says');
INSERT INTO bad SELECT max(release) + 1 FROM a67.release;
SELECT a67.deployment_update('shop', pg_temp.manifest('shop', 3, '{"type": "recreate"}')) \g /dev/null
SELECT pg_temp.moved() \g /dev/null
SELECT alike(pg_temp.story('5 s'), '%rolling_back restore 0: 3+0, rolled_back done 0: 3+0', 'one that fails goes back');

-- Somebody else's
CREATE TEMP TABLE other AS SELECT a67.user_create('other@example.com') AS user_id;
SELECT set_config('request.jwt.claims', json_build_object('sub', user_id, 'role', 'a67_user')::text, true) || set_config('role', 'a67_user', true)
FROM other \g /dev/null
SELECT throws_ok(format('SELECT a67.deployment_%s(''shop'')', command), 'PT404', 'deployment "shop" does not exist', command || ': not his')
FROM unnest(ARRAY['pause', 'resume', 'abort', 'promote', 'rollback']) command;
SELECT is_empty('SELECT FROM a67_internal.rollout', 'and not seen');
SELECT is_empty('SELECT FROM a67_internal.replica_failure', 'nor how its replicas failed');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
