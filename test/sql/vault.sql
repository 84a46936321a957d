\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
-- Sealed values and the state of the vault. What needs other processes or restarts is in test/e2e/test_vault.py.
BEGIN;
SELECT plan(67);
SELECT a67_internal._bootstrap() \g /dev/null

-- The format.
CREATE TEMP TABLE sealed AS SELECT a67_internal._vault_seal('a secret', 'table.column:1') AS box,
    a67_internal._vault_seal('other', 'table.column:2') AS other;
SELECT is(a67_internal._vault_open(box, 'table.column:1'), 'a secret'::bytea, 'what was sealed opens') FROM sealed;
SELECT is(position('a secret'::bytea IN box), 0, 'the plaintext is not in it') FROM sealed;
SELECT isnt(a67_internal._vault_seal('a secret', 'table.column:1'), box, 'never the same box twice') FROM sealed;
SELECT is(a67_internal._vault_open(a67_internal._vault_seal('', 'x'), 'x'), ''::bytea, 'nothing is sealed too');
SELECT is(a67_internal._vault_open(a67_internal._vault_seal('a', ''), ''), 'a'::bytea, 'for nowhere in particular too');
SELECT is(length(box), 121 + 8, 'a box is 121 bytes longer') FROM sealed;
SELECT is(get_byte(box, 0), 2, 'it begins with its version') FROM sealed;
SELECT is(substring(box FROM 2 FOR 8), v.key_id, 'and the id of the master key') FROM sealed, a67_internal.vault v;
SELECT is(length(a67_internal._vault_open(a67_internal._vault_seal(convert_to(repeat('x', 1048576), 'UTF8'), 'x'), 'x')), 1048576, 'a megabyte');
SELECT throws_ok($$SELECT a67_internal._vault_seal(convert_to(repeat('x', 1048577), 'UTF8'), 'x')$$, '22023', NULL, 'and no byte more');
SELECT is(a67_internal._vault_open(NULL, 'x'), NULL, 'NULL of NULL');

