\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(62);
CREATE TEMP TABLE person (name text PRIMARY KEY, user_id uuid);
INSERT INTO person SELECT n, a67.user_create(n || '@example.com') FROM unnest(ARRAY['ann', 'bob']) n;
INSERT INTO person SELECT 'root', a67.user_create('root@example.com', 'a67_admin');
GRANT SELECT ON person TO PUBLIC;
CREATE FUNCTION pg_temp.act_as(person text, role text DEFAULT 'a67_user') RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.user_id, 'role', role)::text, true) || set_config('role', role, true)
    FROM person p WHERE p.name = person
$$;
CREATE FUNCTION pg_temp.status() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    chosen text := coalesce(nullif(current_setting('response.status', true), ''), '200');
BEGIN
    PERFORM set_config('response.status', '', true);
    RETURN chosen;
END
$$;
CREATE FUNCTION pg_temp.octets(n integer) RETURNS text LANGUAGE sql AS $$
    SELECT translate(encode(decode(repeat('ab', n), 'hex'), 'base64'), E'\n', '')
$$;
-- A put of made-up octets; returns the version.
CREATE FUNCTION pg_temp.put(name text, if_version bigint DEFAULT NULL, size integer DEFAULT 100) RETURNS bigint LANGUAGE sql AS $$
    SELECT (a67.vault_item_put(name, pg_temp.octets(size), pg_temp.octets(16), pg_temp.octets(12), pg_temp.octets(16), if_version) ->> 'version')::bigint
$$;

-- Who may
SET LOCAL ROLE a67_anon;
SELECT throws_ok($$SELECT pg_temp.put('mail')$$, '42501', NULL, 'a stranger has no vault');
SELECT throws_ok($$SELECT a67.vault_item_list()$$, '42501', NULL, 'nor sees one');
RESET ROLE;
SELECT set_config('request.jwt.claims', '{"sub": "00000000-0000-4000-8000-000000000001", "role": "a67_user"}', true) \g /dev/null
SET LOCAL ROLE a67_user;
SELECT throws_ok($$SELECT pg_temp.put('mail')$$, 'PT401', NULL, 'nor does a subject that is no user');
SELECT is(a67.vault_item_list(), '[]', 'who sees nothing');
RESET ROLE;

-- Put, get, list
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(a67.vault_item_list(), '[]', 'a vault is empty at first');
SELECT ok(pg_temp.put('mail') > 0, 'an item is put');
SELECT is(pg_temp.status(), '201', 'as a new one');
SELECT set_config('test.first', a67.vault_item_get('mail') ->> 'version', true) \g /dev/null
SELECT is(a67.vault_item_get('mail') - '{version,created_at,updated_at}'::text[], jsonb_build_object('name', 'mail',
    'scheme', 'argon2id-aes256gcm-1', 'kdf', '{"algorithm": "argon2id", "version": 19, "memory_kib": 65536, "iterations": 3, "parallelism": 4, "key_bytes": 32}'::jsonb,
    'salt', pg_temp.octets(16), 'iv', pg_temp.octets(12), 'tag', pg_temp.octets(16), 'ciphertext', pg_temp.octets(100)), 'it comes back as it was, with what opens it');
SELECT is((a67.vault_item_list() -> 0) - '{version,created_at,updated_at}'::text[], '{"name": "mail", "scheme": "argon2id-aes256gcm-1", "size_bytes": 100}',
    'a list tells its size, not its content');
SELECT ok(pg_temp.put('mail', NULL, 7) > current_setting('test.first')::bigint, 'put again its version grows');
SELECT is(pg_temp.status(), '200', 'as the same item');
SELECT is(a67.vault_item_list() -> 0 ->> 'size_bytes', '7', 'with another content');
SELECT is(jsonb_array_length(a67.vault_item_list()), 1, 'of which there is one');
SELECT lives_ok($$SELECT pg_temp.put('empty', NULL, 0)$$, 'nothing can be encrypted too');
SELECT is(a67.vault_item_get('empty') ->> 'ciphertext', '', 'and comes back');
SELECT lives_ok($$SELECT pg_temp.put('größte', NULL, 65536)$$, 'the largest');
SELECT is(length(a67.vault_item_get('größte') ->> 'ciphertext'), 87384, 'comes back whole');
SELECT is((SELECT string_agg(i ->> 'name', ' ') FROM jsonb_array_elements(a67.vault_item_list(2)) i), 'empty größte', 'lists go page by page');
SELECT is(a67.vault_item_list(2, 2) -> 0 ->> 'name', 'mail', 'to the end');

-- Somebody else
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is(a67.vault_item_list(), '[]', 'bob sees none of it');
SELECT throws_ok($$SELECT a67.vault_item_get('mail')$$, 'PT404', NULL, 'nor gets any');
SELECT throws_ok($$SELECT a67.vault_item_remove('mail')$$, 'PT404', NULL, 'nor removes any');
SELECT lives_ok($$SELECT pg_temp.put('mail', 0, 3)$$, 'he has names of his own');
SELECT throws_ok($$SELECT * FROM a67_internal.vault_item$$, '42501', NULL, 'nobody reads the table');
SELECT pg_temp.act_as('root', 'a67_admin') \g /dev/null
SELECT is(a67.vault_item_list(), '[]', 'nor does an administrator see it');
SELECT throws_ok($$SELECT a67.vault_item_get('mail')$$, 'PT404', NULL, 'nor get it');
SELECT throws_ok($$SELECT * FROM a67_internal.vault_item$$, '42501', NULL, 'nor read the table');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is(a67.vault_item_get('mail') ->> 'ciphertext', pg_temp.octets(7), 'ann''s is as it was');

