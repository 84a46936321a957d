\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(11);
CREATE TEMP TABLE sealed AS SELECT a67_internal._vault_seal('a secret', 'table.column:1') AS box;
SELECT is(a67_internal._vault_open(box, 'table.column:1'), 'a secret'::bytea, 'what was sealed opens') FROM sealed;
SELECT is(position('a secret'::bytea IN box), 0, 'the plaintext is not in it') FROM sealed;
SELECT isnt(a67_internal._vault_seal('a secret', 'table.column:1'), box, 'never the same box twice') FROM sealed;
SELECT is(a67_internal._vault_open(a67_internal._vault_seal('', 'x'), 'x'), ''::bytea, 'nothing is sealed too');
SELECT throws_like($$SELECT a67_internal._vault_open(box, 'table.column:2') FROM sealed$$, 'could not open sealed value',
    'moved to another row it does not open');
SELECT throws_like($$SELECT a67_internal._vault_open(set_byte(box, length(box) - 1, get_byte(box, length(box) - 1) # 1), 'table.column:1') FROM sealed$$,
    'could not open sealed value', 'tampered');
SELECT throws_like($$SELECT a67_internal._vault_open(substr(box, 1, length(box) - 1), 'table.column:1') FROM sealed$$,
    'could not open sealed value', 'truncated');
SELECT throws_like($$SELECT a67_internal._vault_open('', 'table.column:1')$$, 'could not open sealed value', 'empty');
SELECT is(length(a67_internal._random_bytes(32)), 32, 'random bytes');
SELECT isnt(a67_internal._random_bytes(16), a67_internal._random_bytes(16), 'that differ');
SELECT is_empty($$SELECT FROM a67_internal.signing_key k, sealed WHERE length(k.sealed) <= 32$$, 'stored keys are sealed');
SELECT * FROM finish();
ROLLBACK;
