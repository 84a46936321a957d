\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
-- Passwords, one-time codes and tokens through SQL. Vectors are those of RFC 4226, 4648 and 6238.
BEGIN;
SELECT plan(70);

-- Passwords.
CREATE TEMP TABLE made AS SELECT a67_internal._password_hash('correct horse') AS hash;
SELECT matches(hash, '^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$', 'a hash names its cost') FROM made;
SELECT isnt(a67_internal._password_hash('correct horse'), hash, 'never the same hash twice') FROM made;
SELECT ok(a67_internal._password_check('correct horse', hash), 'the right password') FROM made;
SELECT ok(NOT a67_internal._password_check('correct horse ', hash), 'a longer one') FROM made;
SELECT ok(NOT a67_internal._password_check('correct hors', hash), 'a shorter one') FROM made;
SELECT is(a67_internal._password_check('correct horse', NULL), false, 'no hash: false, not NULL');
SELECT is(a67_internal._password_check('correct horse', text), false, format('no hash: "%s"', text))
FROM unnest('{"",!,$argon2id$,correct horse}'::text[]) WITH ORDINALITY AS t (text, ordinal) ORDER BY ordinal;
SELECT ok(NOT a67_internal._password_outdated(hash), 'a fresh hash') FROM made;
SELECT ok(a67_internal._password_outdated('!'), 'what is no hash is outdated');
SELECT is(a67_internal._password_outdated(NULL), NULL, 'NULL of NULL');

-- Made by the argon2 command with other parameters, and with these.
CREATE TEMP TABLE foreign_hash (hash text, outdated boolean);
INSERT INTO foreign_hash VALUES
    ('$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$+jQGvnLH9sd/RHpVFdneZ1pWEi8VDK30k/E/IE+o3IE', true),
    ('$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$k9ohroejZy1PN5E1SbHNPug6vB8eQAahb5SOAp6iGF4', false);
SELECT ok(a67_internal._password_check('correct horse', hash), 'right, whatever the cost') FROM foreign_hash;
SELECT ok(NOT a67_internal._password_check('battery staple', hash), 'wrong, whatever the cost') FROM foreign_hash;
SELECT is(a67_internal._password_outdated(hash), outdated, 'outdated is another cost') FROM foreign_hash;

SELECT ok(a67_internal._password_check(p, a67_internal._password_hash(p)), 'as long as allowed, and in any letters')
FROM unnest(ARRAY[repeat('x', 1024), repeat('ü', 512), ' ', E'a\tb\n']) p;
SELECT throws_ok(format('SELECT a67_internal._password_%s', call), '22023', 'invalid value for parameter "password"', call)
FROM unnest(ARRAY['hash('''')', 'hash(repeat(''x'', 1025))', 'hash(repeat(''ü'', 513))', 'check('''', NULL)',
    'check(repeat(''x'', 1025), NULL)', 'check(repeat(''x'', 1025), ''!'')']) WITH ORDINALITY AS t (call, ordinal) ORDER BY ordinal;
SELECT throws_ok('SELECT a67_internal._password_check(NULL, NULL)', '22023', NULL, 'a NULL password is no password');
SELECT is(a67_internal._password_hash(NULL), NULL, 'and has no hash');