-- Versions
SELECT throws_ok($$SELECT pg_temp.put('mail', 0)$$, 'PT409', 'vault item "mail" has another version', 'one that should be new');
SELECT throws_ok($$SELECT pg_temp.put('mail', current_setting('test.first')::bigint)$$, 'PT409', NULL, 'one that was changed meanwhile');
SELECT throws_ok($$SELECT pg_temp.put('new', 1)$$, 'PT409', NULL, 'one that is not there');
SELECT throws_ok($$SELECT a67.vault_item_remove('mail', 1)$$, 'PT409', NULL, 'removing another version');
SELECT is(a67.vault_item_get('mail') ->> 'ciphertext', pg_temp.octets(7), 'nothing has changed');
SELECT lives_ok($$SELECT pg_temp.put('mail', (a67.vault_item_get('mail') ->> 'version')::bigint, 8)$$, 'over the version that one has seen');
SELECT lives_ok($$SELECT pg_temp.put('new', 0)$$, 'a new one that is new');
SELECT set_config('test.last', a67.vault_item_get('mail') ->> 'version', true) \g /dev/null
SELECT lives_ok($$SELECT a67.vault_item_remove('mail', current_setting('test.last')::bigint)$$, 'a removal of what one has seen');
SELECT throws_ok($$SELECT a67.vault_item_get('mail')$$, 'PT404', NULL, 'it is gone');
SELECT throws_ok($$SELECT a67.vault_item_remove('mail')$$, 'PT404', NULL, 'once');
SELECT lives_ok($$SELECT pg_temp.put('mail')$$, 'put anew');
SELECT throws_ok($$SELECT pg_temp.put('mail', current_setting('test.last')::bigint)$$, 'PT409', NULL, 'it is not taken for the old one');

-- What is refused, and by which name
CREATE FUNCTION pg_temp.refused(changed text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    given jsonb := jsonb_build_object('name', 'x', 'ciphertext', pg_temp.octets(1), 'salt', pg_temp.octets(16), 'iv', pg_temp.octets(12),
        'tag', pg_temp.octets(16), 'scheme', 'argon2id-aes256gcm-1') || jsonb_build_object(changed, value);
    field text;
BEGIN
    PERFORM a67.vault_item_put(given ->> 'name', given ->> 'ciphertext', given ->> 'salt', given ->> 'iv', given ->> 'tag', NULL, given ->> 'scheme');
    RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS field = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || field;
END
$$;
SELECT is(pg_temp.refused(field, value), '22023 Field: ' || field || '.', what)
FROM (VALUES
    ('name', NULL, 'no name'),
    ('name', '', 'an empty name'),
    ('name', repeat('ä', 101), 'a name of more than 200 bytes'),
    ('name', E'a\nb', 'a name with a line break'),
    ('scheme', NULL, 'no scheme'),
    ('scheme', 'rot13', 'an unknown scheme'),
    ('ciphertext', NULL, 'no content'),
    ('ciphertext', pg_temp.octets(65537), 'a content that is too large'),
    ('ciphertext', 'a', 'half of base64'),
    ('ciphertext', 'ab-_', 'base64url'),
    ('ciphertext', E'YWJj\nYWJj', 'base64 in lines'),
    ('ciphertext', 'YQ=a', 'padding in the middle'),
    ('salt', pg_temp.octets(15), 'a short salt'),
    ('salt', pg_temp.octets(17), 'a long salt'),
    ('iv', pg_temp.octets(16), 'an iv of another size'),
    ('iv', NULL, 'no iv'),
    ('tag', pg_temp.octets(12), 'a short tag'),
    ('tag', '', 'an empty tag')
) AS t (field, value, what);
SELECT throws_ok($$SELECT a67.vault_item_list(0)$$, '22023', NULL, 'a page of nothing');

-- A thousand, and not one more
RESET ROLE;
INSERT INTO a67_internal.vault_item (owner_id, name, scheme, kdf, salt, iv, tag, ciphertext, version)
SELECT v.owner_id, 'n' || n, v.scheme, v.kdf, v.salt, v.iv, v.tag, v.ciphertext, 1
FROM a67_internal.vault_item v JOIN person p ON p.user_id = v.owner_id AND p.name = 'ann' AND v.name = 'mail', generate_series(1, 996) n;
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT throws_ok($$SELECT pg_temp.put('one more')$$, 'PT409', NULL, 'a full vault takes no new item');
SELECT lives_ok($$SELECT pg_temp.put('mail')$$, 'but new versions');
SELECT lives_ok($$SELECT a67.vault_item_remove('n1'), pg_temp.put('one more')$$, 'and one for another');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
