\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(98);

-- The clock is the test's own; it starts now. Intervals are those of test/tools/regress.conf and the defaults:
-- beats every 10 s count for 13.5 s, plans every 5 s may be 16 s apart, grace is 20 s.
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
-- Whoever else is in this database is none of this test's nodes.
UPDATE a67_internal.node_observed SET status = 'removed';
UPDATE a67_internal.monitor_state SET planned_at = pg_temp.t('0'), blind = '0', blind_until = '-infinity', doubt_kind = NULL,
    doubt_until = '-infinity', silence_seen = false;
CREATE TEMP TABLE it (name text PRIMARY KEY, node_id uuid);
CREATE FUNCTION pg_temp.join(name text, provider text DEFAULT 'generic') RETURNS uuid LANGUAGE sql AS $$
    INSERT INTO it SELECT name, (a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:7009',
        rpad(translate(name, '-', '_'), 43, 'H'), '{"cpu_cores": 1, "memory_gb": 1, "disk_gb": 1}', name => name, provider => provider)
        ->> 'node_id')::uuid
    RETURNING node_id
$$;
CREATE FUNCTION pg_temp.id(name text DEFAULT 'health-node') RETURNS uuid LANGUAGE sql AS 'SELECT node_id FROM it WHERE it.name = id.name';
CREATE FUNCTION pg_temp.beat(after interval, metrics jsonb DEFAULT '{"cpu_percent": 1, "memory_percent": 1}',
    name text DEFAULT 'health-node') RETURNS void LANGUAGE sql AS $$
    SELECT a67_internal._heartbeat_one(pg_temp.t(after), pg_temp.id(name), metrics)
$$;
CREATE FUNCTION pg_temp.status(name text DEFAULT 'health-node') RETURNS text LANGUAGE sql AS $$
    SELECT o.status FROM a67_internal.node_observed o WHERE o.node_id = pg_temp.id(name)
$$;
-- A plan at that time; the probes of one node only.
CREATE FUNCTION pg_temp.probe(after interval, name text DEFAULT 'health-node') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT p.key FROM a67_internal._monitor_plan(pg_temp.t(after)) p WHERE p.key LIKE pg_temp.id(name) || ' %'
$$;
-- All probes of a plan, answered by silence at the same moment; how many.
CREATE FUNCTION pg_temp.nobody_answers(after interval) RETURNS bigint LANGUAGE sql AS $$
    WITH p AS MATERIALIZED (SELECT array_agg(key) AS keys, count(*) AS n FROM a67_internal._monitor_plan(pg_temp.t(after)))
    SELECT p.n FROM p, LATERAL (SELECT a67_internal._monitor_record(pg_temp.t(after), p.keys, array_fill(0, ARRAY[p.n::integer]),
        array_fill(NULL::text, ARRAY[p.n::integer]), array_fill('timed out'::text, ARRAY[p.n::integer])) WHERE p.n > 0) r
    UNION ALL SELECT p.n FROM p WHERE p.n = 0
$$;
-- Plans every 5 s, as the worker makes them, up to that time.
CREATE FUNCTION pg_temp.walk(upto interval) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := (SELECT planned_at FROM a67_internal.monitor_state);
BEGIN
    WHILE at < pg_temp.t(upto) LOOP
        at := least(at + interval '5 s', pg_temp.t(upto));
        PERFORM a67_internal._monitor_plan(at);
    END LOOP;
