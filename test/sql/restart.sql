\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(21);

-- The clock is the test's own; it starts now. What would be sent is kept instead.
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
CREATE TABLE sent (at bigserial, owner_id uuid, subject_id uuid, url text, secret bytea, payload jsonb);
CREATE OR REPLACE FUNCTION a67_internal._hook_send(owner_id uuid, subject_id uuid, url text, secret bytea, payload jsonb) RETURNS uuid
LANGUAGE plpgsql AS $$
BEGIN
    IF url LIKE '%broken%' THEN
        RAISE EXCEPTION 'no such thing';
    END IF;
    INSERT INTO public.sent (owner_id, subject_id, url, secret, payload) VALUES (owner_id, subject_id, url, secret, payload);
    RETURN gen_random_uuid();
END
$$;
INSERT INTO a67_internal.provider (name, title, restart_url) VALUES ('hooked', 'Hooked', 'https://hook.example.org/restart'),
    ('sealed', 'Sealed', 'https://hook.example.org/sealed'), ('bad', 'Bad', 'https://broken.example.org/'), ('plain', 'Plain', NULL);
UPDATE a67_internal.provider SET restart_secret_sealed = a67_internal._vault_seal('\x736563726574', 'provider.restart_secret_sealed:sealed')
WHERE name = 'sealed';
CREATE TEMP TABLE fleet (name text PRIMARY KEY, node_id uuid);
INSERT INTO fleet
SELECT p, (a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:7100', a67_internal._base64url(k.public_key),
    '{"cpu_cores": 2, "memory_gb": 1, "disk_gb": 1}', name => 'r-' || p, provider => p, region => 'here') ->> 'node_id')::uuid
FROM unnest(ARRAY['hooked', 'sealed', 'bad', 'plain', 'unknown']) p, a67_internal._key_generate('ed25519', p) k;
UPDATE a67_internal.node_observed o SET status = 'ready' FROM fleet f WHERE o.node_id = f.node_id;
CREATE FUNCTION pg_temp.fail(name text, after interval) RETURNS void LANGUAGE sql AS $$
    UPDATE a67_internal.node_observed o SET failures = 2, status = 'suspect' FROM fleet f WHERE o.node_id = f.node_id AND f.name = fail.name;
    UPDATE a67_internal.monitor_state SET doubt_until = '-infinity';
    SELECT a67_internal._node_judge(f.node_id, pg_temp.t(after), 'probe_failed') FROM fleet f WHERE f.name = fail.name
$$;
CREATE FUNCTION pg_temp.recover(name text, after interval) RETURNS void LANGUAGE sql AS $$
    UPDATE a67_internal.node_observed o SET flaps = 0 FROM fleet f WHERE o.node_id = f.node_id AND f.name = recover.name;
    SELECT a67_internal._node_judge(f.node_id, pg_temp.t(after), 'beat'), a67_internal._node_judge(f.node_id, pg_temp.t(after), 'beat')
    FROM fleet f WHERE f.name = recover.name
$$;
CREATE FUNCTION pg_temp.hooks(after interval) RETURNS bigint LANGUAGE sql AS $$
    SELECT a67_internal._restart_plan(pg_temp.t(after));
    SELECT count(*) FROM public.sent
$$;

SELECT is(pg_temp.hooks('0'), 0::bigint, 'nobody failed, nothing is sent');
SELECT pg_temp.fail('hooked', '1 s') \g /dev/null
SELECT is(pg_temp.hooks('1 s'), 1::bigint, 'a node fails: its provider is asked for a restart');
SELECT results_eq($$SELECT s.url, s.secret, s.payload - 'failed_at', s.owner_id FROM public.sent s$$,
    $$SELECT 'https://hook.example.org/restart', NULL::bytea, jsonb_build_object('type', 'node.restart', 'node_id', node_id, 'node', 'r-hooked',
        'provider', 'hooked', 'region', 'here', 'endpoint', 'http://127.0.0.1:7100', 'attempt', 1), a67_internal._operator_id()
      FROM fleet WHERE name = 'hooked'$$, 'with all it needs to know');
