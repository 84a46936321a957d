\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(119);
SELECT a67_internal._bootstrap() \g /dev/null

-- A client: it keeps the last answer, remembers values by name, and calls with the claims of a token.
CREATE TEMP TABLE it (what text PRIMARY KEY, value text);
GRANT ALL ON it TO PUBLIC;
CREATE FUNCTION pg_temp.it(what text) RETURNS text LANGUAGE sql AS 'SELECT value FROM it WHERE it.what = $1';
CREATE FUNCTION pg_temp.keep(what text, value text) RETURNS text LANGUAGE sql AS
    'INSERT INTO it VALUES ($1, $2) ON CONFLICT ON CONSTRAINT it_pkey DO UPDATE SET value = excluded.value RETURNING value';
CREATE FUNCTION pg_temp.claims(token text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT convert_from(decode(rpad(p, (length(p) + 3) / 4 * 4, '='), 'base64'), 'UTF8')::jsonb
    FROM translate(split_part(token, '.', 2), '-_', '+/') p
$$;
CREATE FUNCTION pg_temp.act(token text) RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', pg_temp.claims(token)::text, true) || set_config('role', pg_temp.claims(token) ->> 'role', true)
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
-- One login: what came of it, in a word.
CREATE FUNCTION pg_temp.login(email text, password text, otp text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer jsonb := a67.auth_login(email, password, otp => otp);
BEGIN
    PERFORM pg_temp.keep('access', answer ->> 'access_token'), pg_temp.keep('refresh', answer ->> 'refresh_token');
    RETURN pg_temp.status() || ' ' || coalesce(answer ->> 'message', 'in');
END
$$;
CREATE FUNCTION pg_temp.refresh(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer jsonb := a67.auth_refresh(token);
BEGIN
    PERFORM pg_temp.keep('access', answer ->> 'access_token'), pg_temp.keep('refresh', answer ->> 'refresh_token');
    RETURN pg_temp.status() || ' ' || coalesce(answer ->> 'message', 'in');
END
$$;
CREATE FUNCTION pg_temp.last_audit() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', action, outcome, subject) FROM a67_internal.audit ORDER BY audit_id DESC LIMIT 1
$$;
CREATE FUNCTION pg_temp.user_id(email text) RETURNS uuid LANGUAGE sql AS 'SELECT user_id FROM a67_internal."user" u WHERE u.email = $1';
CREATE FUNCTION pg_temp.credential(email text) RETURNS a67_internal.credential LANGUAGE sql AS
    'SELECT c FROM a67_internal.credential c WHERE c.user_id = pg_temp.user_id($1)';

-- Registration
SELECT throws_ok($$SELECT a67.auth_register('ann', 'correct horse')$$, '22023', 'invalid e-mail address', 'an address that is none');
SELECT throws_ok($$SELECT a67.auth_register(NULL, 'correct horse')$$, '22023', NULL, 'no address');
SELECT throws_ok($$SELECT a67.auth_register('ann@example.com', 'short12')$$, '22023', NULL, 'a short password');
SELECT throws_ok($$SELECT a67.auth_register('ann@example.com', repeat('ä', 513))$$, '22023', NULL, 'a password of more than 1024 bytes');
SELECT throws_ok($$SELECT a67.auth_register('ann@example.com')$$, '22023', NULL, 'no password');
SELECT throws_ok($$SELECT a67.auth_register('ann@example.com', 'correct horse', 'correct horse')$$, '22023',
    'exactly one of "password" and "password_hash" is needed', 'both kinds of password');
SELECT pg_temp.keep('answer', a67.auth_register(' Ann@Example.com ', 'correct horse')::text) \g /dev/null
SELECT is(pg_temp.status(), '201', 'registered');
SELECT is((pg_temp.it('answer')::jsonb ->> 'user_id')::uuid, pg_temp.user_id('ann@example.com'), 'the address is folded');
SELECT is(pg_temp.claims(pg_temp.it('answer')::jsonb ->> 'access_token') - '{sid,jti,iat,exp}'::text[],
    jsonb_build_object('sub', pg_temp.user_id('ann@example.com'), 'role', 'a67_user', 'aud', 'a67'), 'and is in: an access token');
SELECT is((c ->> 'exp')::bigint - (c ->> 'iat')::bigint, 3600::bigint, 'for an hour')
FROM pg_temp.claims(pg_temp.it('answer')::jsonb ->> 'access_token') c;
SELECT is(c ->> 'aud', 'a67-refresh', 'a refresh token is for nothing else')
FROM pg_temp.claims(pg_temp.it('answer')::jsonb ->> 'refresh_token') c;
SELECT ok((c ->> 'exp')::bigint - (c ->> 'iat')::bigint BETWEEN 7 * 86400 - 60 AND 7 * 86400, 'for seven days')
FROM pg_temp.claims(pg_temp.it('answer')::jsonb ->> 'refresh_token') c;
SELECT is(a67_internal._jwt_verify(pg_temp.it('answer')::jsonb ->> 'refresh_token', 'a67'), NULL, 'it does not pass for an access token');
SELECT throws_ok($$SELECT a67.auth_register('ann@example.com', 'correct horse')$$, '23505', NULL, 'an address twice');
SELECT throws_ok($$SELECT a67.auth_register('ANN@example.com', 'correct horse')$$, '23505', NULL, 'in other letters');
SELECT matches((pg_temp.credential('ann@example.com')).password_hash, '^\$argon2id\$', 'the password is hashed');
SET LOCAL a67.registration = off;
SELECT throws_ok($$SELECT a67.auth_register('eve@example.com', 'correct horse')$$, '42501', 'registration is closed', 'registration can be closed');
RESET a67.registration;
SELECT pg_temp.keep('answer', a67.auth_register('bob@example.com', password_hash => repeat('0f', 32))::text) \g /dev/null
SELECT isnt((pg_temp.credential('bob@example.com')).password_hash, repeat('0f', 32), 'a client''s own hash is hashed again');
SELECT is(a67.auth_login('bob@example.com', password_hash => repeat('0f', 32)) ? 'access_token', true, 'and good to log in');
SELECT is(pg_temp.login('bob@example.com', (pg_temp.credential('bob@example.com')).password_hash), '401 wrong e-mail address or password',
    'what is stored is not');

-- Login
SELECT is(pg_temp.login('ann@example.com', 'correct horse'), '200 in', 'the right password');
SELECT is(pg_temp.login(E'\tANN@example.COM ', 'correct horse'), '401 wrong e-mail address or password', 'only spaces are forgiven');
SELECT is(pg_temp.login(' ANN@example.COM', 'correct horse'), '200 in', 'the address in any letters');
SELECT is(pg_temp.last_audit(), 'auth.login ok', 'on record');
SELECT is(pg_temp.login('ann@example.com', 'correct horsf'), '401 wrong e-mail address or password', 'a wrong password');
SELECT is(pg_temp.last_audit(), 'auth.login refused password', 'on record');
SELECT is(pg_temp.login('nobody@example.com', 'correct horse'), '401 wrong e-mail address or password', 'an unknown user: the same answer');
SELECT is(pg_temp.last_audit(), 'auth.login refused password', 'and the same record');
SELECT throws_ok($$SELECT a67.auth_login(NULL, 'x')$$, '22023', 'field "email" is missing', 'no address');
SELECT throws_ok($$SELECT a67.auth_login('ann@example.com')$$, '22023', NULL, 'no password');
SELECT a67.user_create('carl@example.com') \g /dev/null
SELECT is(pg_temp.login('carl@example.com', 'correct horse'), '401 wrong e-mail address or password', 'a user without a password');
UPDATE a67_internal.credential SET password_hash = '$argon2id$v=19$m=8192,t=1,p=1$MF/gxxzJ+wm04CxhYeIGiA$htwp55dLjBOMaWG+VBTRvxer+6rPxuBassWO4x1gqX8'
WHERE user_id = pg_temp.user_id('bob@example.com');
SELECT is(pg_temp.login('bob@example.com', 'correct horse battery'), '200 in', 'a hash of other settings is good');
SELECT ok(NOT a67_internal._password_outdated((pg_temp.credential('bob@example.com')).password_hash), 'and made anew on the way');
SELECT is(pg_temp.login('bob@example.com', 'correct horse battery'), '200 in', 'from the same password');

-- Lockout
SELECT is(array_agg(DISTINCT pg_temp.login('bob@example.com', 'wrong ' || i)), '{401 wrong e-mail address or password}', 'wrong four times')
FROM generate_series(1, 4) i;
SELECT is((pg_temp.credential('bob@example.com')).locked_until, '-infinity', 'still open');
SELECT is(pg_temp.login('bob@example.com', 'wrong 5'), '401 wrong e-mail address or password', 'a fifth time');
SELECT ok(c.locked_until - clock_timestamp() BETWEEN '0.01 seconds' AND '1 second', 'locks the account for a second')
FROM pg_temp.credential('bob@example.com') c;
UPDATE a67_internal.credential SET locked_until = clock_timestamp() + interval '1 minute' WHERE user_id = pg_temp.user_id('bob@example.com');
SELECT is(pg_temp.login('bob@example.com', 'correct horse battery'), '401 wrong e-mail address or password', 'where the right password is wrong too');
SELECT is((pg_temp.credential('bob@example.com')).failures, 5, 'and does not count');
UPDATE a67_internal.credential SET locked_until = clock_timestamp() - interval '1 second' WHERE user_id = pg_temp.user_id('bob@example.com');
SELECT pg_temp.login('bob@example.com', 'wrong 6') \g /dev/null
SELECT ok(c.locked_until - clock_timestamp() BETWEEN '1 second' AND '2 seconds', 'the next time it is twice as long')
FROM pg_temp.credential('bob@example.com') c;
UPDATE a67_internal.credential SET locked_until = '-infinity', failures = 1000 WHERE user_id = pg_temp.user_id('bob@example.com');
SELECT pg_temp.login('bob@example.com', 'wrong 7') \g /dev/null
SELECT ok(c.locked_until - clock_timestamp() BETWEEN '14 minutes' AND '15 minutes', 'but never more than 15 minutes')
FROM pg_temp.credential('bob@example.com') c;
UPDATE a67_internal.credential SET locked_until = clock_timestamp() - interval '1 second' WHERE user_id = pg_temp.user_id('bob@example.com');
SELECT is(pg_temp.login('bob@example.com', 'correct horse battery'), '200 in', 'once it is over, the right password is right');
SELECT is((c.failures, c.locked_until)::text, '(0,-infinity)', 'and all is forgotten') FROM pg_temp.credential('bob@example.com') c;

-- Sessions: rotation, reuse, logout
SELECT pg_temp.login('ann@example.com', 'correct horse'), pg_temp.keep('first', pg_temp.it('refresh')) \g /dev/null
SELECT is(pg_temp.refresh(pg_temp.it('first')), '200 in', 'a refresh token gives new tokens');
SELECT isnt(pg_temp.it('refresh'), pg_temp.it('first'), 'another one with them');
SELECT pg_temp.keep('second', pg_temp.it('refresh')), pg_temp.keep('second access', pg_temp.it('access')) \g /dev/null
SELECT is(pg_temp.refresh(pg_temp.it('second')), '200 in', 'and again');
SELECT pg_temp.keep('third', pg_temp.it('refresh')), pg_temp.act(pg_temp.it('second access')) \g /dev/null
SELECT lives_ok('SELECT a67.request_check()', 'earlier access tokens live out their hour');
RESET ROLE;
SELECT is(pg_temp.refresh(pg_temp.it('first')), '401 refresh token is invalid or expired', 'a spent refresh token');
SELECT is(pg_temp.last_audit(), 'auth.refresh refused reuse', 'on record');
SELECT is(a.severity, 'critical', 'with an alert for its user') FROM a67_internal.alert a WHERE a.owner_id = pg_temp.user_id('ann@example.com');
SELECT is(pg_temp.refresh(pg_temp.it('third')), '401 refresh token is invalid or expired', 'ends the newest one of its family too');
SELECT pg_temp.act(pg_temp.it('second access')) \g /dev/null
SELECT throws_ok('SELECT a67.request_check()', 'PT401', 'session has ended', 'and every access token');
RESET ROLE;
SELECT is(array_agg(pg_temp.refresh(t)), array_fill('401 refresh token is invalid or expired'::text, ARRAY[4]), 'what is no refresh token')
FROM unnest(ARRAY['', 'a.b.c', pg_temp.it('second access'), pg_temp.it('first') || 'x']) t;
SELECT pg_temp.login('ann@example.com', 'correct horse') \g /dev/null
UPDATE a67_internal.session SET expires_at = now() WHERE session_id = (pg_temp.claims(pg_temp.it('access')) ->> 'sid')::uuid;
SELECT is(pg_temp.refresh(pg_temp.it('refresh')), '401 refresh token is invalid or expired', 'a session past its time');
SELECT pg_temp.login('ann@example.com', 'correct horse'), pg_temp.act(pg_temp.it('access')) \g /dev/null
SELECT is(a67.auth_me() - 'created_at', jsonb_build_object('user_id', pg_temp.claims(pg_temp.it('access')) ->> 'sub', 'email', 'ann@example.com',
    'role', 'a67_user', 'mfa', false), 'who am I');
SELECT a67.auth_logout() \g /dev/null
SELECT throws_ok('SELECT a67.request_check()', 'PT401', 'session has ended', 'after logout the token is of no use');
RESET ROLE;
SELECT is(pg_temp.refresh(pg_temp.it('refresh')), '401 refresh token is invalid or expired', 'nor is its refresh token');
SELECT pg_temp.login('ann@example.com', 'correct horse') \g /dev/null
UPDATE a67_internal."user" SET role = 'a67_admin' WHERE email = 'ann@example.com';
SELECT pg_temp.act(pg_temp.it('access')) \g /dev/null
SELECT throws_ok('SELECT a67.request_check()', 'PT401', NULL, 'a role that the user has no more');
RESET ROLE;
UPDATE a67_internal."user" SET role = 'a67_user' WHERE email = 'ann@example.com';
DO $$ BEGIN FOR i IN 1..103 LOOP PERFORM a67_internal._session_start(pg_temp.user_id('ann@example.com')); END LOOP; END $$;
SELECT is(count(*), 100::bigint, 'a user has at most 100 sessions') FROM a67_internal.session WHERE user_id = pg_temp.user_id('ann@example.com');

-- Password change
SELECT pg_temp.login('ann@example.com', 'correct horse'), pg_temp.keep('other', pg_temp.it('access')) \g /dev/null
SELECT pg_temp.login('ann@example.com', 'correct horse'), pg_temp.act(pg_temp.it('access')) \g /dev/null
SELECT is(a67.auth_password_change('wrong horse', 'battery staple') ->> 'message', 'wrong password', 'a change needs the old password');
SELECT is(pg_temp.status(), '401', 'refused');
SELECT throws_ok($$SELECT a67.auth_password_change('correct horse', 'short12')$$, '22023', NULL, 'and a new one that is long enough');
SELECT is(a67.auth_password_change('correct horse', 'battery staple') ->> 'email', 'ann@example.com', 'changed');
SELECT lives_ok('SELECT a67.request_check()', 'this session goes on');
SELECT pg_temp.act(pg_temp.it('other')) \g /dev/null
SELECT throws_ok('SELECT a67.request_check()', 'PT401', NULL, 'every other one has ended');
RESET ROLE;
SELECT is(pg_temp.login('ann@example.com', 'correct horse'), '401 wrong e-mail address or password', 'the old password is wrong now');
SELECT is(pg_temp.login('ann@example.com', 'battery staple'), '200 in', 'the new one right');

-- A second factor
CREATE FUNCTION pg_temp.seed() RETURNS bytea LANGUAGE sql AS
    $$SELECT a67_internal._vault_open(c.totp_sealed, 'credential.totp_sealed:' || c.user_id) FROM pg_temp.credential('ann@example.com') c$$;
-- The code of a step from now. The clock may pass into the next step before it is used: then it counts as one earlier.
CREATE FUNCTION pg_temp.code(step_offset integer, now timestamptz DEFAULT clock_timestamp()) RETURNS text LANGUAGE sql AS
    $$SELECT a67_internal._totp(pg_temp.seed(), floor(extract(epoch FROM code.now) / 30)::bigint + step_offset)$$;
-- Whether that code is taken when the clock stands there.
CREATE FUNCTION pg_temp.takes(step_offset integer, now timestamptz) RETURNS boolean LANGUAGE sql AS
    $$SELECT a67_internal._otp_check(pg_temp.credential('ann@example.com'), pg_temp.code(step_offset, takes.now), takes.now)$$;
SELECT pg_temp.act(pg_temp.it('access')) \g /dev/null
SELECT throws_ok($$SELECT a67.auth_mfa_confirm('000000')$$, '22023', 'there is no second factor to confirm', 'nothing to confirm');
SELECT is(a67.auth_mfa_enroll('wrong horse') ->> 'message', 'wrong password', 'enrolling needs the password');
SELECT pg_temp.keep('enrolled', a67.auth_mfa_enroll('battery staple')::text), pg_temp.status() \g /dev/null
RESET ROLE;
SELECT is(pg_temp.it('enrolled')::jsonb ->> 'secret', a67_internal._base32(pg_temp.seed()), 'the seed, in base32');
SELECT is(pg_temp.it('enrolled')::jsonb ->> 'otpauth_uri', format(
    'otpauth://totp/Automator67:ann%%40example.com?secret=%s&issuer=Automator67&algorithm=SHA1&digits=6&period=30',
    a67_internal._base32(pg_temp.seed())), 'and as a URI for the authenticator');
SELECT is(pg_temp.login('ann@example.com', 'battery staple'), '200 in', 'not asked for before it is confirmed');
SELECT pg_temp.keep('code', pg_temp.code(0)) \g /dev/null
SELECT pg_temp.act(pg_temp.it('access')) \g /dev/null
SELECT is(a67.auth_mfa_confirm(w) ->> 'message', 'wrong one-time password', 'a code that is none: ' || coalesce(w, 'NULL'))
FROM unnest(ARRAY['12345', NULL]) w;
SELECT pg_temp.keep('codes', a67.auth_mfa_confirm(pg_temp.it('code'))::text), pg_temp.status() \g /dev/null
RESET ROLE;
SELECT matches(pg_temp.it('codes')::jsonb ->> 'recovery_codes', '^\[("[A-Z2-7]{4}(-[A-Z2-7]{4}){3}"(, )?){10}\]$',
    'confirmed by a code: ten recovery codes');
SELECT is(pg_temp.login('ann@example.com', 'battery staple'), '401 mfa_required', 'now a login asks for a code');
SELECT is(pg_temp.login('ann@example.com', 'battery staple', pg_temp.it('code')), '401 wrong one-time password', 'a code is good once');
SELECT is(pg_temp.login('ann@example.com', 'wrong horse', pg_temp.code(1)), '401 wrong e-mail address or password', 'nor is a wrong password');
SELECT is(pg_temp.login('ann@example.com', 'battery staple', pg_temp.code(1)), '200 in', 'the next one is, even early');
SELECT is((c.failures, c.locked_until)::text, '(0,-infinity)', 'which ends the count') FROM pg_temp.credential('ann@example.com') c;
SELECT is(pg_temp.takes(step, '2100-01-01'), taken, 'step ' || step) FROM (VALUES (-2, false), (2, false), (-1, true), (-1, false), (1, true), (0, false),
    (1, false)) AS t (step, taken);
SELECT is(pg_temp.takes(step, '2100-01-01 00:01:00'), taken, 'a minute later, step ' || step) FROM (VALUES (-1, false), (0, true), (1, true)) AS t (step, taken);
SELECT ok(NOT a67_internal._otp_check(pg_temp.credential('ann@example.com'), code), 'a code that is none: ' || coalesce(code, 'NULL'))
FROM unnest(ARRAY[NULL, '', '12345', '1234567', 'abcdef', 'AAAAAAAAAAAAAAAA']) code;
SELECT pg_temp.keep('recovery', pg_temp.it('codes')::jsonb -> 'recovery_codes' ->> 3) \g /dev/null
SELECT is(pg_temp.login('ann@example.com', 'battery staple', lower(pg_temp.it('recovery'))), '200 in', 'a recovery code stands in');
SELECT is(pg_temp.login('ann@example.com', 'battery staple', pg_temp.it('recovery')), '401 wrong one-time password', 'once');
SELECT is_empty($$SELECT FROM a67_internal.recovery_code r, jsonb_array_elements_text(pg_temp.it('codes')::jsonb -> 'recovery_codes') c
    WHERE strpos(r::text, c) > 0 OR strpos(r::text, replace(c, '-', '')) > 0$$, 'and is stored as a hash');
SELECT pg_temp.act(pg_temp.it('other')) \g /dev/null
SELECT throws_ok($$SELECT a67.auth_mfa_enroll('battery staple')$$, '23505', 'a second factor is active already', 'not twice');
SELECT is(a67.auth_mfa_disable('battery staple', pg_temp.it('recovery')) ->> 'message', 'wrong password or one-time password',
    'taking it away needs a good code');
SELECT is(a67.auth_mfa_disable('battery staple', pg_temp.it('codes')::jsonb -> 'recovery_codes' ->> 4) -> 'mfa', 'false', 'taken away');
SELECT throws_ok($$SELECT a67.auth_mfa_disable('battery staple', '000000')$$, '22023', 'no second factor is active', 'it is gone');
RESET ROLE;
SELECT is(pg_temp.status() || pg_temp.login('ann@example.com', 'battery staple'), '401200 in', 'and a password is enough again');

-- Signing keys
SELECT pg_temp.keep('old', pg_temp.it('access')), pg_temp.keep('kid', a67.signing_key_rotate()) \g /dev/null
SELECT pg_temp.login('ann@example.com', 'battery staple') \g /dev/null
SELECT is((convert_from(decode(rpad(h, (length(h) + 3) / 4 * 4, '='), 'base64'), 'UTF8')::jsonb) ->> 'kid', pg_temp.it('kid'), 'a new key signs')
FROM translate(split_part(pg_temp.it('access'), '.', 1), '-_', '+/') h;
SELECT isnt(a67_internal._jwt_verify(pg_temp.it('access'), 'a67'), NULL, 'and verifies');
SELECT isnt(a67_internal._jwt_verify(pg_temp.it('old'), 'a67'), NULL, 'as the old one does');
SELECT is(pg_temp.last_audit(), 'auth.login ok', 'on record');
SELECT set_eq($$SELECT k ->> 'kid' FROM jsonb_array_elements(a67_internal._jwks() -> 'keys') k$$,
    $$SELECT kid FROM a67_internal.signing_key WHERE kind = 'hs256'$$, 'PostgREST gets both');
SELECT a67.signing_key_rotate() FROM generate_series(1, 5) \g /dev/null
SELECT isnt(a67_internal._jwt_verify(pg_temp.it('old'), 'a67'), NULL, 'still, five rotations later');
SELECT throws_ok('SELECT a67.signing_key_rotate()', '53000', NULL, 'one more would drop a key that is needed');
UPDATE a67_internal.signing_key SET retired_at = now() WHERE retired_at IS NOT NULL;
SELECT a67.signing_key_rotate() \g /dev/null
SELECT is(a67_internal._jwt_verify(pg_temp.it('old'), 'a67'), NULL, 'a key past its time verifies nothing');

-- The audit trail
SELECT throws_ok('UPDATE a67_internal.audit SET outcome = ''ok''', '42501', 'the audit trail is append-only', 'the owner changes nothing');
SELECT throws_ok('DELETE FROM a67_internal.audit', '42501', NULL, 'nor deletes');
SELECT throws_ok('TRUNCATE a67_internal.audit', '42501', NULL, 'nor empties it');
SELECT set_eq('SELECT DISTINCT action FROM a67.audit WHERE actor_id IN (pg_temp.user_id(''ann@example.com''), pg_temp.user_id(''bob@example.com''))
        AND outcome = ''refused''',
    ARRAY['auth.login', 'auth.refresh', 'auth.password_change', 'auth.mfa_enroll', 'auth.mfa_confirm', 'auth.mfa_disable'], 'every refusal is on record');
SELECT is_empty($$SELECT a FROM a67_internal.audit a, it
    WHERE it.what IN ('access', 'refresh', 'code', 'recovery', 'old', 'first') AND strpos(a::text, it.value) > 0
       OR a::text ~ '(horse|battery|staple|argon2)'$$, 'no secret stands in it');
SELECT isnt_empty($$SELECT FROM a67.audit WHERE action = 'signing_key.rotate' AND subject = pg_temp.it('kid')$$, 'acts of administrators do');

SELECT * FROM finish();
ROLLBACK;
SELECT a67_internal._bootstrap() \g /dev/null