END
$$;
CREATE FUNCTION pg_temp.answer(after interval, key text, status integer, body text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT a67_internal._monitor_record(pg_temp.t(after), ARRAY[key], ARRAY[status], ARRAY[body], ARRAY['connection refused']);
    SELECT pg_temp.status()
$$;
CREATE FUNCTION pg_temp.failed_probe(after interval) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.answer(after, (SELECT pg_temp.probe(after)), 0)
$$;
CREATE FUNCTION pg_temp.doubt() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(severity || ': ' || message, '; ') FROM a67_internal.alert WHERE dedup_key = 'monitor-doubt' AND resolved_at IS NULL
$$;
SELECT pg_temp.join('health-node') \g /dev/null

SELECT pg_temp.beat('0') \g /dev/null
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
SELECT results_eq($$SELECT severity, message, resolved_at IS NULL FROM a67.alert WHERE subject_id = pg_temp.id()$$,
    $$VALUES ('critical', 'node "health-node" failed: neither heartbeat nor answer to a probe', true)$$, 'an alert is raised');
SELECT is_empty($$SELECT pg_temp.probe('40 s')$$, 'a failed node is not probed');
SELECT is(pg_temp.doubt(), NULL, 'one node of one is no reason to doubt');

-- Return
SELECT pg_temp.walk('70 s') \g /dev/null
SELECT pg_temp.beat('70 s') \g /dev/null
SELECT pg_temp.probe('70 s') \g /dev/null
SELECT is(pg_temp.status(), 'failed', 'one good sign is not enough');
SELECT pg_temp.probe('71 s') \g /dev/null
SELECT is(pg_temp.status(), 'failed', 'the same beat counts once');
SELECT pg_temp.beat('72 s') \g /dev/null
SELECT pg_temp.probe('72 s') \g /dev/null
SELECT is(pg_temp.status(), 'ready', 'two make it ready');
SELECT is_empty($$SELECT FROM a67.alert WHERE subject_id = pg_temp.id() AND resolved_at IS NULL$$, 'the alert is resolved');
SELECT is((SELECT string_agg(payload ->> 'to', ' ' ORDER BY event_id) FROM a67.event
           WHERE subject_id = pg_temp.id() AND type = 'node.status.changed'), 'ready suspect failed ready', 'every change is an event');

-- Load: two thresholds, two good signs
CREATE FUNCTION pg_temp.loaded(after interval, cpu integer) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.beat(after, jsonb_build_object('cpu_percent', cpu, 'memory_percent', 1));
    SELECT pg_temp.probe(after);
    SELECT pg_temp.status()
$$;
SELECT is(pg_temp.loaded('80 s', 90), 'ready', 'cpu at 90 %: still ready');
SELECT is(pg_temp.loaded('81 s', 91), 'busy', 'above: busy');
SELECT is(pg_temp.loaded('82 s', 81), 'busy', 'above 80 % it stays so');
SELECT is(pg_temp.loaded('83 s', 80), 'busy', 'one calm beat is not enough');
SELECT is(pg_temp.loaded('84 s', 10), 'ready', 'two make it ready again');
SELECT is((SELECT epoch FROM a67_internal.node_observed WHERE node_id = pg_temp.id()),
          (SELECT epoch FROM a67_internal.node_observed, pg_temp.loaded('85 s', 50) WHERE node_id = pg_temp.id()), 'a beat without news writes no judgement');

-- Errors
UPDATE a67_internal.node_observed SET flaps = 0 WHERE node_id = pg_temp.id();
CREATE FUNCTION pg_temp.erring(after interval, requests integer, failures integer) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.beat(after, jsonb_build_object('cpu_percent', 95, 'memory_percent', 1, 'requests', requests, 'failures', failures));
    SELECT pg_temp.probe(after);
    SELECT pg_temp.status()
$$;
SELECT is(pg_temp.erring('86 s', 90, 90), 'busy', 'too few requests to tell');
SELECT is(pg_temp.erring('87 s', 4000, 100), 'busy', 'fewer than 5 % fail');
SELECT is(pg_temp.erring('88 s', 100, 100), 'degraded', 'more than 5 %: degraded, whatever the load');
SELECT pg_temp.walk('89 s'), pg_temp.beat('90 s', '{"cpu_percent": 1, "requests": 9000, "failures": 0}'), pg_temp.walk('90 s'),
    pg_temp.beat('91 s'), pg_temp.walk('91 s') \g /dev/null
SELECT is(pg_temp.status(), 'ready', 'errors fade behind good answers');

-- Answers that prove something else
UPDATE a67_internal.node_observed SET flaps = 1 WHERE node_id = pg_temp.id();
SELECT pg_temp.walk('104 s') \g /dev/null
CREATE TEMP TABLE probed AS SELECT pg_temp.probe('105 s') AS key;
SELECT is(pg_temp.answer('106 s', (SELECT key FROM probed), 200, format('{"node_id": "%s"}', pg_temp.id())), 'degraded',
    'silent, but the probe is answered: never failed');
SELECT is(pg_temp.answer('107 s', (SELECT key FROM probed), 0), 'degraded', 'the same answer again is of an older epoch: dropped');
SELECT is(a67_internal._probe_sign(pg_temp.id(), 200, '{"node_id": "00000000-0000-4000-8000-000000000001"}'), 'probe_failed',
    'another agent behind the address');
SELECT is(a67_internal._probe_sign(pg_temp.id(), 200, '<html>'), 'probe_invalid', 'nonsense');
SELECT is(a67_internal._probe_sign(pg_temp.id(), 200, body), 'probe_invalid', 'JSON that jsonb does not take: ' || left(body, 12))
FROM unnest(ARRAY['{"node_id": "\u0000"}', repeat('[', 60000), '[1e999999]']) body;
SELECT is(a67_internal._probe_sign(pg_temp.id(), 404, '{}'), 'probe_invalid', 'a refusal');
SELECT is(a67_internal._probe_sign(pg_temp.id(), 503, ''), 'probe_failed', 'a server error');
SELECT pg_temp.walk('109 s') \g /dev/null
SELECT is(pg_temp.failed_probe('114 s'), 'suspect', 'a failed probe: suspect');
SELECT is(pg_temp.answer('121 s', (SELECT pg_temp.probe('121 s')), 200, '<html>'), 'degraded', 'a senseless answer: degraded');

-- An answer that comes after the node has been heard again
UPDATE probed SET key = (SELECT pg_temp.probe('130 s'));
SELECT pg_temp.beat('131 s') \g /dev/null
SELECT is(pg_temp.answer('132 s', (SELECT key FROM probed), 0), 'degraded', 'heard since: the failed probe is dropped');

-- Flapping: each fall adds up, recovery takes longer, and the count fades
SELECT pg_temp.walk('133 s') \g /dev/null
SELECT is((SELECT round(flaps::numeric) FROM a67_internal.node_observed WHERE node_id = pg_temp.id()), 2.0, 'a fall more');
UPDATE a67_internal.node_observed SET flaps = 4, flaps_at = pg_temp.t('133 s') WHERE node_id = pg_temp.id();
CREATE FUNCTION pg_temp.beats_until_ready(after integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. 30 LOOP
        PERFORM pg_temp.beat(make_interval(secs => after + n)), pg_temp.walk(make_interval(secs => after + n));
        IF pg_temp.status() = 'ready' THEN
            RETURN n;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
SELECT is(pg_temp.beats_until_ready(133), 3, 'four good signs in all, of which one was there');
UPDATE a67_internal.node_observed SET flaps = 50 WHERE node_id = pg_temp.id();
SELECT is(pg_temp.loaded('137 s', 95), 'busy', 'a node that flaps is busy again');
SELECT is(pg_temp.beats_until_ready(137), 10, 'ten good signs at most');
UPDATE a67_internal.node_observed SET flaps_at = flaps_at - interval '1 hour' WHERE node_id = pg_temp.id();
SELECT is(pg_temp.loaded('150 s', 95), 'busy', 'an hour later');
SELECT is(pg_temp.beats_until_ready(150), 2, 'it is forgotten');
UPDATE a67_internal.node_observed SET flaps = 1, flaps_at = flaps_at - interval '2 days' WHERE node_id = pg_temp.id();
SELECT is(pg_temp.loaded('155 s', 95), 'busy', 'a fall of days ago');
SELECT is(pg_temp.beats_until_ready(155), 2, 'has faded to nothing, not to a number too small for its column');

-- A monitor that was away does not blame the nodes
SELECT pg_temp.beat('160 s'), pg_temp.walk('160 s') \g /dev/null
SELECT is_empty($$SELECT pg_temp.probe('460 s')$$, 'away for five minutes: nobody is silent yet');
SELECT is(pg_temp.status(), 'ready', 'what was ready stays so');
SELECT matches(pg_temp.doubt(), '^warning: the monitor was away for 300', 'but an administrator hears of it');
SELECT pg_temp.walk('473 s') \g /dev/null
SELECT is(pg_temp.status(), 'ready', 'a node has its time to beat again');
SELECT is(pg_temp.nobody_answers('474 s'), 1::bigint, 'then it is silent and probed');
SELECT pg_temp.nobody_answers('479 s') \g /dev/null
SELECT is(pg_temp.status(), 'suspect', 'in doubt: suspect');
SELECT pg_temp.walk('480 s') \g /dev/null
SELECT is(pg_temp.doubt(), NULL, 'the doubt ends');
SELECT is(pg_temp.nobody_answers('485 s'), 1::bigint, 'probed once more');
SELECT is(pg_temp.status(), 'failed', 'and then the monitor acts');

-- Probes that were under way when the monitor was stopped
SELECT pg_temp.beat('486 s'), pg_temp.walk('486 s'), pg_temp.beat('487 s'), pg_temp.walk('490 s'), pg_temp.walk('500 s') \g /dev/null
SELECT is(pg_temp.status(), 'ready', 'back');
UPDATE probed SET key = (SELECT pg_temp.probe('501 s'));
SELECT is(pg_temp.answer('530 s', (SELECT key FROM probed), 0), 'suspect', 'an answer that comes long after its time-out');
SELECT is((SELECT failures FROM a67_internal.node_observed WHERE node_id = pg_temp.id()), 0, 'does not count');
SELECT pg_temp.probe('531 s') \g /dev/null
SELECT is(pg_temp.answer('531 s', (SELECT key FROM probed), 0), 'suspect', 'neither when the plan comes first');
SELECT is((SELECT failures FROM a67_internal.node_observed WHERE node_id = pg_temp.id()), 0, 'its epoch is over');

-- Clocks that jump
UPDATE a67_internal.node_observed SET flaps = 0 WHERE node_id = pg_temp.id();
SELECT pg_temp.beat('535 s'), pg_temp.walk('535 s'), pg_temp.beat('536 s'), pg_temp.walk('560 s') \g /dev/null
SELECT pg_temp.beat('560 s'), pg_temp.walk('561 s'), pg_temp.beat('562 s'), pg_temp.walk('563 s') \g /dev/null
SELECT is(pg_temp.status(), 'ready', 'ready');
SELECT is(pg_temp.nobody_answers('563 s' + interval '1 hour'), 0::bigint, 'an hour forward: nobody is silent');
SELECT is(pg_temp.status(), 'ready', 'or suspect');
SELECT pg_temp.beat('565 s' + interval '1 hour'), pg_temp.walk('566 s' + interval '1 hour') \g /dev/null
SELECT is(pg_temp.status(), 'ready', 'it beats by the new clock');
SELECT is_empty($$SELECT pg_temp.probe('600 s')$$, 'and back again: not probed at once');
SELECT is((SELECT count(*) FROM a67_internal.node_observed WHERE greatest(last_heartbeat_at, status_at, metrics_at, next_probe_at, flaps_at) > pg_temp.t('600 s')),
    0::bigint, 'nothing is left in the future');
SELECT pg_temp.walk('613 s') \g /dev/null
SELECT is(pg_temp.nobody_answers('615 s'), 1::bigint, 'its silence is noticed in time');
SELECT is(pg_temp.nobody_answers('620 s'), 1::bigint, 'probing goes on');
UPDATE a67_internal.node_observed SET next_probe_at = pg_temp.t('1 day') WHERE node_id = pg_temp.id();
SELECT is(pg_temp.nobody_answers('500 s'), 0::bigint, 'set back again');
SELECT pg_temp.walk('513 s') \g /dev/null
SELECT is(pg_temp.nobody_answers('515 s'), 1::bigint, 'a probe that was planned for tomorrow is sent');

-- Many fall silent at once
SELECT count(pg_temp.join('crowd-' || i)) FROM generate_series(1, 6) i \g /dev/null
DELETE FROM a67_internal.alert;
UPDATE a67_internal.node_observed SET status = 'removed' WHERE node_id = pg_temp.id();
UPDATE a67_internal.monitor_state SET planned_at = pg_temp.t('600 s'), blind_until = '-infinity', doubt_kind = NULL, doubt_until = '-infinity';
CREATE FUNCTION pg_temp.crowd(after interval, upto integer) RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.beat(after, name => 'crowd-' || i) FROM generate_series(1, upto) i
$$;
CREATE FUNCTION pg_temp.crowd_status() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(n || ' ' || status, ', ' ORDER BY status)
    FROM (SELECT status, count(*) AS n FROM a67_internal.node_observed WHERE node_id IN (SELECT node_id FROM it WHERE name LIKE 'crowd%') GROUP BY 1) s
$$;
SELECT pg_temp.crowd('600 s', 6), pg_temp.walk('601 s'), pg_temp.crowd('610 s', 2), pg_temp.walk('613 s') \g /dev/null
SELECT is(pg_temp.crowd_status(), '6 ready', 'six nodes');
SELECT is(pg_temp.nobody_answers('615 s'), 4::bigint, 'four of them are silent');
SELECT is(pg_temp.doubt(), 'critical: 4 of 6 nodes fell silent at once: no node becomes failed for 20.0 s', 'more than a third: the monitor doubts itself');
SELECT pg_temp.crowd('616 s', 2), pg_temp.nobody_answers('620 s'), pg_temp.nobody_answers('625 s'), pg_temp.crowd('626 s', 2), pg_temp.nobody_answers('630 s') \g /dev/null
SELECT is(pg_temp.crowd_status(), '2 ready, 4 suspect', 'four failed probes, and nobody is failed');
SELECT is((SELECT count FROM a67_internal.alert WHERE dedup_key = 'monitor-doubt'), 1, 'one doubt');
SELECT pg_temp.nobody_answers('635 s') \g /dev/null
SELECT is(pg_temp.crowd_status(), '4 failed, 2 ready', 'after the grace it acts');
SELECT is(pg_temp.doubt(), NULL, 'the alert is resolved');
SELECT pg_temp.crowd('636 s', 6), pg_temp.walk('637 s'), pg_temp.crowd('638 s', 6), pg_temp.walk('639 s') \g /dev/null
SELECT is(pg_temp.crowd_status(), '6 ready', 'all return');
SELECT pg_temp.walk('650 s'), pg_temp.crowd('651 s', 2), pg_temp.walk('654 s') \g /dev/null
SELECT matches(pg_temp.doubt(), '^critical: 4 of 6', 'the next time is doubted anew');
SELECT pg_temp.crowd('655 s', 6), pg_temp.walk('656 s'), pg_temp.crowd('657 s', 6), pg_temp.walk('658 s') \g /dev/null
SELECT is(pg_temp.doubt(), NULL, 'and ends when they are back');
SELECT pg_temp.walk('668 s'), pg_temp.crowd('669 s', 4), pg_temp.walk('673 s') \g /dev/null
SELECT is(pg_temp.crowd_status(), '4 ready, 2 suspect', 'two of six are silent');
SELECT is(pg_temp.doubt(), NULL, 'no more than a third: no doubt');
SELECT is((SELECT boot_val || ' ' || min_val FROM pg_settings WHERE name = 'a67.grace_period'), '-1 -1', 'the grace is a setting');

-- No nodes, and nothing known of an earlier plan
UPDATE a67_internal.node_observed SET status = 'removed', last_heartbeat_at = NULL;
UPDATE a67_internal.monitor_state SET planned_at = NULL;
SELECT lives_ok($$SELECT count(*) FROM a67_internal._monitor_plan(pg_temp.t('700 s'))$$, 'no nodes at all');
SELECT is(pg_temp.doubt(), NULL, 'the first plan of all was not away');
SELECT is(a67_internal._monitor_record(pg_temp.t('700 s'), '{}', '{}', '{}', '{}'), 0, 'no answers');

-- An error with one node keeps no other from its judgement
SELECT pg_temp.join('judged-a'), pg_temp.join('judged-b') \g /dev/null
SELECT pg_temp.beat('700 s', name => 'judged-a'), pg_temp.beat('700 s', name => 'judged-b') \g /dev/null
CREATE FUNCTION pg_temp.poison() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN IF NEW.node_id = pg_temp.id('judged-a') THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END$$;
CREATE TRIGGER poison BEFORE UPDATE OF status ON a67_internal.node_observed FOR EACH ROW EXECUTE FUNCTION pg_temp.poison();
SET LOCAL client_min_messages = error;
SELECT count(*) FROM a67_internal._monitor_plan(pg_temp.t('701 s')) \g /dev/null
RESET client_min_messages;
-- Its trigger stays: to drop it, the server's own workers would have to let go of the table.
CREATE OR REPLACE FUNCTION pg_temp.poison() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
SELECT is(pg_temp.status('judged-a') || ' ' || pg_temp.status('judged-b'), 'initializing ready', 'one is judged, whatever happens to the other');
UPDATE a67_internal.node_observed SET status = 'removed', last_heartbeat_at = NULL;

-- What the monitor does besides must not keep it from judging
CREATE TABLE pinged (key text, status integer, error text);
CREATE OR REPLACE FUNCTION a67_internal._usage_tick(now timestamptz) RETURNS void LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO public.pinged VALUES ('usage'); RAISE EXCEPTION 'no usage'; END$$;
CREATE OR REPLACE FUNCTION a67_internal._ping_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text) LANGUAGE sql AS
    $$SELECT 'ping 1', 'GET', 'http://127.0.0.1:1/health', NULL, NULL, 1000, NULL::text[], NULL::text$$;
CREATE OR REPLACE FUNCTION a67_internal._ping_record(now timestamptz, key text, status integer, error text) RETURNS void LANGUAGE sql AS
    $$INSERT INTO public.pinged VALUES (key, status, error)$$;
SET LOCAL client_min_messages = error;
SELECT results_eq($$SELECT key FROM a67_internal._monitor_plan(pg_temp.t('701 s'))$$, $$VALUES ('ping 1')$$, 'a chore fails, pings are planned');
SELECT is(a67_internal._monitor_record(pg_temp.t('702 s'), '{"ping 1"}', '{0}', '{NULL}', '{refused}'), 0, 'their answers are recorded');
SELECT results_eq('SELECT * FROM public.pinged', $$VALUES ('ping 1', 0, 'refused')$$, 'as what they are, and nothing is left of the chore that failed');
CREATE OR REPLACE FUNCTION a67_internal._ping_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text) LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'no pings'; END$$;
SELECT is_empty($$SELECT key FROM a67_internal._monitor_plan(pg_temp.t('703 s'))$$, 'not even pings that fail');
RESET client_min_messages;
SELECT throws_ok($$SELECT * FROM a67_internal._node_step('ready', -1, 0, 'beat')$$, '22023', NULL, 'a negative count');
SELECT throws_ok($$SELECT * FROM a67_internal._node_step('well', 0, 0, 'beat')$$, '22023', NULL, 'a status that is none');
SELECT throws_ok($$SELECT * FROM a67_internal._node_step('ready', 0, 0, 'joy')$$, '22023', NULL, 'a sign that is none');
SELECT throws_ok($$SELECT a67_internal._node_beat_sign(NULL, 1, 1, 1, 1)$$, '22023', NULL, 'no status');

SELECT * FROM finish();
ROLLBACK;