SELECT is((SELECT payload ->> 'attempt' FROM a67.event e JOIN fleet f ON f.node_id = e.subject_id WHERE type = 'node.restart'), '1', 'its owner sees it');
SELECT is(pg_temp.hooks('1 hour'), 1::bigint, 'once for a failure, however long it lasts');
SELECT pg_temp.fail('hooked', '1 hour') \g /dev/null
SELECT is(pg_temp.hooks('1 hour'), 2::bigint, 'the next failure, an hour later: once more');
SELECT is((SELECT payload ->> 'attempt' FROM public.sent ORDER BY at DESC LIMIT 1), '2', 'the second attempt');
SELECT pg_temp.recover('hooked', '61 min'), pg_temp.fail('hooked', '62 min') \g /dev/null
SELECT is(pg_temp.hooks('62 min'), 2::bigint, 'two minutes later it has failed again: not at once');
SELECT is(pg_temp.hooks('70 min 1 s'), 3::bigint, 'but when the pause is over and it still is');
SELECT pg_temp.recover('hooked', '71 min'), pg_temp.fail('hooked', '72 min'), pg_temp.recover('hooked', '73 min') \g /dev/null
SELECT is(pg_temp.hooks('5 hours'), 3::bigint, 'who came back by himself is left alone');
SELECT results_eq('SELECT a67_internal._restart_pause(a) FROM unnest(ARRAY[0, 1, 2, 3, 8, 1000000]) a',
    $$VALUES (interval '5 min'), ('5 min'), ('10 min'), ('20 min'), ('6 h'), ('6 h')$$, 'pauses double, up to a bound');
SELECT pg_temp.fail('hooked', '30 hours'), pg_temp.hooks('30 hours') \g /dev/null
SELECT is((SELECT payload ->> 'attempt' FROM public.sent ORDER BY at DESC LIMIT 1), '1', 'a day later the count starts anew');

-- Other providers
TRUNCATE public.sent;
SELECT pg_temp.fail('plain', '0'), pg_temp.fail('unknown', '0') \g /dev/null
SELECT is(pg_temp.hooks('0'), 0::bigint, 'no hook, no provider: nothing is sent');
SELECT pg_temp.fail('sealed', '0') \g /dev/null
SELECT is(pg_temp.hooks('0'), 1::bigint, 'a hook with a secret');
SELECT is((SELECT secret FROM public.sent), '\x736563726574'::bytea, 'which is opened for it');
UPDATE a67_internal.provider SET restart_secret_sealed = restart_secret_sealed || '\x00' WHERE name = 'sealed';
SELECT pg_temp.recover('sealed', '1 day'), pg_temp.fail('sealed', '2 days') \g /dev/null
SET LOCAL client_min_messages = error;
SELECT is(pg_temp.hooks('2 days'), 1::bigint, 'a secret that does not open: nothing is sent');
SELECT pg_temp.fail('bad', '0') \g /dev/null
SELECT is(pg_temp.hooks('0'), 1::bigint, 'a hook that cannot be queued');
RESET client_min_messages;
SELECT is((SELECT restart_due_at FROM a67_internal.node_observed o JOIN fleet f USING (node_id) WHERE f.name = 'bad'), NULL, 'is not tried in a loop');
UPDATE a67_internal.provider SET restart_secret_sealed = a67_internal._vault_seal('\x02', 'provider.restart_secret_sealed:sealed') WHERE name = 'sealed';
CREATE OR REPLACE FUNCTION a67_internal._vault_is_sealed() RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT pg_temp.recover('sealed', '4 days'), pg_temp.fail('sealed', '5 days') \g /dev/null
SELECT is(pg_temp.hooks('5 days'), 1::bigint, 'a sealed vault: it waits');
CREATE OR REPLACE FUNCTION a67_internal._vault_is_sealed() RETURNS boolean LANGUAGE sql AS 'SELECT false';
SELECT is(pg_temp.hooks('5 days 1 s'), 2::bigint, 'until it is opened');

-- A node that is removed meanwhile
SELECT pg_temp.recover('hooked', '40 hours'), pg_temp.fail('hooked', '3 days') \g /dev/null
SELECT a67.node_deregister('r-hooked') \g /dev/null
SELECT is(pg_temp.hooks('3 days'), 2::bigint, 'is not restarted');

SELECT * FROM finish();
ROLLBACK;
