\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(178);
SELECT a67_internal._bootstrap() \g /dev/null
CREATE TEMP TABLE person (name text PRIMARY KEY, user_id uuid);
INSERT INTO person SELECT n, a67.user_create(n || '@example.com') FROM unnest(ARRAY['ann', 'bob']) n;
INSERT INTO person SELECT 'root', a67.user_create('root@example.com', 'a67_admin');
GRANT SELECT ON person TO PUBLIC;
CREATE FUNCTION pg_temp.act_as(person text, role text DEFAULT 'a67_user') RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.user_id, 'role', role)::text, true) || set_config('role', role, true)
    FROM person p WHERE p.name = person
$$;
-- The status that the last call chose; 200 when it chose none.
CREATE FUNCTION pg_temp.status() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    chosen text := coalesce(nullif(current_setting('response.status', true), ''), '200');
BEGIN
    PERFORM set_config('response.status', '', true);
    RETURN chosen;
END
$$;
CREATE FUNCTION pg_temp.last_audit() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', action, outcome) FROM a67_internal.audit ORDER BY audit_id DESC LIMIT 1
$$;
-- A chosen clock: so many seconds from the start of the test.
CREATE FUNCTION pg_temp.at(s float8) RETURNS timestamptz LANGUAGE sql AS 'SELECT now() + make_interval(secs => s)';
-- Stores what ann has at a provider; returns its id.
CREATE FUNCTION pg_temp.store(provider text, expires_in integer DEFAULT 3600, revocation_url text DEFAULT NULL, node text DEFAULT NULL,
    client_secret text DEFAULT 'se cret', client_auth text DEFAULT 'basic', access_token text DEFAULT 'canary-access-0') RETURNS uuid LANGUAGE sql AS $$
    SELECT (a67.credential_set(provider => provider, token_url => 'https://id.example.com/token', client_id => 'my client',
        client_secret => client_secret, refresh_token => 'canary-refresh-0', access_token => access_token, expires_in => expires_in,
        scopes => '{read,write}', node => node, revocation_url => revocation_url, client_auth => client_auth) ->> 'id')::uuid
$$;
CREATE FUNCTION pg_temp.c(provider text) RETURNS a67_internal.oauth_credential LANGUAGE sql AS $$
    SELECT c FROM a67_internal.oauth_credential c WHERE c.provider = $1 ORDER BY created_at DESC, status LIMIT 1
$$;
CREATE FUNCTION pg_temp.opened(c a67_internal.oauth_credential) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', a67_internal._oauth_open(c.credential_id, 'access_token_sealed', c.access_token_sealed),
                     a67_internal._oauth_open(c.credential_id, 'refresh_token_sealed', c.refresh_token_sealed))
$$;
CREATE FUNCTION pg_temp.alert(kind text, provider text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.severity || ' ' || a.message, '; ') FROM a67_internal.alert a
    WHERE a.dedup_key = format('oauth-%s:%s', $1, (pg_temp.c($2)).credential_id) AND a.resolved_at IS NULL
$$;
-- The worker: what it was given to send, by provider, and an answer of the provider to the last of it.
CREATE TEMP TABLE request (n serial, key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text);
CREATE FUNCTION pg_temp.plan(s float8) RETURNS bigint LANGUAGE sql AS $$
    WITH planned AS (
        INSERT INTO request (key, method, url, token, body, timeout_ms, headers, pin) SELECT * FROM a67_internal._oauth_plan(pg_temp.at(s)) RETURNING 1)
    SELECT count(*) FROM planned
$$;
CREATE FUNCTION pg_temp.last(provider text) RETURNS request LANGUAGE sql AS $$
    SELECT r FROM request r WHERE r.key LIKE '%' || (pg_temp.c($1)).credential_id || '%' ORDER BY n DESC LIMIT 1
