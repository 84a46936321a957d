\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
SELECT a67_internal._bootstrap() \g /dev/null
BEGIN;
SELECT plan(153);

-- The clock is the test's own; it starts now.
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
CREATE TEMP TABLE person (name text PRIMARY KEY, user_id uuid);
INSERT INTO person SELECT n, a67.user_create(n || '@channel.example', CASE n WHEN 'root' THEN 'a67_admin' ELSE 'a67_user' END)
FROM unnest(ARRAY['ann', 'bob', 'root']) n;
GRANT SELECT ON person TO a67_user, a67_admin;
CREATE FUNCTION pg_temp.act_as(person text, role text DEFAULT 'a67_user') RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.user_id, 'role', role)::text, true) || set_config('role', role, true)
    FROM person p WHERE p.name = person
$$;
-- The error of a statement as "SQLSTATE detail".
CREATE FUNCTION pg_temp.refusal(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    EXECUTE query;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
    RETURN rtrim(SQLSTATE || ' ' || said);
END
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_temp TO PUBLIC;
-- What the notifier has to do at that time.
CREATE TEMP TABLE work (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text, n serial);
CREATE FUNCTION pg_temp.plan_at(after interval) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM work RETURNING 1)
    SELECT count(*) FROM gone;
    WITH p AS (INSERT INTO work SELECT * FROM a67_internal._notifier_plan(pg_temp.t(after)) RETURNING 1) SELECT count(*) FROM p