-- Unknown users take the time of known ones: the best of five, to keep the machine's other work out of it.
CREATE FUNCTION pg_temp.cost(hash text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    best float8 := 'infinity';
BEGIN
    FOR i IN 1..5 LOOP
        began := clock_timestamp();
        PERFORM a67_internal._password_check('wrong', hash);
        best := least(best, extract(epoch FROM clock_timestamp() - began));
    END LOOP;
    RETURN best;
END $$;
SELECT ok(pg_temp.cost(NULL) > pg_temp.cost(hash) / 3, 'no hash takes as long as a hash') FROM made;
SELECT ok(pg_temp.cost('!') > pg_temp.cost(hash) / 3, 'so does what is no hash') FROM made;

SELECT results_eq($$SELECT name, boot_val, min_val, max_val, unit, context FROM pg_settings WHERE name LIKE 'a67.password%' ORDER BY name$$,
    $$VALUES ('a67.password_iterations', '2', '1', '10', NULL, 'sighup'), ('a67.password_memory', '19456', '8192', '1048576', 'kB', 'sighup')$$,
    'settings of password hashing');

-- One-time codes.
SELECT is(a67_internal._totp('12345678901234567890', at / 30, 8), code, format('RFC 6238 at %s', at))
FROM (VALUES (59, '94287082'), (1111111109, '07081804'), (1111111111, '14050471'), (1234567890, '89005924'),
    (2000000000, '69279037'), (20000000000, '65353130')) t (at, code) ORDER BY at;
SELECT is((SELECT string_agg(a67_internal._totp('12345678901234567890', step), ' ' ORDER BY step) FROM generate_series(0, 9) step),
    '755224 287082 359152 969429 338314 254676 287922 162583 399871 520489', 'RFC 4226, six digits');
SELECT throws_ok(format('SELECT a67_internal._totp(%s)', arguments), '22023', format('invalid value for parameter "%s"', parameter), arguments)
FROM (VALUES (1, $$'123456789012345', 1$$, 'secret'), (2, $$'', 1$$, 'secret'), (3, $$convert_to(repeat('x', 129), 'UTF8'), 1$$, 'secret'),
    (4, $$'12345678901234567890', -1$$, 'step'), (5, $$'12345678901234567890', 1, 5$$, 'digits'),
    (6, $$'12345678901234567890', 1, 9$$, 'digits')) t (ordinal, arguments, parameter) ORDER BY ordinal;
SELECT is((SELECT string_agg(a67_internal._base32(convert_to(left('foobar', n), 'UTF8')), ' ' ORDER BY n) FROM generate_series(0, 6) n),
    ' MY MZXQ MZXW6 MZXW6YQ MZXW6YTB MZXW6YTBOI', 'RFC 4648 base32, unpadded');
SELECT throws_ok($$SELECT a67_internal._base32(decode(repeat('00', 1025), 'hex'))$$, '22023', 'invalid value for parameter "data"', 'base32 is bounded');

-- Tokens.
SELECT a67_internal._bootstrap() \g /dev/null
CREATE FUNCTION pg_temp.token(claims jsonb, audience text DEFAULT 'a67-refresh', life_s float8 DEFAULT 60) RETURNS text LANGUAGE sql AS $$
    SELECT a67_internal._jwt_sign(jsonb_build_object('aud', audience, 'exp', floor(extract(epoch FROM clock_timestamp()) + life_s)::bigint) || claims,
        'HS256', k.kid, k.sealed)
    FROM a67_internal._current_key('hs256') k
$$;
CREATE TEMP TABLE issued AS SELECT pg_temp.token('{"sub": "11111111-1111-1111-1111-111111111111", "own": [1, {"ü": null}]}') AS token;
SELECT is(a67_internal._jwt_verify(token, 'a67-refresh') - 'exp',
    '{"aud": "a67-refresh", "sub": "11111111-1111-1111-1111-111111111111", "own": [1, {"ü": null}]}', 'a good token gives its claims') FROM issued;
SELECT is(a67_internal._jwt_verify(token, audience), NULL, format('not for audience "%s"', audience))
FROM issued, unnest('{a67,"",A67-refresh,a67-refresh2}'::text[]) WITH ORDINALITY AS t (audience, ordinal) ORDER BY ordinal;
SELECT is_empty($$SELECT i FROM issued, generate_series(1, length(token)) i
    WHERE a67_internal._jwt_verify(overlay(token PLACING CASE substr(token, i, 1) WHEN 'A' THEN 'Q' ELSE 'A' END FROM i FOR 1), 'a67-refresh') IS NOT NULL$$,
    'not with any character changed');
SELECT is_empty($$SELECT i FROM issued, generate_series(0, length(token) - 1) i WHERE a67_internal._jwt_verify(left(token, i), 'a67-refresh') IS NOT NULL$$,
    'not with any number of them missing');
SELECT is(a67_internal._jwt_verify(token || '=', 'a67-refresh'), NULL, 'not padded') FROM issued;
SELECT is(a67_internal._jwt_verify(pg_temp.token('{}', life_s => life_s), 'a67-refresh'), NULL, format('not %s s after it expired', abs(life_s)))
FROM unnest('{0,-3600}'::float8[]) WITH ORDINALITY AS t (life_s, ordinal) ORDER BY ordinal;
SELECT is(a67_internal._jwt_verify(pg_temp.token('{"exp": null}'), 'a67-refresh'), NULL, 'not without an end');
SELECT is(a67_internal._jwt_verify(pg_temp.token('{"sub": 7}'), 'a67-refresh'), NULL, 'not with a subject that is no text');
SELECT is(a67_internal._jwt_verify(a67_internal._jwt_sign('{"aud": "a67-refresh", "exp": 4000000000}', 'EdDSA', k.kid, k.sealed), 'a67-refresh'), NULL,
    'not of another algorithm') FROM a67_internal._current_key('hs256') k;
SELECT is(a67_internal._jwt_verify(NULL, 'a67-refresh'), NULL, 'NULL is no token');
SELECT is(a67_internal._jwt_verify(token, NULL), NULL, 'nor an audience') FROM issued;

-- Keys: a full ring verifies with all of them, and one that is not in it with none.
CREATE TEMP TABLE key AS
SELECT i, format('key-%s', i) AS kid, (a67_internal._key_generate('hs256', format('key-%s', i))).sealed FROM generate_series(1, 9) i;
CREATE TEMP TABLE signed AS
SELECT i, a67_internal._jwt_sign('{"aud": "a67-refresh", "exp": 4000000000}', 'HS256', kid, sealed) AS token FROM key;
SELECT throws_ok('SELECT a67_internal._keyring_publish(array_agg(kid), array_agg(sealed)) FROM key', '22023',
    'invalid value for parameter "kids"', 'nine keys are too many');
SELECT isnt(a67_internal._jwt_verify(token, 'a67-refresh'), NULL, 'and change nothing') FROM issued;
SELECT a67_internal._keyring_publish(array_agg(kid), array_agg(sealed)) FROM key WHERE i <= 8 \g /dev/null
SELECT is(array_agg(i ORDER BY i), '{1,2,3,4,5,6,7,8}', 'eight keys, oldest to newest, verify')
FROM signed WHERE a67_internal._jwt_verify(token, 'a67-refresh') IS NOT NULL;
SELECT is(a67_internal._jwt_verify(token, 'a67-refresh'), NULL, 'a key that is gone does not') FROM issued;
SELECT a67_internal._bootstrap() \g /dev/null
SELECT isnt(a67_internal._jwt_verify(token, 'a67-refresh'), NULL, 'until it is back') FROM issued;

-- Nobody but the owner.
SELECT is_empty($$SELECT r, f FROM unnest('{a67_anon,a67_user,a67_node,a67_admin,a67_authenticator}'::text[]) r,
    unnest('{_password_hash(text),_password_check(text\,text),_password_outdated(text),_totp(bytea\,bigint\,integer),_base32(bytea),_jwt_verify(text\,text)}'::text[]) f
    WHERE has_function_privilege(r, 'a67_internal.' || f, 'EXECUTE')$$, 'none of it is for the API''s roles');
SELECT * FROM finish();
ROLLBACK;