$$;
CREATE FUNCTION pg_temp.answer(provider text, s float8, status integer, body text DEFAULT NULL, error text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    c a67_internal.oauth_credential;
BEGIN
    PERFORM a67_internal._oauth_record(pg_temp.at(s), ARRAY[(pg_temp.last(provider)).key], ARRAY[status], ARRAY[body], ARRAY[error]);
    c := pg_temp.c(provider);
    RETURN concat_ws(' ', c.status, c.attempts, c.last_error);
END
$$;

-- Who may store
SET LOCAL ROLE a67_anon;
SELECT throws_ok($$SELECT pg_temp.store('render')$$, '42501', NULL, 'a stranger stores nothing');
SELECT throws_ok($$SELECT a67.credential_list()$$, '42501', NULL, 'nor sees anything');
RESET ROLE;
SELECT set_config('request.jwt.claims', '{"sub": "00000000-0000-4000-8000-000000000001", "role": "a67_user"}', true) \g /dev/null
SET LOCAL ROLE a67_user;
SELECT throws_ok($$SELECT pg_temp.store('render')$$, 'PT401', NULL, 'nor does a subject that is no user');
RESET ROLE;

-- What is refused, and by which name
SELECT pg_temp.act_as('ann') \g /dev/null
CREATE FUNCTION pg_temp.refused(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    field text;
BEGIN
    EXECUTE 'SELECT a67.credential_set(' || call || ')';
    RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS field = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || coalesce(field, '') || CASE WHEN SQLERRM || coalesce(field, '') ~ 'canary' THEN ' with the secret' ELSE '' END;
END
$$;
SELECT is(pg_temp.refused(call), '22023 Field: ' || field || '.', what)
FROM (VALUES
    ($$provider => NULL, access_token => 'canary'$$, 'provider', 'no provider'),
    ($$provider => 'Render!', access_token => 'canary'$$, 'provider', 'a provider with odd letters'),
    ($$provider => repeat('r', 64), access_token => 'canary'$$, 'provider', 'a provider that is too long'),
    ($$provider => 'r'$$, 'refresh_token', 'no token at all'),
    ($$provider => 'r', refresh_token => 'canary', client_id => 'i'$$, 'token_url', 'a refresh token and nowhere to send it'),
    ($$provider => 'r', refresh_token => 'canary', token_url => 'https://id.example.com'$$, 'client_id', 'and nobody to send it'),
    ($$provider => 'r', refresh_token => '', token_url => 'https://id.example.com', client_id => 'i'$$, 'refresh_token', 'an empty refresh token'),
    ($$provider => 'r', access_token => E'canary\n'$$, 'access_token', 'a token with a line break'),
    ($$provider => 'r', access_token => 'canaryä'$$, 'access_token', 'a token that is not ASCII'),
    ($$provider => 'r', access_token => repeat('canary', 3000)$$, 'access_token', 'a token that is too long'),
    ($$provider => 'r', access_token => 'x', client_id => 'i', client_secret => repeat('canary', 100)$$, 'client_secret', 'a secret that is too long'),
    ($$provider => 'r', access_token => 'x', client_secret => 'canary'$$, 'client_id', 'a secret without a client'),
    ($$provider => 'r', access_token => 'x', client_id => E'a\rb'$$, 'client_id', 'a client id that would end a header'),
    ($$provider => 'r', access_token => 'x', token_url => 'http://id.example.com/'$$, 'token_url', 'secrets in the clear'),
    ($$provider => 'r', access_token => 'x', token_url => 'http://127.0.0.1:1/'$$, 'token_url', 'the machine itself, when that is not allowed'),
    ($$provider => 'r', access_token => 'x', token_url => 'ftp://id.example.com/'$$, 'token_url', 'another scheme'),
    ($$provider => 'r', access_token => 'x', token_url => 'https://user:canary@id.example.com/'$$, 'token_url', 'a URL with a password'),
    ($$provider => 'r', access_token => 'x', token_url => 'https://id.example.com/#x'$$, 'token_url', 'a URL with a fragment'),
    ($$provider => 'r', access_token => 'x', token_url => 'https://id.example.com/a b'$$, 'token_url', 'a URL with a space'),
    ($$provider => 'r', access_token => 'x', token_url => 'https:///x'$$, 'token_url', 'a URL without a host'),
    ($$provider => 'r', access_token => 'x', client_id => 'i', revocation_url => 'http://id.example.com/'$$, 'revocation_url', 'revocation in the clear'),
    ($$provider => 'r', access_token => 'x', scopes => '{"a b"}'$$, 'scopes', 'a scope with a space'),
    ($$provider => 'r', access_token => 'x', scopes => ARRAY[NULL]::text[]$$, 'scopes', 'a scope that is none'),
    ($$provider => 'r', access_token => 'x', scopes => NULL$$, 'scopes', 'no scopes at all'),
    ($$provider => 'r', access_token => 'x', expires_in => -1$$, 'expires_in', 'a life that is over'),
    ($$provider => 'r', access_token => 'x', expires_in => 2000000000$$, 'expires_in', 'a life without end'),
    ($$provider => 'r', access_token => 'x', token_type => E'Bear\ner'$$, 'token_type', 'a token type with a line break'),
    ($$provider => 'r', access_token => 'x', client_auth => 'none'$$, 'client_auth', 'an unknown way to say who one is')
) AS t (call, field, what);
SELECT throws_ok($$SELECT a67.credential_set('r', access_token => 'x', node => 'nowhere')$$, 'PT404', NULL, 'a node that does not exist');
SELECT is(a67.credential_list(), '[]', 'nothing of that was stored');

-- Storing
SELECT isnt(pg_temp.store('render'), NULL, 'ann stores a credential');
SELECT is(pg_temp.status(), '201', 'as a new one');
RESET ROLE;
SELECT is(pg_temp.last_audit(), 'credential.set ok', 'which is noted');
SELECT is(pg_temp.opened(pg_temp.c('render')), 'canary-access-0 canary-refresh-0', 'both tokens open');
SELECT is((SELECT count(*) FROM a67_internal.oauth_credential c, person p WHERE c.owner_id = p.user_id AND p.name = 'ann'), 1::bigint, 'for her');
SELECT is_empty($$SELECT FROM a67_internal.oauth_credential c WHERE c::text LIKE '%canary%' OR
    position('canary'::bytea IN c.access_token_sealed) + position('canary'::bytea IN c.refresh_token_sealed) + position('se cret'::bytea IN c.client_secret_sealed) > 0$$,
    'no secret stands in the row');
SELECT throws_ok($$SELECT a67_internal._vault_open((pg_temp.c('render')).access_token_sealed,
    'oauth_credential.refresh_token_sealed:' || (pg_temp.c('render')).credential_id)$$, '22000', NULL, 'a token does not open as another');
SELECT ok((pg_temp.c('render')).next_attempt_at BETWEEN pg_temp.at(2880 * 0.9) AND pg_temp.at(2880), 'it is refreshed after 80 % of an hour, or a bit before');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(a67.credential_get(credential_id::text) -> 'scopes', '["read", "write"]', 'she sees what it is') FROM a67.credential;
SELECT is(a67.credential_list('render') -> 0 ->> 'status', 'active', 'and how it is');
SELECT is(a67.credential_list('fly') || a67.credential_list(NULL, 'failed'), '[]', 'only what she asks for');
SELECT is_empty($$SELECT FROM a67.credential c WHERE c::text || a67.credential_list() || a67.credential_get(c.credential_id::text) ~ 'canary|se cret'$$,
    'without a secret');
SELECT throws_ok($$SELECT access_token_sealed FROM a67_internal.oauth_credential$$, '42501', NULL, 'nor is there another way to one');
SELECT is(pg_temp.store('render', 600), (SELECT credential_id FROM a67.credential), 'stored again it replaces the first');
SELECT is(pg_temp.status(), '200', 'as the same one');
SELECT ok(next_attempt_at BETWEEN pg_temp.at(270) AND pg_temp.at(300), '5 minutes before the end when that is earlier') FROM a67.credential;
SELECT is(pg_temp.store('render', 100), (SELECT credential_id FROM a67.credential), 'one of short life');
SELECT ok(next_attempt_at BETWEEN pg_temp.at(45) AND pg_temp.at(50), 'is refreshed at half of it, not at once for ever') FROM a67.credential;
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is(a67.credential_list(), '[]', 'bob sees nothing of it');
RESET ROLE;
SELECT set_config('test.id', (pg_temp.c('render')).credential_id::text, true) \g /dev/null
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT throws_ok(format('SELECT a67.%s(%L)', f, current_setting('test.id')), 'PT404', NULL, f || ': for bob it does not exist')
FROM unnest(ARRAY['credential_get', 'credential_refresh', 'credential_revoke']) f;
SELECT pg_temp.act_as('root', 'a67_admin') \g /dev/null
SELECT is(a67.credential_get(current_setting('test.id')) ->> 'provider', 'render', 'an administrator sees it');
SELECT throws_ok($$SELECT access_token_sealed FROM a67_internal.oauth_credential$$, '42501', NULL, 'without secrets, too');
RESET ROLE;

-- A refresh
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT pg_temp.store('fly', 3600) \g /dev/null
RESET ROLE;
UPDATE a67_internal.oauth_credential SET next_attempt_at = 'infinity' WHERE provider <> 'fly';
SELECT is(pg_temp.plan(2500), 0::bigint, 'nothing is sent before it is due');
SELECT is(pg_temp.plan(2881), 1::bigint, 'then one request');
SELECT is((r.method, r.url, r.token, r.timeout_ms)::text, '(POST,https://id.example.com/token,,10000)', 'to the token endpoint') FROM pg_temp.last('fly') r;
SELECT is(r.body, 'grant_type=refresh_token&refresh_token=canary-refresh-0', 'with the refresh token') FROM pg_temp.last('fly') r;
SELECT is(r.headers, ARRAY['Content-Type: application/x-www-form-urlencoded', 'Accept: application/json',
    'Authorization: Basic ' || encode('my+client:se+cret', 'base64')], 'and client id and secret in the header') FROM pg_temp.last('fly') r;
SELECT is(pg_temp.plan(2882), 0::bigint, 'not again while it is leased');
SELECT is(pg_temp.plan(2893), 1::bigint, 'but when the lease is over, as after a crash');
SELECT is((SELECT count(DISTINCT key) FROM request WHERE key LIKE '%' || (pg_temp.c('fly')).credential_id || '%'), 1::bigint,
    'under the same name, so that the worker knows one that is still under way');
SELECT is(pg_temp.answer('fly', 2894, 200, '{"access_token": "canary-access-1", "refresh_token": "canary-refresh-1", "token_type": "bearer", "expires_in": 1000, "scope": "read"}'),
    'active 0', 'the answer is taken');
SELECT is(pg_temp.opened(pg_temp.c('fly')), 'canary-access-1 canary-refresh-1', 'both tokens are new');
SELECT is((c.expires_at, c.refreshed_at, c.scopes, c.token_type), (pg_temp.at(3894), pg_temp.at(2894), '{read}'::text[], 'bearer'::text), 'with all that was said of them')
FROM pg_temp.c('fly') c;
SELECT ok((pg_temp.c('fly')).next_attempt_at BETWEEN pg_temp.at(2894 + 630) AND pg_temp.at(2894 + 700), 'and the next refresh is planned');
SELECT is(pg_temp.answer('fly', 2895, 200, '{"access_token": "canary-late", "refresh_token": "canary-late"}'), 'active 0', 'a second answer to the same request');
SELECT is(pg_temp.opened(pg_temp.c('fly')), 'canary-access-1 canary-refresh-1', 'changes nothing');
SELECT is((SELECT payload ->> 'status' FROM a67_internal.event WHERE type = 'credential.changed' ORDER BY event_id DESC LIMIT 1), 'active', 'an event tells of it');
SELECT is_empty($$SELECT FROM a67_internal.event WHERE payload::text LIKE '%canary%' UNION ALL SELECT FROM a67_internal.alert WHERE message LIKE '%canary%'
    UNION ALL SELECT FROM a67_internal.audit a WHERE a::text LIKE '%canary%'$$, 'without a secret');
SELECT is(pg_temp.plan(3600), 1::bigint, 'due again');
SELECT is(pg_temp.answer('fly', 3601, 200, '{"access_token": "canary-access-2"}'), 'active 0', 'an answer with nothing but a token');
SELECT is(pg_temp.opened(pg_temp.c('fly')), 'canary-access-2 canary-refresh-1', 'keeps the refresh token');
SELECT is((pg_temp.c('fly')).expires_at, NULL, 'whose end is not known');
SELECT ok((pg_temp.c('fly')).next_attempt_at BETWEEN pg_temp.at(3601 + 2592) AND pg_temp.at(3601 + 2880), 'and taken to be an hour off');
SELECT is((pg_temp.c('fly')).scopes, '{read}', 'scopes that are not named stay');

-- Answers that are of no use: tried again, with pauses that grow, and an alert at the third
SELECT pg_temp.plan(10000) \g /dev/null
SELECT is(pg_temp.answer('fly', 10001, 500, 'canary'), 'active 1 HTTP 500', 'an error of the provider');
SELECT ok((pg_temp.c('fly')).next_attempt_at BETWEEN pg_temp.at(10001.5) AND pg_temp.at(10002), 'soon again');
SELECT pg_temp.plan(10003) \g /dev/null
SELECT is(pg_temp.answer('fly', 10004, 0, NULL, 'timeout'), 'active 2 timeout', 'no answer');
SELECT is(pg_temp.alert('refresh', 'fly'), NULL, 'nobody is alerted yet');
SELECT pg_temp.plan(10007) \g /dev/null
SELECT is(pg_temp.answer('fly', 10008, 429, '{"error": "slow_down"}'), 'active 3 HTTP 429', 'too many requests');
SELECT is(pg_temp.alert('refresh', 'fly'), 'warning credential for provider "fly" could not be refreshed 3 times in a row (HTTP 429)', 'the third alerts');
SELECT ok((pg_temp.c('fly')).next_attempt_at BETWEEN pg_temp.at(10010) AND pg_temp.at(10012), 'the pause has grown');
-- One after another: what the provider said, and what is kept of it
CREATE FUNCTION pg_temp.next_answer(status integer, body text, error text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE a67_internal.oauth_credential SET next_attempt_at = '-infinity', attempts = 0, status = 'active' WHERE provider = 'fly';
    PERFORM pg_temp.plan(20000);
    RETURN pg_temp.answer('fly', 20001, status, body, error);
END
$$;
SELECT is(pg_temp.next_answer(status, body, error), wanted, what)
FROM (VALUES
    (200, 'canary', NULL, 'active 1 malformed answer', 'not JSON'),
    (200, NULL, NULL, 'active 1 malformed answer', 'nothing'),
    (200, '["canary"]', NULL, 'active 1 malformed answer', 'no object'),
    (200, '{"token": "canary"}', NULL, 'active 1 malformed answer', 'no access token'),
    (200, '{"access_token": null}', NULL, 'active 1 malformed answer', 'one that is null'),
    (200, '{"access_token": 7}', NULL, 'active 1 malformed answer', 'a number'),
    (200, '{"access_token": ""}', NULL, 'active 1 malformed answer', 'an empty one'),
    (200, '{"access_token": "canary\n"}', NULL, 'active 1 malformed answer', 'one with a line break'),
    (200, '{"access_token": "canary\u0000"}', NULL, 'active 1 malformed answer', 'one with a NUL'),
    (200, '{"access_token": "' || repeat('c', 16385) || '"}', NULL, 'active 1 malformed answer', 'one that is too long'),
    (200, repeat('[', 50000), NULL, 'active 1 malformed answer', 'JSON without a bottom'),
    (0, NULL, 'answer too large', 'active 1 answer too large', 'more than the worker takes'),
    (0, NULL, NULL, 'active 1 no answer', 'no reason'),
    (302, NULL, NULL, 'active 1 HTTP 302', 'a redirect, which is not followed'),
    (404, 'canary', NULL, 'active 1 HTTP 404', 'another server'),
    (400, '{"error": "canary"}', NULL, 'active 1 HTTP 400', 'an error in words of its own'),
    (503, '{"error": "invalid_grant"}', NULL, 'active 1 HTTP 503', 'an error that does not go with the status'),
    (408, '{"error": "invalid_grant"}', NULL, 'active 1 HTTP 408', 'another one'),
    (400, '{"error": "invalid_grant", "error_description": "canary"}', NULL, 'failed 1 invalid_grant', 'the refresh token is not good'),
    (401, '{"error": "invalid_client"}', NULL, 'failed 1 invalid_client', 'the client is not known'),
    (400, '{"error": ["invalid_grant"]}', NULL, 'active 1 HTTP 400', 'an error that is no text')
) AS t (status, body, error, wanted, what);
SELECT is(pg_temp.opened(pg_temp.c('fly')), 'canary-access-2 canary-refresh-1', 'the tokens are those from before');
SELECT is(pg_temp.next_answer(400, '{"error": "invalid_grant"}'), 'failed 1 invalid_grant', 'a refusal ends it');
SELECT matches(pg_temp.alert('refresh', 'fly'), 'credential for provider "fly" has ended \(invalid_grant\): store a new one$', 'and alerts at once');
SELECT is(pg_temp.plan(90000), 0::bigint, 'nothing is sent any more');
SELECT is_empty($$SELECT FROM a67_internal.oauth_credential c WHERE last_error LIKE '%canary%'$$, 'nothing of what providers wrote is kept');

-- On demand, after a failure
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(a67.credential_refresh(credential_id::text) ->> 'status', 'active', 'ann asks for another try') FROM a67.credential WHERE provider = 'fly';
SELECT is(pg_temp.status(), '202', 'which is accepted');
RESET ROLE;
SELECT is(pg_temp.plan(1), 1::bigint, 'and made');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT lives_ok($$SELECT a67.credential_refresh(credential_id::text) FROM a67.credential WHERE provider = 'fly'$$, 'asking again while it is under way');
RESET ROLE;
SELECT is(pg_temp.plan(2), 0::bigint, 'sends no second one');
SELECT is(pg_temp.answer('fly', 3, 200, '{"access_token": "canary-access-3", "refresh_token": "", "expires_in": "3600", "scope": 5, "token_type": {}}'), 'active 0',
    'an answer with a number as a text and an empty refresh token');
SELECT is(pg_temp.opened(pg_temp.c('fly')), 'canary-access-3 canary-refresh-1', 'is good enough');
SELECT is((pg_temp.c('fly')).expires_at, pg_temp.at(3603), 'number and all');
SELECT is(pg_temp.alert('refresh', 'fly'), NULL, 'the alert is resolved');

-- Clients that say who they are in the body
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT pg_temp.store('post', client_auth => 'post', access_token => NULL), pg_temp.store('public', client_secret => NULL, access_token => NULL) \g /dev/null
RESET ROLE;
SELECT is(pg_temp.plan(0), 2::bigint, 'without an access token one is asked for at once');
SELECT is(r.body, 'grant_type=refresh_token&refresh_token=canary-refresh-0&client_id=my+client&client_secret=se+cret', 'id and secret in the body')
FROM pg_temp.last('post') r;
SELECT is(r.body, 'grant_type=refresh_token&refresh_token=canary-refresh-0&client_id=my+client', 'a public client has no secret') FROM pg_temp.last('public') r;
SELECT is(cardinality(r.headers), 2, 'and no header for it') FROM pg_temp.last('public') r;
SELECT is(a67_internal._form('a', 'x&y=z%+ä~*-._', 'b', NULL, 'c', ''), 'a=x%26y%3Dz%25%2B%C3%A4%7E*-._&c=', 'forms are encoded');

-- Tokens that nothing renews
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT a67.credential_set('static', access_token => 'canary-static', expires_in => 1000), a67.credential_set('eternal', access_token => 'canary-eternal') \g /dev/null
SELECT throws_ok($$SELECT a67.credential_refresh(credential_id::text) FROM a67.credential WHERE provider = 'static'$$, 'PT409', NULL, 'cannot be refreshed');
SELECT is(next_attempt_at, NULL, 'one without an end is left alone') FROM a67.credential WHERE provider = 'eternal';
RESET ROLE;
UPDATE a67_internal.oauth_credential SET next_attempt_at = 'infinity' WHERE provider IN ('post', 'public', 'fly');
SELECT is(pg_temp.plan(701), 0::bigint, 'nothing is sent for them');
SELECT matches(pg_temp.alert('refresh', 'static'), '^warning credential for provider "static" expires at .* UTC and has no refresh token: store a new one$', 'a warning before the end');
SELECT pg_temp.plan(1001) \g /dev/null
SELECT is((c.status, c.last_error)::text, '(failed,expired)', 'then it has ended') FROM pg_temp.c('static') c;
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT a67.credential_set('static', access_token => 'canary-static') \g /dev/null
RESET ROLE;
SELECT is((pg_temp.c('static')).status, 'active', 'a new one is stored');
SELECT is(pg_temp.alert('refresh', 'static'), NULL, 'which resolves the alert');

-- Secrets that do not open leave the others alone
UPDATE a67_internal.oauth_credential SET refresh_token_sealed = access_token_sealed, next_attempt_at = '-infinity' WHERE provider = 'fly';
UPDATE a67_internal.oauth_credential SET next_attempt_at = '-infinity', under_way = false WHERE provider = 'post';
SELECT is(pg_temp.plan(0), 1::bigint, 'one request of two');
SELECT is((c.status, c.last_error)::text, '(failed,"secrets do not open")', 'the damaged one says so') FROM pg_temp.c('fly') c;

-- Use
SELECT is(a67_internal._oauth_access_token(user_id, 'eternal', NULL), 'canary-eternal', 'a token is handed out') FROM person WHERE name = 'ann';
SELECT is(pg_temp.last_audit(), 'credential.open ok', 'which is noted');
SELECT throws_ok($$SELECT a67_internal._oauth_access_token(user_id, 'eternal', NULL) FROM person WHERE name = 'bob'$$, 'PT404', NULL, 'for its owner only');
SELECT throws_ok($$SELECT a67_internal._oauth_access_token(user_id, 'post', NULL) FROM person WHERE name = 'ann'$$, 'PT503', NULL, 'there may be none yet');

-- Revocation
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT pg_temp.store('gone') \g /dev/null
SELECT is(a67.credential_revoke(credential_id::text) ->> 'status', 'revoked', 'a provider without an endpoint for it: erased at once') FROM a67.credential WHERE provider = 'gone';
SELECT is(pg_temp.status(), '202', 'is accepted');
SELECT pg_temp.store('told', revocation_url => 'https://id.example.com/revoke') \g /dev/null
SELECT is(a67.credential_revoke(credential_id::text) ->> 'status', 'revoking', 'with one: revoked there first') FROM a67.credential WHERE provider = 'told';
SELECT is(a67.credential_revoke(credential_id::text) ->> 'status', 'revoking', 'twice is once') FROM a67.credential WHERE provider = 'told';
SELECT throws_ok($$SELECT a67.credential_refresh(credential_id::text) FROM a67.credential WHERE provider = 'told'$$, 'PT409', NULL, 'it is not refreshed any more');
RESET ROLE;
SELECT is(pg_temp.opened(pg_temp.c('gone')), '', 'no secret is left of the first');
UPDATE a67_internal.oauth_credential SET next_attempt_at = 'infinity' WHERE provider NOT IN ('told');
SELECT is(pg_temp.plan(0), 1::bigint, 'one request');
SELECT is(r.url || ' ' || r.body, 'https://id.example.com/revoke token=canary-refresh-0&token_type_hint=refresh_token', 'first the refresh token') FROM pg_temp.last('told') r;
SELECT is(pg_temp.answer('told', 1, 200), 'revoking 0', 'which is done');
SELECT pg_temp.plan(1) \g /dev/null
SELECT is((pg_temp.last('told')).body, 'token=canary-access-0&token_type_hint=access_token', 'then the access token');
SELECT is(pg_temp.answer('told', 2, 503), 'revoking 1 HTTP 503', 'the provider has other things to do');
SELECT is(pg_temp.plan(2), 0::bigint, 'after a pause');
SELECT pg_temp.plan(4) \g /dev/null
SELECT is(pg_temp.answer('told', 5, 400, '{"error": "unsupported_token_type"}'), 'revoked 1', 'one that cannot revoke access tokens need not');
SELECT is(pg_temp.opened(pg_temp.c('told')), '', 'no secret is left');
SELECT is(pg_temp.alert('revoke', 'told'), NULL, 'nobody is alerted');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT pg_temp.store('deaf', revocation_url => 'https://id.example.com/revoke') \g /dev/null
SELECT a67.credential_revoke(credential_id::text) FROM a67.credential WHERE provider = 'deaf' \g /dev/null
RESET ROLE;
SELECT is((SELECT string_agg(pg_temp.plan(n * 1000) || pg_temp.answer('deaf', n * 1000 + 1, 0, NULL, 'connection refused'), '; ') FROM generate_series(1, 5) n),
    '1revoking 1 connection refused; 1revoking 2 connection refused; 1revoking 3 connection refused; 1revoking 4 connection refused; 1revoked 4 connection refused',
    'five tries');
SELECT is(pg_temp.opened(pg_temp.c('deaf')), '', 'then the secrets go all the same');
SELECT matches(pg_temp.alert('revoke', 'deaf'), '^warning credential for provider "deaf" was erased, but .* \(connection refused\): revoke it there$', 'with an alert');
-- In the middle of a refresh, and next to a new one
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT pg_temp.store('race', access_token => NULL, revocation_url => 'https://id.example.com/revoke') \g /dev/null
RESET ROLE;
SELECT pg_temp.plan(0) \g /dev/null
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT a67.credential_revoke(credential_id::text) FROM a67.credential WHERE provider = 'race' \g /dev/null
RESET ROLE;
SELECT is(pg_temp.plan(1), 0::bigint, 'a refresh under way is waited for');
SELECT is(pg_temp.answer('race', 2, 200, '{"access_token": "canary-new-a", "refresh_token": "canary-new-r"}'), 'revoking 0', 'its answer is stored');
SELECT pg_temp.plan(2) \g /dev/null
SELECT is((pg_temp.last('race')).body, 'token=canary-new-r&token_type_hint=refresh_token', 'to be revoked');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT pg_temp.store('race') \g /dev/null
SELECT is(pg_temp.status(), '201', 'a new one is another one');
RESET ROLE;
SELECT is((SELECT string_agg(status, ' ' ORDER BY status) FROM a67_internal.oauth_credential WHERE provider = 'race'), 'active revoking', 'beside the one that ends');
UPDATE a67_internal.oauth_credential SET next_attempt_at = 'infinity';
SELECT pg_temp.plan(86400 * 8) \g /dev/null
SELECT is_empty($$SELECT FROM a67_internal.oauth_credential WHERE status = 'revoked'$$, 'revoked ones are forgotten after a week');

-- While the vault is sealed nothing is sent, nothing stored, and nothing lost of what is due
CREATE OR REPLACE FUNCTION a67_internal._vault_is_sealed() RETURNS boolean LANGUAGE sql AS 'SELECT true';
UPDATE a67_internal.oauth_credential SET next_attempt_at = '-infinity', under_way = false WHERE provider = 'public';
SELECT is(pg_temp.plan(0), 0::bigint, 'sealed: nothing is sent');
CREATE OR REPLACE FUNCTION a67_internal._vault_is_sealed() RETURNS boolean LANGUAGE sql AS 'SELECT false';
SELECT is(pg_temp.plan(0), 1::bigint, 'open again: it is');
CREATE OR REPLACE FUNCTION a67_internal._vault_is_sealed() RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT is(pg_temp.answer('public', 1, 200, '{"access_token": "canary-sealed"}'), 'active 0', 'an answer to a sealed vault');
SELECT ok(under_way, 'is not taken') FROM pg_temp.c('public');
CREATE OR REPLACE FUNCTION a67_internal._vault_is_sealed() RETURNS boolean LANGUAGE sql AS 'SELECT false';
SELECT is(pg_temp.plan(12), 1::bigint, 'the request follows again');
SELECT is(a67_internal._oauth_record(now(), ARRAY['other', 'oauth refresh ' || gen_random_uuid() || ' 1'], '{200,200}', '{x,x}', '{NULL,NULL}'), 0,
    'answers to nothing change nothing');

-- A clock that was a year ahead, and is set back: what it wrote is nothing to rely on
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT pg_temp.store('ahead') \g /dev/null
RESET ROLE;
UPDATE a67_internal.oauth_credential SET updated_at = now() + interval '1 year', refreshed_at = now() + interval '1 year',
    expires_at = now() + interval '1 year 1 hour', next_attempt_at = now() + interval '1 year 48 min' WHERE provider = 'ahead';
SELECT lives_ok($$SELECT a67_internal._clock_back(now())$$, 'the clock was set back');
SELECT ok(next_attempt_at = now() AND updated_at = now() AND expires_at = now() + interval '1 hour', 'a token does not outlive its life') FROM pg_temp.c('ahead');
SELECT is(pg_temp.plan(0), 1::bigint, 'and is refreshed at once');
DELETE FROM a67_internal.oauth_credential WHERE provider = 'ahead';

-- Nodes
SELECT pg_temp.act_as('ann') \g /dev/null
CREATE TEMP TABLE token ON COMMIT DROP AS SELECT a67.join_token_create() ->> 'token' AS token;
RESET ROLE;
SELECT a67.node_register(token, 'http://127.0.0.1:7201', repeat('x', 43), '{"cpu_cores": 1, "memory_gb": 1, "disk_gb": 1}', name => 'ann-node') FROM token \g /dev/null
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT a67.credential_set('eternal', access_token => 'canary-node', node => 'ann-node') \g /dev/null
SELECT is(pg_temp.status(), '201', 'one of a node stands beside the one of all');
SELECT is((SELECT array_agg(node ORDER BY node) FROM a67.credential WHERE provider = 'eternal'), '{ann-node,NULL}', 'and names it');
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT throws_ok($$SELECT a67.credential_set('eternal', access_token => 'x', node => 'ann-node')$$, 'PT404', NULL, 'not of a node of others');
RESET ROLE;
SELECT is(a67_internal._oauth_access_token(p.user_id, 'eternal', n.node_id), 'canary-node', 'the node''s own goes first') FROM person p, a67_internal.node n WHERE p.name = 'ann' AND n.name = 'ann-node';
SELECT is(a67_internal._oauth_access_token(p.user_id, 'eternal', gen_random_uuid()), 'canary-eternal', 'other nodes have the one of all') FROM person p WHERE p.name = 'ann';
UPDATE a67_internal.node SET desired_state = 'removed' WHERE name = 'ann-node';
SELECT is((SELECT string_agg(status, ' ' ORDER BY node_id NULLS LAST) FROM a67_internal.oauth_credential WHERE provider = 'eternal'), 'revoked active', 'it ends with its node');

SELECT * FROM finish();
ROLLBACK;