$$;
-- Answers all of it.
CREATE FUNCTION pg_temp.answer(after interval, status integer, error text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT a67_internal._notifier_record(pg_temp.t(after), array_agg(key), array_agg(status), array_agg('secret answer'::text),
        array_agg(error)) FROM work
$$;
CREATE FUNCTION pg_temp.raise(key text, severity text DEFAULT 'critical', who text DEFAULT 'ann') RETURNS void LANGUAGE sql AS $$
    SELECT a67_internal._alert_raise(user_id, severity, user_id, key, 'trouble with ' || key) FROM person WHERE name = who
$$;
-- The alert of a key; its messages as "kind:state ...".
CREATE FUNCTION pg_temp.alert(key text) RETURNS a67_internal.alert LANGUAGE sql AS $$
    SELECT a FROM a67_internal.alert a WHERE a.dedup_key = key ORDER BY a.resolved_at IS NULL DESC LIMIT 1
$$;
CREATE FUNCTION pg_temp.messages(key text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s:%s', o.kind, o.state), ' ' ORDER BY o.place)
    FROM a67_internal.outbox o JOIN a67_internal.alert a USING (alert_id) WHERE a.dedup_key = key
$$;

-- ---- configurations ---------------------------------------------------------------------------------------

SELECT pg_temp.act_as('ann') \g /dev/null
CREATE TEMP TABLE wrong (kind text, config jsonb, field text);
INSERT INTO wrong VALUES
    ('pager', '{}', 'kind'),
    ('webhook', '[]', 'config'),
    ('webhook', '{}', 'config.url'),
    ('webhook', '{"url": 5}', 'config.url'),
    ('webhook', '{"url": ""}', 'config.url'),
    ('webhook', '{"url": "ftp://example.org/"}', 'config.url'),
    ('webhook', '{"url": "http://example.org/"}', 'config.url'),
    ('webhook', '{"url": "https://"}', 'config.url'),
    ('webhook', '{"url": "https:///path"}', 'config.url'),
    ('webhook', '{"url": "https://user:pw@example.org/"}', 'config.url'),
    ('webhook', '{"url": "https://example.org:https/"}', 'config.url'),
    ('webhook', '{"url": "https://example.org/\r\nX: y"}', 'config.url'),
    ('webhook', '{"url": "https://example.org/ä"}', 'config.url'),
    ('webhook', '{"url": "https://example.org/a b"}', 'config.url'),
    ('webhook', '{"url": "https://example.org\\@10.0.0.1/"}', 'config.url'),
    ('webhook', jsonb_build_object('url', 'https://example.org/' || repeat('x', 2048)), 'config.url'),
    ('webhook', '{"url": "https://example.org/", "secret": "short"}', 'config.secret'),
    ('webhook', '{"url": "https://example.org/", "secret": 12345678901234567}', 'config.secret'),
    ('webhook', '{"url": "https://example.org/", "token": "x"}', 'config.token'),
    ('slack', '{"url": "https://example.org/", "secret": "0123456789abcdef"}', 'config.secret'),
    ('slack', '{"url": "javascript:alert(1)"}', 'config.url'),
    ('smtp', '{"from": "a@b.c", "to": ["a@b.c"]}', 'config.host'),
    ('smtp', '{"host": "a b", "from": "a@b.c", "to": ["a@b.c"]}', 'config.host'),
    ('smtp', '{"host": "h/x", "from": "a@b.c", "to": ["a@b.c"]}', 'config.host'),
    ('smtp', '{"host": "h", "port": 0, "from": "a@b.c", "to": ["a@b.c"]}', 'config.port'),
    ('smtp', '{"host": "h", "port": 65536, "from": "a@b.c", "to": ["a@b.c"]}', 'config.port'),
    ('smtp', '{"host": "h", "port": 2.5, "from": "a@b.c", "to": ["a@b.c"]}', 'config.port'),
    ('smtp', '{"host": "h", "port": "25", "from": "a@b.c", "to": ["a@b.c"]}', 'config.port'),
    ('smtp', '{"host": "h", "tls": "maybe", "from": "a@b.c", "to": ["a@b.c"]}', 'config.tls'),
    ('smtp', '{"host": "h", "tls": "none", "username": "u", "password": "p", "from": "a@b.c", "to": ["a@b.c"]}', 'config.tls'),
    ('smtp', '{"host": "h", "username": "u", "from": "a@b.c", "to": ["a@b.c"]}', 'config.password'),
    ('smtp', '{"host": "h", "password": "p", "from": "a@b.c", "to": ["a@b.c"]}', 'config.username'),
    ('smtp', '{"host": "h", "username": "u\nv", "password": "p", "from": "a@b.c", "to": ["a@b.c"]}', 'config.username'),
    ('smtp', '{"host": "h", "to": ["a@b.c"]}', 'config.from'),
    ('smtp', '{"host": "h", "from": "Ann <a@b.c>", "to": ["a@b.c"]}', 'config.from'),
    ('smtp', '{"host": "h", "from": "a@b.c>\nRCPT TO:<x@y.z", "to": ["a@b.c"]}', 'config.from'),
    ('smtp', '{"host": "h", "from": "a@b.c", "to": []}', 'config.to'),
    ('smtp', '{"host": "h", "from": "a@b.c", "to": "a@b.c"}', 'config.to'),
    ('smtp', '{"host": "h", "from": "a@b.c", "to": ["a@b.c", 7]}', 'config.to[1]'),
    ('smtp', '{"host": "h", "from": "a@b.c", "to": ["a@b.c", "b@c.d\r\nBcc: x@y.z"]}', 'config.to[1]'),
    ('smtp', '{"host": "h", "from": "a@b.c", "to": ["a,b@c.d"]}', 'config.to[0]'),
    ('smtp', '{"host": "h", "from": "a@b.c", "to": ["a@b..c"]}', 'config.to[0]'),
    ('smtp', jsonb_build_object('host', 'h', 'from', 'a@b.c', 'to', (SELECT jsonb_agg(n || '@b.c') FROM generate_series(1, 21) n)), 'config.to');
SELECT is_empty($$SELECT * FROM (SELECT w.kind, w.config, w.field, pg_temp.refusal(format('SELECT a67.channel_create(%L, %L, %L)', 'wrong', w.kind, w.config)) AS got
    FROM wrong w) r WHERE got <> '22023 Field: ' || field || '.'$$, 'what is wrong with a configuration is named');
SELECT is(pg_temp.refusal($$SELECT a67.channel_create('Ops!', 'slack', '{"url": "https://example.org/"}')$$), '22023 Field: name.', 'a name');
SELECT is(pg_temp.refusal($$SELECT a67.channel_create('ops', 'slack', '{"url": "https://example.org/"}', 'loud')$$), '22023 Field: min_severity.', 'a severity');
SELECT is(pg_temp.refusal($$SELECT a67.channel_create('ops', 'slack', '{"url": "https://example.org/"}', scope => 'some')$$), '22023 Field: scope.', 'a scope');
SELECT is(pg_temp.refusal($$SELECT a67.channel_create('ops', 'slack', '{"url": "https://example.org/"}', scope => 'all')$$), '42501 Field: scope.',
    'everybody''s alerts are for administrators');
SELECT is(pg_temp.refusal($$SELECT a67.channel_create('ops', 'slack', '{"url": "https://example.org/"}', rate_per_minute => 601)$$),
    '22023 Field: rate_per_minute.', 'a rate');

SELECT is(a67.channel_create('hook', 'webhook', '{"url": "https://hooks.example.org:8443/in?key=T0pSecret", "secret": "0123456789abcdef"}')
    - 'id' - 'created_at' - 'updated_at', '{"name": "hook", "kind": "webhook", "target": "hooks.example.org:8443", "scope": "own",
    "enabled": true, "failures": 0, "last_error": null, "last_sent_at": null, "min_severity": "warning", "last_error_at": null,
    "rate_per_minute": 30}'::jsonb, 'a webhook is made; its answer holds no secret');
SELECT is(pg_temp.refusal($$SELECT a67.channel_create('hook', 'slack', '{"url": "https://example.org/"}')$$), '23505 Field: name.', 'a name twice');
SELECT is(a67.channel_create('mail', 'smtp', '{"host": "mail.example.org", "from": "a67@example.org", "to": ["ann@example.org", "o''b@example.org"],
    "username": "u", "password": "T0pSecret"}', 'critical') ->> 'target', 'mail.example.org:587', 'mail speaks STARTTLS on port 587 by default');
SELECT is(a67.channel_create('chat', 'slack', '{"url": "https://hooks.slack.example/T/B/T0pSecret"}', 'critical', enabled => false) ->> 'enabled', 'false',
    'a channel may begin disabled');
SELECT is_empty($$SELECT FROM a67.channel c WHERE c::text LIKE '%T0pSecret%' UNION ALL SELECT WHERE a67.channel_list()::text LIKE '%T0pSecret%'
    UNION ALL SELECT WHERE a67.channel_get('hook')::text LIKE '%T0pSecret%'$$, 'nothing shows a secret');
SELECT is(pg_temp.refusal('SELECT config_sealed FROM a67_internal.channel'), '42501', 'nor the sealed configuration');
RESET ROLE;
SELECT is_empty($$SELECT FROM a67_internal.channel c WHERE position('T0pSecret'::bytea IN c.config_sealed) > 0$$, 'it is sealed');
SELECT throws_ok($$SELECT a67_internal._vault_open(c.config_sealed, 'channel.config_sealed:' || gen_random_uuid())
    FROM a67_internal.channel c WHERE c.name = 'hook'$$, NULL, NULL, 'for its own row alone');
SELECT set_eq($$SELECT "table" || '.' || "column" FROM a67_internal._sealed_columns() s ("table", "column") WHERE "table" IN ('channel', 'outbox')$$,
    ARRAY['channel.config_sealed', 'outbox.target_sealed'], 'a new master key reaches it');
SELECT ok(c.config_sealed <> d.config_sealed, 'the same configuration twice is sealed in two ways') FROM
    (SELECT a67_internal._channel_seal(channel_id, '{}') AS config_sealed FROM a67_internal.channel WHERE name = 'hook') c,
    (SELECT a67_internal._channel_seal(channel_id, '{}') AS config_sealed FROM a67_internal.channel WHERE name = 'hook') d;

-- ---- somebody else's --------------------------------------------------------------------------------------

SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is(a67.channel_list(), '[]', 'bob sees no channel of ann''s');
SELECT is(pg_temp.refusal($$SELECT a67.channel_get('hook')$$), 'PT404', 'nor gets one');
SELECT is(pg_temp.refusal($$SELECT a67.channel_update('hook', enabled => false)$$), 'PT404', 'nor changes one');
SELECT is(pg_temp.refusal($$SELECT a67.channel_test('hook')$$), 'PT404', 'nor sends a test');
SELECT is(pg_temp.refusal($$SELECT a67.channel_remove('hook')$$), 'PT404', 'nor removes one');
SELECT pg_temp.act_as('root', 'a67_admin') \g /dev/null
SELECT is(a67.channel_create('all', 'webhook', '{"url": "https://root.example.org/"}', 'info', scope => 'all') ->> 'scope', 'all',
    'an administrator''s channel for everybody');
RESET ROLE;

-- ---- from alert to message --------------------------------------------------------------------------------

SELECT pg_temp.raise('a') \g /dev/null
SELECT is((SELECT string_agg(c.name, ' ' ORDER BY c.name) FROM a67_internal.outbox o JOIN a67_internal.channel c USING (channel_id)), 'all hook mail',
    'an alert goes to the enabled channels of its owner, and to root''s');
SELECT pg_temp.raise('a') \g /dev/null
SELECT is((SELECT count(*) FROM a67_internal.outbox), 3::bigint, 'counted again: nothing is sent');
SELECT is((pg_temp.alert('a')).count, 2, 'but counted');
SELECT is(pg_temp.plan_at('0'), 3::bigint, 'all are due at once');
SELECT is(pg_temp.plan_at('1 s'), 0::bigint, 'and leased');
DELETE FROM a67_internal.outbox;
SELECT pg_temp.raise('b', 'warning') \g /dev/null
SELECT is((SELECT string_agg(c.name, ' ' ORDER BY c.name) FROM a67_internal.outbox o JOIN a67_internal.channel c USING (channel_id)), 'all hook',
    'a warning does not go where only critical ones do');
SELECT pg_temp.plan_at('2 s') \g /dev/null
SELECT pg_temp.answer('3 s', 204) \g /dev/null
SELECT is(pg_temp.messages('b'), 'raised:sent raised:sent', 'an answer of 2xx: sent');
SELECT pg_temp.raise('b', 'critical') \g /dev/null
SELECT is((SELECT string_agg(c.name, ' ' ORDER BY c.name) FROM a67_internal.outbox o JOIN a67_internal.channel c USING (channel_id)
           WHERE o.state = 'pending'), 'all hook mail', 'its severity rises: told again');
SELECT is((pg_temp.alert('b')).severity, 'critical', 'it is critical now');
SELECT pg_temp.raise('b', 'info') \g /dev/null
SELECT is((pg_temp.alert('b')).severity, 'critical', 'and stays so');
SELECT pg_temp.raise('c', 'info', 'bob') \g /dev/null
SELECT is((SELECT c.name || ' ' || (o.payload ->> 'owner') FROM a67_internal.outbox o JOIN a67_internal.channel c USING (channel_id)
           JOIN a67_internal.alert a USING (alert_id) WHERE a.dedup_key = 'c'), 'all bob@channel.example', 'root hears of bob''s, and whose it is');
UPDATE a67_internal."user" u SET role = 'a67_user' FROM person p WHERE p.user_id = u.user_id AND p.name = 'root';
SELECT pg_temp.raise('d', 'info', 'bob') \g /dev/null
SELECT is(pg_temp.messages('d'), NULL, 'who is no administrator any more hears nothing');
UPDATE a67_internal."user" u SET role = 'a67_admin' FROM person p WHERE p.user_id = u.user_id AND p.name = 'root';
DELETE FROM a67_internal.outbox;

-- ---- seen, resolved ---------------------------------------------------------------------------------------

CREATE TEMP TABLE it AS SELECT (pg_temp.alert('b')).alert_id;
GRANT SELECT ON it TO PUBLIC;
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is(pg_temp.refusal('SELECT a67.alert_ack(alert_id) FROM it'), 'PT404', 'bob cannot acknowledge ann''s alert');
SELECT is(pg_temp.refusal('SELECT a67.alert_resolve(alert_id) FROM it'), 'PT404', 'nor resolve it');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(a67.alert_ack(alert_id) ->> 'state', 'acked', 'ann has seen it') FROM it;
SELECT is(a67.alert_ack(alert_id) ->> 'acked_by', p.user_id::text, 'twice is once') FROM it, person p WHERE p.name = 'ann';
SELECT is((SELECT count(*) FROM a67.event WHERE type = 'alert.acked'), 1::bigint, 'one event');
SELECT is(jsonb_array_length(a67.alert_list(acked => true)), 1, 'acknowledged ones');
SELECT is(jsonb_array_length(a67.alert_list(acked => false)), 1, 'those not yet');
SELECT is(jsonb_array_length(a67.alert_list(severity => 'warning')), 0, 'by severity');
SELECT is(jsonb_array_length(a67.alert_list(subject_id => gen_random_uuid())), 0, 'by subject');
SELECT is(jsonb_array_length(a67.alert_list("limit" => 1)), 1, 'a page');
RESET ROLE;
SELECT pg_temp.raise('b', 'critical') \g /dev/null
SELECT is((SELECT acked_at IS NOT NULL AND count = 4 FROM pg_temp.alert('b')), true, 'raised again it stays seen, and counts');
SELECT is(pg_temp.messages('b'), NULL, 'and nothing is sent');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(a67.alert_resolve(alert_id) ->> 'state', 'resolved', 'she resolves it') FROM it;
SELECT is(a67.alert_resolve(alert_id) ->> 'resolved_by', p.user_id::text, 'once') FROM it, person p WHERE p.name = 'ann';
SELECT is(pg_temp.refusal('SELECT a67.alert_ack(alert_id) FROM it'), 'PT409', 'too late to acknowledge');
SELECT is(pg_temp.refusal('SELECT a67.alert_ack(gen_random_uuid())'), 'PT404', 'one that is none');
RESET ROLE;
SELECT is(pg_temp.messages('b'), 'resolved:pending resolved:pending resolved:pending', 'which is told');
SELECT pg_temp.raise('b', 'critical') \g /dev/null
SELECT isnt((pg_temp.alert('b')).alert_id, alert_id, 'a condition that goes on is a new alert') FROM it;
SELECT a67_internal._alert_resolve('b') \g /dev/null
SELECT is((SELECT resolved_by IS NULL AND resolved_at IS NOT NULL FROM a67_internal.alert WHERE dedup_key = 'b' AND alert_id <> (SELECT alert_id FROM it)), true,
    'most resolve by themselves');
DELETE FROM a67_internal.outbox;

-- ---- reminders --------------------------------------------------------------------------------------------

UPDATE a67_internal.channel SET enabled = name = 'hook';
SELECT pg_temp.plan_at('23 h') \g /dev/null
SELECT is(pg_temp.messages('a'), NULL, 'within a day no reminder');
SELECT pg_temp.plan_at('24 h') \g /dev/null
SELECT is(pg_temp.messages('a'), 'reminder:pending', 'a day later a critical alert that nobody has seen is told of again');
SELECT is((SELECT body::jsonb ->> 'type' FROM work), 'alert.reminder', 'as a reminder');
SELECT pg_temp.answer('24 h', 200) \g /dev/null
SELECT pg_temp.plan_at('47 h') \g /dev/null
SELECT is(pg_temp.messages('a'), 'reminder:sent', 'once a day');
UPDATE a67_internal.alert SET acked_at = now(), acked_by = owner_id WHERE dedup_key = 'a';
SELECT pg_temp.plan_at('96 h') \g /dev/null
SELECT is(pg_temp.messages('a'), 'reminder:sent', 'and not when it has been seen');
DELETE FROM a67_internal.outbox;
UPDATE a67_internal.channel SET tokens = 30, tokens_at = now();

-- ---- what is sent -----------------------------------------------------------------------------------------

SELECT pg_temp.raise('w') \g /dev/null
SELECT pg_temp.plan_at('0') \g /dev/null
SELECT results_eq('SELECT method, url, token, timeout_ms FROM work',
    $$VALUES ('POST', 'https://hooks.example.org:8443/in?key=T0pSecret', NULL, 10000)$$, 'a webhook');
SELECT is((SELECT body::jsonb - 'alert' - 'at' FROM work), (SELECT jsonb_build_object('id', outbox_id, 'type', 'alert.raised',
    'text', '[critical] trouble with w') FROM a67_internal.outbox), 'its body');
SELECT is((SELECT body::jsonb #>> '{alert,id}' FROM work), (pg_temp.alert('w')).alert_id::text, 'tells the alert');
SELECT is((SELECT h FROM work, unnest(headers) h WHERE h LIKE 'X-A67-Signature: %'),
    (SELECT format('X-A67-Signature: t=%s,v1=%s', t, encode(a67_internal._hmac_sha256('0123456789abcdef', convert_to(t || '.' || body, 'UTF8')), 'hex'))
     FROM work, floor(extract(epoch FROM now())) t), 'signed with time and body');
SELECT is((SELECT count(*) FROM work, a67_internal.outbox o, unnest(headers) h WHERE h IN ('X-A67-Id: ' || o.outbox_id, 'Idempotency-Key: ' || o.outbox_id)),
    2::bigint, 'and with its id');
-- RFC 4231, case 2
SELECT is(a67_internal._hmac_sha256('Jefe', 'what do ya want for nothing?'),
    '\x5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843', 'HMAC-SHA-256 is the one of the RFC');
SELECT is(a67_internal._hmac_sha256(decode(repeat('aa', 131), 'hex'), 'Test Using Larger Than Block-Size Key - Hash Key First'),
    '\x60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54', 'with a long key too');
DELETE FROM a67_internal.outbox;
UPDATE a67_internal.channel SET enabled = name IN ('mail', 'chat'), tokens = 30, tokens_at = now();
SELECT a67_internal._alert_raise(user_id, 'critical', user_id, 'm', E'K\u00e4se & <b>\r\nBcc: x@y.z\u0007 ' || repeat('ö', 60)) FROM person WHERE name = 'ann' \g /dev/null
SELECT pg_temp.plan_at('0') \g /dev/null
SELECT results_eq($$SELECT url, headers FROM work WHERE method = 'MAIL'$$, $$VALUES ('smtp://mail.example.org:587',
    ARRAY['From: a67@example.org', 'To: ann@example.org', 'To: o''b@example.org', 'TLS: required', 'Username: u', 'Password: T0pSecret'])$$, 'mail');
CREATE TEMP TABLE mail AS SELECT split_part(body, E'\r\n\r\n', 1) AS head,
    convert_from(decode(split_part(body, E'\r\n\r\n', 2), 'base64'), 'UTF8') AS text, body FROM work WHERE method = 'MAIL';
SELECT is((SELECT count(*) FROM mail, regexp_split_to_table(body, E'\r\n') l WHERE length(l) > 76 AND l !~ '^(Message-ID|References): '), 0::bigint, 'no line is too long');
SELECT ok(body !~ E'[^\r]\n' AND body !~ E'\r[^\n]' AND body ~ '^[ -~\r\n]*$', 'ASCII, lines end in CRLF') FROM mail;
SELECT unalike(head, '%Bcc%', 'no header gets in') FROM mail;
SELECT is((SELECT string_agg(convert_from(decode(m[1], 'base64'), 'UTF8'), '') FROM mail, regexp_matches(head, '=\?UTF-8\?B\?([^?]+)\?=', 'g') m),
    '[a67] [critical] Käse & <b> Bcc: x@y.z ' || repeat('ö', 60), 'the subject, in encoded words');
SELECT alike(text, '[critical] Käse & <b> Bcc: x@y.z%raised %UTC%', 'the text') FROM mail;
SELECT matches(head, E'\r\nMessage-ID: <[0-9a-f-]{36}@example.org>\r\nReferences: <alert.[0-9a-f-]{36}@example.org>', 'an id of its own, in the alert''s thread') FROM mail;
SELECT is((SELECT body::jsonb ->> 'text' FROM work WHERE method = 'POST'), '[critical] Käse &amp; &lt;b&gt; Bcc: x@y.z ' || repeat('ö', 60),
    'what Slack would read as its own marks is escaped');
SELECT is((SELECT body::jsonb #>> '{attachments,0,color}' FROM work WHERE method = 'POST'), 'danger', 'and red');
SELECT is(a67_internal._mail_text('plain'), 'plain', 'ASCII stays as it is');
SELECT is(a67_internal._mail_text('=?UTF-8?Q?x?='), '=?UTF-8?B?PT9VVEYtOD9RP3g/PQ==?=', 'what looks encoded is encoded');
DELETE FROM a67_internal.outbox;

-- ---- failures ---------------------------------------------------------------------------------------------

UPDATE a67_internal.channel SET enabled = name = 'hook', tokens = 30, tokens_at = now();
SELECT pg_temp.raise('f') \g /dev/null
SELECT pg_temp.plan_at('0') \g /dev/null
SELECT is(pg_temp.answer('1 s', 500), 1, 'an error is recorded');
SELECT results_eq('SELECT state, attempts, last_error FROM a67.outbox', $$VALUES ('pending', 1, 'receiver answered 500')$$, 'it will be tried again');
SELECT is(pg_temp.plan_at('3 s'), 0::bigint, 'not at once');
SELECT is(pg_temp.plan_at('6 s'), 1::bigint, 'but after five seconds at most');
SELECT is(pg_temp.answer('7 s', 0, 'address not allowed'), 1, 'no answer');
SELECT is((SELECT last_error FROM a67.channel WHERE name = 'hook'), 'address not allowed', 'the channel tells why');
SELECT is((SELECT failures FROM a67.channel WHERE name = 'hook'), 2, 'and how often in a row');
SELECT is(pg_temp.answer('8 s', 200), 0, 'an answer to an earlier attempt is dropped');
SELECT is_empty($$SELECT FROM a67_internal.outbox o WHERE o::text LIKE '%secret answer%'$$, 'answers are not kept');
SELECT a67_internal._alert_resolve('f') \g /dev/null
SELECT is(pg_temp.messages('f'), 'raised:pending resolved:pending', 'resolved meanwhile');
UPDATE a67_internal.outbox SET next_attempt_at = pg_temp.t('10 min') WHERE kind = 'raised';
SELECT is(pg_temp.plan_at('9 min'), 0::bigint, 'the end is not told before the beginning');
SELECT is(pg_temp.plan_at('10 min'), 1::bigint, 'the beginning');
SELECT pg_temp.answer('10 min', 200) \g /dev/null
SELECT is(pg_temp.plan_at('10 min'), 1::bigint, 'then the end');
SELECT pg_temp.answer('10 min', 200) \g /dev/null
SELECT is(pg_temp.messages('f'), 'raised:sent resolved:sent', 'both are told');
SELECT is((SELECT failures FROM a67.channel WHERE name = 'hook'), 0, 'all is well again');

-- A process that dies between sending and recording
DELETE FROM a67_internal.outbox;
SELECT pg_temp.raise('g') \g /dev/null
SELECT pg_temp.plan_at('0') \g /dev/null
SELECT is(pg_temp.plan_at('34 s'), 0::bigint, 'a lease holds for time-out and queue');
SELECT is(pg_temp.plan_at('35 s'), 1::bigint, 'then the message is sent again');
UPDATE a67_internal.outbox SET leased_by = 0;
SELECT is(pg_temp.plan_at('36 s'), 1::bigint, 'at once when another process had leased it');
DELETE FROM a67_internal.outbox;

-- To the last attempt
CREATE TEMP TABLE clock AS SELECT pg_temp.t('0') AS now;
CREATE FUNCTION pg_temp.until_dead() RETURNS interval LANGUAGE plpgsql AS $$
DECLARE
    o a67_internal.outbox;
BEGIN
    FOR i IN 1..100 LOOP
        SELECT * INTO o FROM a67_internal.outbox WHERE state = 'pending' ORDER BY next_attempt_at LIMIT 1;
        EXIT WHEN NOT FOUND;
        UPDATE clock SET now = greatest(clock.now, o.next_attempt_at);
        PERFORM a67_internal._notifier_record(c.now, p.keys, p.statuses, NULL, NULL)
        FROM clock c, LATERAL (SELECT array_agg(key) AS keys, array_agg(404) AS statuses FROM a67_internal._notifier_plan(c.now)) p;
    END LOOP;
    RETURN (SELECT max(done_at) - now() FROM a67_internal.outbox WHERE state = 'dead');
END
$$;
UPDATE a67_internal.alert SET resolved_at = now() WHERE resolved_at IS NULL;
SELECT pg_temp.raise('h') \g /dev/null
UPDATE a67_internal.alert SET acked_at = now(), acked_by = owner_id WHERE dedup_key = 'h';
SELECT ok(pg_temp.until_dead() BETWEEN '16 h' AND '32 h', 'a message is given up after about a day');
SELECT results_eq('SELECT state, attempts, last_error FROM a67.outbox', $$VALUES ('dead', 26, 'receiver answered 404')$$, 'after 26 attempts');
SELECT outbox_id AS message FROM a67.outbox \gset
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is(a67.outbox_list(), '[]', 'bob does not see it');
SELECT is(pg_temp.refusal(format('SELECT a67.outbox_retry(%L)', :'message')), 'PT404', 'nor sends it again');
SELECT is(pg_temp.refusal(format('SELECT a67.outbox_get(%L)', :'message')), 'PT404', 'nor reads it');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(jsonb_array_length(a67.outbox_list('dead', 'hook')), 1, 'ann does');
SELECT is(pg_temp.refusal(format('SELECT a67.outbox_retry(%L)', :'message')), 'done', 'she sends it again');
SELECT is(pg_temp.refusal(format('SELECT a67.outbox_retry(%L)', :'message')), 'PT409', 'once');
RESET ROLE;
SELECT is(pg_temp.plan_at('2 days'), 1::bigint, 'it goes out');
SELECT pg_temp.answer('2 days', 200) \g /dev/null
SELECT is((SELECT state FROM a67.outbox), 'sent', 'and arrives');

-- Five in a row disable the channel
UPDATE a67_internal.channel SET enabled = name IN ('hook', 'chat'), tokens = 30, tokens_at = now();
UPDATE a67_internal.channel SET min_severity = 'warning' WHERE name = 'chat';
UPDATE clock SET now = pg_temp.t('0');
SELECT pg_temp.raise('dead' || n) FROM generate_series(1, 6) n \g /dev/null
SELECT a67.channel_update('chat', enabled => false) FROM (SELECT pg_temp.act_as('ann') OFFSET 0) a \g /dev/null
RESET ROLE;
SELECT is((SELECT DISTINCT state || ': ' || last_error FROM a67.outbox WHERE channel = 'chat' AND created_at = now() AND state <> 'sent'), 'dead: channel was disabled',
    'a channel that is disabled gives up what is on its way');
UPDATE a67_internal.channel SET enabled = true WHERE name = 'chat';
UPDATE a67_internal.outbox SET attempts = 25 WHERE state = 'pending' AND alert_id <> (pg_temp.alert('dead6')).alert_id;
SELECT pg_temp.plan_at('1 min') \g /dev/null
SELECT pg_temp.answer('1 min', 410) \g /dev/null
SELECT is((SELECT enabled FROM a67.channel WHERE name = 'hook'), false, 'five dead letters in a row disable a channel');
SELECT is((SELECT string_agg(c.name, ' ') FROM a67_internal.outbox o JOIN a67_internal.channel c USING (channel_id) WHERE o.state = 'pending'), 'chat',
    'which is told through the others');
SELECT is((SELECT message FROM a67.alert WHERE dedup_key LIKE 'channel-disabled:%'),
    'channel "hook" was disabled: 5 messages in a row could not be delivered (receiver answered 410)', 'with the reason');
SELECT is((SELECT last_error FROM a67.outbox WHERE channel = 'hook' AND attempts = 1 AND state = 'dead'), 'channel was disabled',
    'what failed in the same moment is given up too');
SELECT outbox_id AS message FROM a67.outbox WHERE channel = 'hook' AND state = 'dead' LIMIT 1 \gset
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(pg_temp.refusal(format('SELECT a67.outbox_retry(%L)', :'message')), 'PT409', 'its messages cannot be sent again now');
SELECT is((a67.channel_test('hook')) ->> 'state', 'pending', 'but a test can');
RESET ROLE;
SELECT is(pg_temp.plan_at('2 min'), 2::bigint, 'and goes out');
SELECT is((SELECT body::jsonb ->> 'text' FROM work WHERE body::jsonb ->> 'type' = 'channel.test'), 'test message of channel "hook"', 'as a test');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(a67.channel_update('hook', enabled => true) ->> 'failures', '0', 'enabled anew it begins anew');
SELECT is((SELECT resolved_at IS NOT NULL FROM a67.alert WHERE dedup_key LIKE 'channel-disabled:%'), true, 'and its alert is over');
SELECT is(a67.channel_update('hook', name => 'ops', config => '{"url": "https://other.example.org/"}') - 'id' - 'created_at' - 'updated_at' - 'last_sent_at',
    '{"name": "ops", "kind": "webhook", "target": "other.example.org", "scope": "own", "enabled": true, "failures": 0, "last_error": null,
      "min_severity": "warning", "last_error_at": null, "rate_per_minute": 30}'::jsonb, 'a channel is changed');
SELECT is(pg_temp.refusal($$SELECT a67.channel_update('ops', name => 'mail')$$), '23505 Field: name.', 'not to a name that is taken');
SELECT is(pg_temp.refusal($$SELECT a67.channel_update('ops', config => '{"url": "http://x/"}')$$), '22023 Field: config.url.', 'nor to a wrong URL');
SELECT is(pg_temp.refusal($$SELECT a67.channel_update('ops', scope => 'all')$$), '42501 Field: scope.', 'nor to everybody''s');
SELECT a67.channel_test('ops') FROM generate_series(1, 4) \g /dev/null
SELECT is(pg_temp.refusal($$SELECT a67.channel_test('ops')$$), 'PT429', 'tests are not for flooding');
RESET ROLE;
DELETE FROM a67_internal.outbox;

-- ---- rates and storms -------------------------------------------------------------------------------------

UPDATE a67_internal.channel SET enabled = name = 'ops', rate_per_minute = 6, tokens = 6, tokens_at = now();
SELECT pg_temp.raise('storm' || n, CASE WHEN n > 130 THEN 'critical' ELSE 'warning' END) FROM generate_series(1, 132) n \g /dev/null
SELECT is((SELECT count(*) FROM a67_internal.outbox WHERE kind = 'raised'), 12::bigint, 'what two minutes hold is queued');
SELECT results_eq($$SELECT payload ->> 'count', payload ->> 'critical', jsonb_array_length(payload -> 'first') FROM a67_internal.outbox WHERE kind = 'summary'$$,
    $$VALUES ('120', '2', 10)$$, 'the rest is counted');
SELECT is(pg_temp.plan_at('0'), 6::bigint, 'a full bucket');
SELECT pg_temp.answer('1 s', 200) \g /dev/null
SELECT is(pg_temp.plan_at('9 s'), 0::bigint, 'then it is empty');
SELECT is(pg_temp.plan_at('20 s'), 2::bigint, 'and fills with time');
SELECT pg_temp.answer('20 s', 200) \g /dev/null
SELECT is(pg_temp.plan_at('80 s'), 5::bigint, 'the summary comes last');
SELECT is((SELECT body::jsonb ->> 'text' FROM work WHERE body LIKE '%alert.summary%'), 'and 120 more alert messages, 2 of them about critical ones', 'with its number');
SELECT a67_internal._outbox_add(c, 'raised', NULL, NULL, '{"alert": {"message": "late"}}') FROM a67_internal.channel c, generate_series(1, 9) WHERE c.name = 'ops' \g /dev/null
SELECT is((SELECT string_agg(payload ->> 'count', ' ' ORDER BY place) FROM a67_internal.outbox WHERE kind = 'summary'), '120 2', 'a summary that is being sent is not changed');
DELETE FROM a67_internal.outbox WHERE payload ->> 'count' = '2';
SELECT pg_temp.answer('81 s', 503) \g /dev/null
SELECT outbox_id AS summary FROM a67_internal.outbox WHERE kind = 'summary' \gset
SELECT a67_internal._outbox_add(c, 'raised', NULL, NULL, '{"alert": {"message": "later", "severity": "critical"}}') FROM a67_internal.channel c WHERE c.name = 'ops' \g /dev/null
SELECT is((SELECT (payload ->> 'count') || ' ' || (payload ->> 'critical') || ' ' || (outbox_id <> :'summary') FROM a67_internal.outbox WHERE kind = 'summary'),
    '121 3 true', 'one that failed counts on, as another message');
DELETE FROM a67_internal.outbox;

-- One owner's slow receivers do not take all there is
UPDATE a67_internal.channel SET enabled = true, min_severity = 'info', rate_per_minute = 600, tokens = 600, tokens_at = now() WHERE name IN ('ops', 'all', 'chat');
SELECT pg_temp.raise('slow' || n) FROM generate_series(1, 20) n \g /dev/null
SELECT pg_temp.plan_at('0') \g /dev/null
SELECT results_eq($$SELECT p.name, count(*) FROM a67_internal.outbox o JOIN person p ON p.user_id = o.owner_id WHERE o.leased_until IS NOT NULL GROUP BY 1 ORDER BY 1$$,
    $$VALUES ('ann', 8::bigint), ('root', 8::bigint)$$, 'eight at a time for each');
SELECT is(pg_temp.plan_at('1 s'), 0::bigint, 'until they are answered');
DELETE FROM a67_internal.outbox;

-- ---- hooks ------------------------------------------------------------------------------------------------

SELECT a67_internal._hook_send(user_id, user_id, 'https://api.example.org/restart?key=T0pSecret', '0123456789abcdef', '{"type": "node.restart", "node": "n1"}') AS hook
FROM person WHERE name = 'ann' \gset
SELECT is_empty($$SELECT FROM a67_internal.outbox o WHERE o::text LIKE '%T0pSecret%' OR position('T0pSecret'::bytea IN o.target_sealed) > 0$$, 'a hook''s target is sealed');
SELECT is(pg_temp.plan_at('0'), 1::bigint, 'it is sent');
SELECT is((SELECT url || ' ' || (body::jsonb - 'at')::text FROM work), format('https://api.example.org/restart?key=T0pSecret {"id": "%s", "node": "n1", "type": "node.restart"}', :'hook'),
    'with its payload');
SELECT is((SELECT count(*) FROM work, unnest(headers) h WHERE h LIKE 'X-A67-Signature: t=%,v1=%'), 1::bigint, 'signed');
SELECT pg_temp.answer('0', 200) \g /dev/null
SELECT is((SELECT state || ' ' || (target_sealed IS NULL) FROM a67_internal.outbox), 'sent true', 'and what was secret is gone');
SELECT a67_internal._hook_send(user_id, user_id, 'https://api.example.org/', NULL, '{}') AS hook FROM person WHERE name = 'ann' \gset
UPDATE a67_internal.outbox SET attempts = 25 WHERE state = 'pending';
SELECT pg_temp.plan_at('0') \g /dev/null
SELECT is((SELECT count(*) FROM work, unnest(headers) h WHERE h LIKE 'X-A67-Signature%' OR h IS NULL), 0::bigint, 'without a secret not signed');
SELECT pg_temp.answer('0', 503) \g /dev/null
SELECT is((SELECT state || ' ' || (target_sealed IS NULL) FROM a67_internal.outbox WHERE outbox_id = :'hook'), 'dead true', 'gone too when it is given up');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(pg_temp.refusal(format('SELECT a67.outbox_retry(%L)', :'hook')), 'PT409 The URL and the secret of a hook are not kept beyond its last attempt.',
    'so it cannot be sent again');
RESET ROLE;

-- A configuration that cannot be opened
DELETE FROM a67_internal.outbox;
UPDATE a67_internal.channel SET config_sealed = '\x00' WHERE name = 'chat';
SELECT pg_temp.raise('broken') \g /dev/null
SELECT is(pg_temp.plan_at('0'), 2::bigint, 'does not hold up the others');
SELECT matches((SELECT last_error FROM a67.outbox WHERE channel = 'chat'), '^could not make the message', 'and is told');

-- A clock that was set back: neither a message nor a bucket waits for the time that it showed before
DELETE FROM a67_internal.outbox;
INSERT INTO a67_internal.outbox (owner_id, channel_id, kind, payload, next_attempt_at, leased_until, leased_by)
SELECT c.owner_id, c.channel_id, 'test', '{}', pg_temp.t('1 year'), CASE n WHEN 1 THEN pg_temp.t('1 year') END, CASE n WHEN 1 THEN pg_backend_pid() END
FROM a67_internal.channel c, generate_series(1, 2) n WHERE c.name = 'ops';
UPDATE a67_internal.channel SET tokens = 0, tokens_at = pg_temp.t('1 year') WHERE name = 'ops';
SELECT is(pg_temp.plan_at('1 min'), 0::bigint, 'all of it is to come');
SELECT lives_ok($$SELECT a67_internal._clock_back(pg_temp.t('-1 min'))$$, 'the clock was set back');
SELECT is(pg_temp.plan_at('1 min'), 2::bigint, 'so it is now');

-- ---- what is kept -----------------------------------------------------------------------------------------

DELETE FROM a67_internal.outbox;
INSERT INTO a67_internal.outbox (owner_id, channel_id, kind, payload, state, done_at)
SELECT c.owner_id, c.channel_id, 'test', '{}', s, pg_temp.t('0') FROM a67_internal.channel c, unnest(ARRAY['sent', 'dead']) s WHERE c.name = 'ops';
SELECT is(a67_internal._outbox_prune(pg_temp.t('6 days')), 0::bigint, 'a week');
SELECT is(a67_internal._outbox_prune(pg_temp.t('8 days')), 1::bigint, 'then sent messages go');
SELECT is(a67_internal._outbox_prune(pg_temp.t('31 days')), 1::bigint, 'dead ones later');
SELECT is(a67_internal._alert_prune(pg_temp.t('89 days')), 0::bigint, 'resolved alerts are kept for 90 days');
SELECT is(a67_internal._alert_prune(pg_temp.t('91 days')), n, 'no longer') FROM (SELECT count(*) AS n FROM a67_internal.alert WHERE resolved_at IS NOT NULL) r;
SELECT isnt_empty('SELECT FROM a67_internal.alert', 'open ones are kept');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT a67.channel_remove('ops') \g /dev/null
SELECT is(pg_temp.refusal($$SELECT a67.channel_get('ops')$$), 'PT404', 'a channel is removed');
SELECT is((SELECT count(*) FROM a67.channel), 2::bigint, 'the others stay');
SELECT a67.channel_create('n' || n, 'slack', '{"url": "https://example.org/"}') FROM generate_series(3, 20) n \g /dev/null
SELECT is(pg_temp.refusal($$SELECT a67.channel_create('n21', 'slack', '{"url": "https://example.org/"}')$$), 'PT409', 'twenty are enough');

RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
