\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(67);

CREATE TEMP TABLE person (name text PRIMARY KEY, user_id uuid);
INSERT INTO person SELECT n, a67.user_create(n || '@example.com') FROM unnest(ARRAY['ann', 'bob']) n;
GRANT SELECT ON person TO a67_user;
CREATE FUNCTION pg_temp.act_as(person text) RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.user_id, 'role', 'a67_user')::text, true) || set_config('role', 'a67_user', true)
    FROM person p WHERE p.name = person
$$;
CREATE FUNCTION pg_temp.nobody() RETURNS text LANGUAGE sql AS
    $$SELECT set_config('role', 'none', true) || set_config('request.jwt.claims', '', true)$$;
-- What a statement says when it fails, and in DETAIL.
CREATE FUNCTION pg_temp.says(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    EXECUTE statement;
    RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || SQLERRM || ' / ' || said;
END
$$;

-- Built from files ------------------------------------------------------------------------------------------------------------
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT matches(a67.package_build('{"app.py": "print(1)", "run": "#!/bin/sh"}'), '^[0-9a-f]{64}$', 'a digest');
SELECT is(current_setting('response.status', true), '201', 'created');
SELECT is(a67.package_build('{"run": {"text": "#!/bin/sh", "mode": "755"}, "app.py": {"base64": "cHJpbnQoMSk="}}'),
    a67.package_build('{"app.py": "print(1)", "run": "#!/bin/sh"}'), 'the same files, the same digest');
SELECT is((SELECT count(*) || ' ' || max(files) || ' ' || max(unpacked_bytes) FROM a67.package), '1 2 17', 'stored once, with what is in it');
SELECT isnt(a67.package_build('{"run": {"text": "#!/bin/sh", "mode": "644"}}'), a67.package_build('{"run": "#!/bin/sh"}'), 'the mode counts');
SELECT is((SELECT encode(sha256(string_agg(b, '')), 'hex') FROM a67.package_get(a67.package_build('{"a": ""}')) b), a67.package_build('{"a": ""}'), 'what comes back is what was stored');
SELECT is(a67.package_build('{"Dockerfile": "FROM scratch", "deep/er/x": "1", "ü": "2"}') IS NOT NULL, true, 'any names');
SELECT is(length(a67.package_build(jsonb_build_object(repeat('d', 120) || '/' || repeat('e', 120), 'long'))), 64, 'long ones too');
SELECT is(pg_temp.says(format('SELECT a67.package_build(%L)', f)), s, left(coalesce(f, 'nothing'), 40)) FROM (VALUES
    (NULL, '22023 files must be an object of names and contents / Field: files.'), ('[]', '22023 files must be an object of names and contents / Field: files.'),
    ('{}', '22023 files must be an object of names and contents / Field: files.'),
    ('{"a/b": 1}', '22023 invalid file /a~1b: must be a text, or an object with "text" or "base64" / Field: files. /a~1b: must be a text, or an object with "text" or "base64"'),
    ('{"a": {}}', '22023 invalid file /a: must have either "text" or "base64" / Field: files. /a: must have either "text" or "base64"'),
    ('{"a": {"text": "", "base64": ""}}', '22023 invalid file /a: must have either "text" or "base64" / Field: files. /a: must have either "text" or "base64"'),
    ('{"a": {"base64": "?"}}', '22023 invalid file /a: field "base64" is not base64 / Field: files. /a: field "base64" is not base64'),
    ('{"a": {"text": 1}}', '22023 invalid file /a: field "text" must be a string / Field: files. /a: field "text" must be a string'),
    ('{"a": {"text": "", "mode": "777"}}', '22023 invalid file /a: field "mode" must be "644" or "755" / Field: files. /a: field "mode" must be "644" or "755"'),
    ('{"a": {"text": "", "owner": "root"}}', '22023 invalid file /a: has an unknown field "owner" / Field: files. /a: has an unknown field "owner"'),
    ('{"../a": ""}', '22023 package refused: "../a" is not a safe relative name / Field: content.'),
    ('{"/etc/passwd": ""}', '22023 package refused: "/etc/passwd" is not a safe relative name / Field: content.'),
    ('{"a": "", "a/b": ""}', '22023 package refused: "a/b" collides with another entry / Field: content.'),
    ('{"a": "", "./a": ""}', '22023 package refused: "a" collides with another entry / Field: content.')) v (f, s);

-- Uploads -----------------------------------------------------------------------------------------------------------------------
-- A tar entry: name, type, link target, content; made by hand because no tool would make most of these.
CREATE FUNCTION pg_temp.entry(name text, type text DEFAULT '0', target text DEFAULT '', content bytea DEFAULT '') RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    header bytea := decode(repeat('00', 512), 'hex');
    sum integer := 0;
BEGIN
    header := overlay(header PLACING convert_to(name, 'UTF8') FROM 1);
    header := overlay(header PLACING '\x3030303036343400303030303030300030303030303030'::bytea FROM 101);
    header := overlay(header PLACING convert_to(lpad(to_hex(0), 1, '0'), 'UTF8') FROM 124);
    header := overlay(header PLACING convert_to((SELECT string_agg(((length(content) >> (3 * i)) & 7)::text, '' ORDER BY i DESC) FROM generate_series(0, 10) i), 'UTF8') FROM 125);
    header := overlay(header PLACING '\x3030303030303030303030'::bytea FROM 137);
    header := overlay(header PLACING '\x2020202020202020'::bytea FROM 149);
    header := overlay(header PLACING convert_to(type, 'UTF8') FROM 157);
    header := overlay(header PLACING convert_to(target, 'UTF8') FROM 158);
    header := overlay(header PLACING '\x7573746172003030'::bytea FROM 258);
    FOR i IN 0 .. 511 LOOP
        sum := sum + get_byte(header, i);
    END LOOP;
    header := overlay(header PLACING convert_to((SELECT string_agg(((sum >> (3 * i)) & 7)::text, '' ORDER BY i DESC) FROM generate_series(0, 5) i), 'UTF8') || '\x00'::bytea FROM 149);
    RETURN header || content || decode(repeat('00', (512 - length(content) % 512) % 512), 'hex');
END
$$;
-- gzip without compression: stored blocks of the tar, whose checksum the reader does not need to agree with before the end.
CREATE FUNCTION pg_temp.crc32(data bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    crc bigint := 4294967295;
BEGIN
    FOR i IN 0 .. length(data) - 1 LOOP
        crc := crc # get_byte(data, i);
        FOR b IN 1 .. 8 LOOP
            crc := CASE WHEN crc & 1 = 1 THEN (crc >> 1) # 3988292384 ELSE crc >> 1 END;
        END LOOP;
    END LOOP;
    crc := crc # 4294967295;
    RETURN decode(lpad(to_hex(((crc & 255) << 24) | ((crc >> 8 & 255) << 16) | ((crc >> 16 & 255) << 8) | (crc >> 24)), 8, '0'), 'hex');
END
$$;
CREATE FUNCTION pg_temp.le(n integer, bytes integer) RETURNS bytea LANGUAGE sql AS $$
    SELECT string_agg(decode(lpad(to_hex((n >> (8 * i)) & 255), 2, '0'), 'hex'), '' ORDER BY i) FROM generate_series(0, bytes - 1) i
$$;
CREATE FUNCTION pg_temp.packed(VARIADIC entries bytea[]) RETURNS bytea LANGUAGE sql AS $$
    SELECT '\x1f8b0800000000000003'::bytea || '\x01' || pg_temp.le(length(t.tar), 2) || pg_temp.le(65535 - length(t.tar), 2) || t.tar
           || pg_temp.crc32(t.tar) || pg_temp.le(length(t.tar), 4)
    FROM (SELECT string_agg(e, '' ORDER BY i) || decode(repeat('00', 1024), 'hex') AS tar FROM unnest(entries) WITH ORDINALITY u (e, i)) t
$$;
CREATE FUNCTION pg_temp.put(VARIADIC entries bytea[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN length(a67.package_put(pg_temp.packed(VARIADIC entries)))::text;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT is(pg_temp.put(pg_temp.entry('run', '0', '', 'x')), '64', 'a file');
SELECT is(pg_temp.put(pg_temp.entry('d/', '5'), pg_temp.entry('d/run'), pg_temp.entry('d/', '5'), pg_temp.entry('./', '5')), '64', 'directories, also twice');
SELECT is(pg_temp.put(pg_temp.entry('a/run'), pg_temp.entry('a/link', '2', '../a/run'), pg_temp.entry('same', '1', 'a/run')), '64', 'links that stay inside');
SELECT is(pg_temp.put(pg_temp.entry('../run')), '22023 package refused: "../run" is not a safe relative name', '..');
SELECT is(pg_temp.put(pg_temp.entry('/run')), '22023 package refused: "/run" is not a safe relative name', 'an absolute name');
SELECT is(pg_temp.put(pg_temp.entry('a/../../run')), '22023 package refused: "a/../../run" is not a safe relative name', '.. within');
SELECT is(pg_temp.put(pg_temp.entry('link', '2', '/etc')), '22023 package refused: "link" is a link that leads out of the package', 'an absolute link');
SELECT is(pg_temp.put(pg_temp.entry('link', '2', 'a/../..')), '22023 package refused: "link" is a link that leads out of the package', 'a link that turns back');
SELECT is(pg_temp.put(pg_temp.entry('a/link', '2', '../../x')), '22023 package refused: "a/link" is a link that leads out of the package', 'a link above the root');
SELECT is(pg_temp.put(pg_temp.entry('hard', '1', '../x')), '22023 package refused: "hard" is a link that leads out of the package', 'a hard link out');
SELECT is(pg_temp.put(pg_temp.entry('hard', '1', 'x')), '22023 package refused: "hard" is a link to nothing', 'a hard link to nothing');
SELECT is(pg_temp.put(pg_temp.entry('x', '2', 'y'), pg_temp.entry('hard', '1', 'x')), '22023 package refused: "hard" is a link to nothing', 'a hard link to a link');
SELECT is(pg_temp.put(pg_temp.entry('a', '2', 'b'), pg_temp.entry('a/run')), '22023 package refused: "a/run" collides with another entry', 'a file below a link');
SELECT is(pg_temp.put(pg_temp.entry('run'), pg_temp.entry('run')), '22023 package refused: "run" collides with another entry', 'a file twice');
SELECT is(pg_temp.put(pg_temp.entry('run', t)), '22023 package refused: "run" is neither file, directory nor link', 'type ' || t) FROM unnest(ARRAY['3', '4', '6']) t;
SELECT is(pg_temp.put(pg_temp.entry(repeat('x/', 49) || 'y')), '64', 'a deep file');
SELECT is(pg_temp.put(''), '22023 package is empty', 'nothing');
SELECT is(pg_temp.put(pg_temp.entry('.')), '22023 package refused: "." is no directory', 'a file in place of the root');
SELECT is(pg_temp.says($$SELECT a67.package_put('\x1f8b0800')$$), '22023 package is not a tar.gz archive, or is damaged / Field: content.', 'no archive');
SELECT is(pg_temp.says($$SELECT a67.package_put('PK')$$), '22023 package is not a gzip file / Field: content.', 'another format');
SELECT is(pg_temp.says($$SELECT a67.package_put(NULL)$$), '22023 package is not a gzip file / Field: content.', 'null');
SELECT throws_ok($$SELECT a67.package_put(substr(pg_temp.packed(pg_temp.entry('run', '0', '', decode(repeat('61', 3000), 'hex'))), 1, 1500))$$, '22023',
    'package is not a tar.gz archive, or is damaged', 'cut off');
SELECT throws_ok(format($$SELECT a67.package_put('\x1f8b' || decode(repeat('00', %s), 'hex'))$$, pg_size_bytes(current_setting('a67.package_max_size'))), 'PT413', NULL, 'larger than allowed');

-- In use ------------------------------------------------------------------------------------------------------------------------
SELECT pg_temp.nobody() \g /dev/null
DELETE FROM a67_internal.package;
SELECT pg_temp.act_as('ann') \g /dev/null
CREATE TEMP TABLE p ON COMMIT DROP AS SELECT n, a67.package_build(jsonb_build_object('run', n::text)) AS digest FROM generate_series(1, 12) n;
CREATE FUNCTION pg_temp.app(n integer) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('name', 'shop', 'entrypoint', '["./run"]'::jsonb, 'replicas', 0, 'package', p.digest) FROM p WHERE p.n = app.n
$$;
SELECT is(a67.deployment_create(pg_temp.app(1)) ->> 'status', 'pending', 'a release names it');
SELECT is(pg_temp.says('SELECT a67.package_remove(''' || digest || ''')'), '23503 package "' || digest || '" is in use / Deployments: shop (release 1).', 'not removed while it does') FROM p WHERE n = 1;
SELECT is((SELECT deployments || coalesce(expires_at::text, 'for ever') FROM a67.package JOIN p USING (digest) WHERE n = 1), '{shop,"for ever"}'::text[], 'kept');
SELECT is((SELECT deployments = '{}' AND expires_at = now() + interval '1 day' FROM a67.package JOIN p USING (digest) WHERE n = 2), true, 'others for a day');
SELECT lives_ok($$SELECT a67.package_remove(digest) FROM p WHERE n = 12$$, 'one that nobody names goes when told');
SELECT throws_ok($$SELECT a67.package_remove(digest) FROM p WHERE n = 12$$, 'PT404', NULL, 'once');
SELECT is(jsonb_array_length(a67.package_list(5)), 5, 'a list in pages');
SELECT pg_temp.nobody(), pg_temp.act_as('bob') \g /dev/null
SELECT is(a67.package_list(), '[]', 'of one''s own');
SELECT pg_temp.nobody(), set_config('search_path', 'pg_catalog, public, pg_temp', true) \g /dev/null
SELECT is(pg_temp.says(format($$SELECT a67_internal._package_use((SELECT user_id FROM person WHERE name = 'bob'), %L)$$, digest)),
    '22023 package "' || digest || '" does not exist / /package: no such package', 'nobody deploys another''s') FROM p WHERE n = 1;

-- Releases that are kept --------------------------------------------------------------------------------------------------------
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT a67.deployment_stop('shop') \g /dev/null
SELECT a67.deployment_update('shop', pg_temp.app(n)) FROM generate_series(2, 9) n \g /dev/null
SELECT pg_temp.nobody() \g /dev/null
SELECT is((SELECT string_agg(release::text, ' ' ORDER BY release) FROM a67.release WHERE deployment = 'shop'), '1 2 3 4 5 6 7 8 9', 'nine releases');
INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes, max_concurrent_requests, provider)
SELECT user_id, 'oak', 'http://127.0.0.1:1', repeat('x', 43), 1, 1e9, 1e9, 1, 'generic' FROM person WHERE name = 'ann';
INSERT INTO a67_internal.replica (deployment_id, release, node_id, memory_bytes, cpu)
SELECT d.deployment_id, 2, n.node_id, 1, 0 FROM a67_internal.deployment d, a67_internal.node n WHERE d.name = 'shop' AND n.name = 'oak';
SELECT is(a67_internal._package_prune(now()), 2, 'two too many');
SELECT is((SELECT string_agg(release::text, ' ' ORDER BY release) FROM a67.release WHERE deployment = 'shop'), '2 4 5 6 7 8 9', 'the stable one, five more, and one that still runs');
DELETE FROM a67_internal.replica;
SELECT is(a67_internal._package_prune(now()), 1, 'which goes when it runs no more');
SELECT is((SELECT count(*) FROM a67.package), 11::bigint, 'packages stay for another day');
SELECT is(a67_internal._package_prune(now() + interval '23 hours'), 0, 'a whole one');
SELECT is(a67_internal._package_prune(now() + interval '24 hours'), 5, 'then those go that nobody names');
SELECT is((SELECT string_agg(n::text, ' ' ORDER BY n) FROM a67.package JOIN p USING (digest)), '4 5 6 7 8 9', 'others do not');
SELECT a67.deployment_remove(deployment_id::text) FROM a67.deployment WHERE name = 'shop' \g /dev/null
UPDATE a67_internal.package SET used_at = now() - interval '2 days';
DELETE FROM a67_internal.deployment WHERE name = 'shop';
SELECT is(a67_internal._package_prune(now()), 0, 'the day begins when the last release goes');
SELECT is(a67_internal._package_prune(now() + interval '1 day'), 6, 'and ends');
SELECT lives_ok($$SELECT a67_internal._package_tick(now()), a67_internal._package_tick(now() + interval '2 minutes')$$, 'once a minute');

SELECT * FROM finish();
ROLLBACK;