-- One error for everything that is not as it was: same code, same words, no detail.
CREATE FUNCTION pg_temp.refusal(box bytea, label text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    PERFORM a67_internal._vault_open(box, label);
    RETURN 'opened';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws('|', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END $$;
CREATE TEMP TABLE damaged AS
SELECT 1 AS ordinal, 'moved to another row' AS what, box, 'table.column:2' AS label FROM sealed
UNION ALL SELECT 2, 'moved to another column', box, 'table.another:1' FROM sealed
UNION ALL SELECT 3, 'with a longer label', box, 'table.column:11' FROM sealed
UNION ALL SELECT 4, 'empty', '', 'table.column:1'
UNION ALL SELECT 5, 'one byte', '\x02', 'table.column:1'
UNION ALL SELECT 6, 'truncated', substr(box, 1, length(box) - 1), 'table.column:1' FROM sealed
UNION ALL SELECT 7, 'longer', box || '\x00', 'table.column:1' FROM sealed
UNION ALL SELECT 8, 'of another version', set_byte(box, 0, 1), 'table.column:1' FROM sealed
UNION ALL SELECT 9, 'of an unknown key', set_byte(box, 1, get_byte(box, 1) # 1), 'table.column:1' FROM sealed
UNION ALL SELECT 10, 'wrapped data key touched', set_byte(box, 40, get_byte(box, 40) # 1), 'table.column:1' FROM sealed
UNION ALL SELECT 11, 'nonce touched', set_byte(box, 90, get_byte(box, 90) # 1), 'table.column:1' FROM sealed
UNION ALL SELECT 12, 'last byte touched', set_byte(box, length(box) - 1, get_byte(box, length(box) - 1) # 1), 'table.column:1' FROM sealed
UNION ALL SELECT 13, 'data key of another box', substr(other, 1, 81) || substr(box, 82), 'table.column:1' FROM sealed
UNION ALL SELECT 14, 'data of another box', substr(box, 1, 81) || substr(other, 82), 'table.column:1' FROM sealed
UNION ALL SELECT 15, 'plain text', 'a secret that nobody has sealed, and which is longer than a box must be at the very least, so that it looks like one of them', 'table.column:1';
SELECT is(pg_temp.refusal(box, label), '22000|could not open sealed value', what) FROM damaged ORDER BY ordinal;

-- A new wrapping leaves the value alone.
SELECT isnt(a67_internal._vault_rewrap(box), box, 'a new wrapping') FROM sealed;
SELECT is(substr(a67_internal._vault_rewrap(box), 82), substr(box, 82), 'of the same value') FROM sealed;
SELECT is(a67_internal._vault_open(a67_internal._vault_rewrap(box), 'table.column:1'), 'a secret'::bytea, 'which opens') FROM sealed;
SELECT is(a67_internal._vault_rewrap(box), NULL, format('nothing is wrapped anew: %s', what)) FROM damaged WHERE ordinal IN (4, 8, 9, 10) ORDER BY ordinal;

SELECT is(length(a67_internal._random_bytes(32)), 32, 'random bytes');
SELECT isnt(a67_internal._random_bytes(16), a67_internal._random_bytes(16), 'that differ');

-- Where sealed values are.
SELECT is_empty($$SELECT * FROM a67_internal._sealed_columns() s WHERE NOT EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass('a67_internal.' || s.table_name) AND a.attname = s.column_name
    AND a.atttypid = 'bytea'::regtype)$$, 'the list of sealed columns names columns');
SELECT is_empty($$SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'a67_internal'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname LIKE '%sealed' AND (c.relname, a.attname) NOT IN (SELECT * FROM a67_internal._sealed_columns())$$,
    'and every one of them');
SELECT is_empty($$SELECT * FROM a67_internal._sealed_columns() s WHERE s.table_name NOT IN ('signing_key', 'provider') AND NOT EXISTS (
    SELECT FROM pg_index i WHERE i.indrelid = ('a67_internal.' || s.table_name)::regclass
    AND pg_get_indexdef(i.indexrelid) ~* format('substring\(%s FROM 2 FOR 8\)|substring\(%s, 2, 8\)', s.column_name, s.column_name))$$,
    'tables that grow are indexed by key id');
SELECT is_empty($$SELECT FROM a67_internal.signing_key k WHERE substring(k.sealed FROM 2 FOR 8) <> (SELECT key_id FROM a67_internal.vault)$$,
    'stored keys are sealed under the key of the row');
SELECT throws_ok($$INSERT INTO a67_internal.vault (key_id) VALUES ('\x0102030405060708')$$, '23505', NULL, 'there is one vault');
SELECT is(a67_internal._vault_remaining('{}'), 0::bigint, 'no old key, nothing to do');
SELECT ok(a67_internal._vault_remaining(ARRAY[key_id]) >= 2, 'everything is under this key') FROM a67_internal.vault;

-- State.
SELECT is(a67_internal._vault_is_sealed(), false, 'the vault is open');
SELECT is(status ->> 'sealed', 'false', 'and says so') FROM a67.vault_status() status;
SELECT is(status -> 'keys', jsonb_build_array(jsonb_build_object('key_id', encode(v.key_id, 'hex'), 'source', 'file', 'current', true)), 'its key')
FROM a67.vault_status() status, a67_internal.vault v;
SELECT is(status -> 'rotation', 'null', 'no rotation ever') FROM a67.vault_status() status;

-- Wrong keys: an answer, not an error, so that it is counted and on record.
SELECT is(a67.vault_unseal(repeat('0', 64)) ->> 'message', 'could not unseal the vault', 'a wrong key');
SELECT is(current_setting('response.status'), '403', 'is refused');
SELECT is(a67.vault_unseal(repeat('0', 64)), a67.vault_unseal('not a key'), 'what is no key gets the same answer');
SELECT ok((a67.vault_status() ->> 'retry_at')::timestamptz > now(), 'after three the next one has to wait');
SELECT is(a67.vault_status() ->> 'failures', '3', 'and they are counted');
SELECT is((SELECT count(*) FROM a67_internal.audit WHERE action = 'vault.unseal' AND outcome = 'refused' AND at > now()), 3::bigint, 'on record');
SELECT throws_ok($$SELECT a67.vault_unseal(repeat('x', 1025))$$, '22023', NULL, 'a key that is too long');
SELECT is(a67.vault_unseal() ->> 'sealed', 'false', 'the file has the right one');
SELECT is(a67.vault_status() ->> 'failures', '0', 'which ends the count');

-- Sealed.
SELECT is(a67.vault_seal() ->> 'held', 'true', 'sealed on purpose');
SELECT throws_ok($$SELECT a67_internal._vault_open(box, 'table.column:1') FROM sealed$$, 'PT503', 'vault is sealed', 'nothing opens');
SELECT throws_ok($$SELECT a67_internal._vault_seal('x', 'x')$$, 'PT503', 'vault is sealed', 'nothing is sealed');
SELECT throws_ok($$SELECT a67.token_create(a67_internal._operator_id())$$, 'PT503', 'vault is sealed', 'no token is made');
SELECT throws_ok($$SELECT a67.vault_rotate()$$, 'PT503', 'vault is sealed', 'no key changed');
SELECT is_empty($$SELECT * FROM a67_internal._vault_plan(now())$$, 'the worker has nothing to ask');
SELECT is(a67.vault_unseal() ->> 'sealed', 'false', 'open again');

-- Rotation: what is refused.
SELECT throws_ok(format('SELECT a67.vault_rotate(%L)', phrase), '22023', NULL, format('no passphrase: %s', left(phrase, 12)))
FROM unnest(ARRAY['', 'too short', repeat('x', 1025), repeat('0a', 32)]) WITH ORDINALITY t (phrase, n) ORDER BY n;
SELECT set_eq($$SELECT name, min_val, max_val, context FROM pg_settings WHERE name IN ('a67.node_token_lifetime', 'a67.master_key_command')$$,
    $$VALUES ('a67.node_token_lifetime', '60000', '86400000', 'sighup'), ('a67.master_key_command', NULL, NULL, 'sighup')$$, 'settings');
SELECT * FROM finish();
ROLLBACK;
