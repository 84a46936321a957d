-- SQL faces of the C library: hashing, the ring, keys, tokens, the vault, wake-ups, shared memory.

CREATE OR REPLACE FUNCTION a67.version() RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_version' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67.version() IS 'Version of the loaded a67 library';

CREATE OR REPLACE FUNCTION a67.murmur3(key text, seed integer DEFAULT 0) RETURNS bigint
AS 'MODULE_PATHNAME', 'a67_sql_murmur3' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67.murmur3(text, integer) IS
    'MurmurHash3 x86_32 of the UTF-8 bytes of key, 0 to 4294967295; the hash of the ring';

CREATE OR REPLACE FUNCTION a67.ring_lookup(key text, names text[], weights float8[] DEFAULT NULL, n integer DEFAULT 1)
RETURNS text[]
AS 'MODULE_PATHNAME', 'a67_sql_ring_lookup' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION a67.ring_lookup(text, text[], float8[], integer) IS
    'The first n distinct owners of key on the consistent-hash ring of names (150 virtual nodes per weight of 1)';

CREATE OR REPLACE FUNCTION a67.ring_points(names text[], weights float8[] DEFAULT NULL)
RETURNS TABLE (hash bigint, name text)
AS 'MODULE_PATHNAME', 'a67_sql_ring_points' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION a67.ring_points(text[], float8[]) IS 'Every virtual node of the ring, in ring order';

CREATE OR REPLACE FUNCTION a67.ring_shares(names text[], weights float8[] DEFAULT NULL)
RETURNS TABLE (name text, points integer, share float8)
AS 'MODULE_PATHNAME', 'a67_sql_ring_shares' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION a67.ring_shares(text[], float8[]) IS 'Virtual nodes and fraction of the hash space of each owner';

CREATE OR REPLACE FUNCTION a67.ring_diff(old_names text[], old_weights float8[], new_names text[], new_weights float8[])
RETURNS TABLE (range_start bigint, range_end bigint, from_name text, to_name text)
AS 'MODULE_PATHNAME', 'a67_sql_ring_diff' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION a67.ring_diff(text[], float8[], text[], float8[]) IS
    'Hash ranges (start exclusive, end inclusive) whose owner differs between two rings';

CREATE OR REPLACE FUNCTION a67_internal._node_step(INOUT status text, INOUT failures integer, INOUT goods integer,
    sign text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'a67_sql_node_step' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._node_step(text, integer, integer, text) IS 'One step of the node health state machine (docs/states.md)';

CREATE OR REPLACE FUNCTION a67_internal._place(ids uuid[], facts float8[], regions text[], providers text[],
    count integer, memory_bytes bigint, cpu float8, seed bigint)
RETURNS TABLE (ordinal integer, node_id uuid, score float8, parts jsonb, shortage text)
AS 'MODULE_PATHNAME', 'a67_sql_place' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OR REPLACE FUNCTION a67_internal._backoff_ms(attempt integer, base_ms integer, cap_ms integer, seed bigint) RETURNS integer
AS 'MODULE_PATHNAME', 'a67_sql_backoff_ms' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OR REPLACE FUNCTION a67_internal._random_bytes(n integer) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_random_bytes' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE OR REPLACE FUNCTION a67_internal._key_generate(kind text, kid text, OUT public_key bytea, OUT sealed bytea) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'a67_sql_key_generate' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._jwt_sign(claims jsonb, alg text, kid text, sealed bytea) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_jwt_sign' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._jwt_verify(token text, audience text) RETURNS jsonb
AS 'MODULE_PATHNAME', 'a67_sql_jwt_verify' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._jwt_verify(text, text) IS
    'Claims of an HS256 token of ours that is current and for this audience; otherwise NULL, without a reason';

CREATE OR REPLACE FUNCTION a67_internal._password_hash(password text) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_password_hash' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._password_check(password text, hash text) RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_password_check' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._password_check(text, text) IS
    'Whether the password is the one hashed; a NULL hash takes the same time and is never right';

CREATE OR REPLACE FUNCTION a67_internal._password_outdated(hash text) RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_password_outdated' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION a67_internal._password_outdated(text) IS 'Whether the settings of password hashing have changed since';

CREATE OR REPLACE FUNCTION a67_internal._totp(secret bytea, step bigint, digits integer DEFAULT 6) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_totp' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._totp(bytea, bigint, integer) IS 'The RFC 6238 code of a step (Unix time / 30 s), with leading zeros';

CREATE OR REPLACE FUNCTION a67_internal._base32(data bytea) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_base32' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._base32(bytea) IS 'RFC 4648 base32 without padding';

CREATE OR REPLACE FUNCTION a67_internal._vault_seal(plaintext bytea, associated text) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_vault_seal' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._vault_open(sealed bytea, associated text) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_vault_open' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._keyring_publish(kids text[], sealed bytea[]) RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_keyring_publish' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._is_admin() RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_is_admin' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION a67_internal._is_admin() IS 'Whether the role outside of any SECURITY DEFINER function is an a67_admin';

CREATE OR REPLACE FUNCTION a67_internal._wake(worker text) RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_wake' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._wake(text) IS 'Wakes the worker when this transaction commits';

CREATE OR REPLACE FUNCTION a67_internal._wake_trigger() RETURNS trigger
AS 'MODULE_PATHNAME', 'a67_sql_wake_trigger' LANGUAGE C VOLATILE;

CREATE OR REPLACE FUNCTION a67_internal._live_forget(node_id uuid) RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_live_forget' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._node_live()
RETURNS TABLE (node_id uuid, last_seen_at timestamptz, boot_id text, state_version bigint, cpu_percent real,
    memory_percent real, disk_percent real, load1 real, memory_free_bytes bigint, active_requests integer)
AS 'MODULE_PATHNAME', 'a67_sql_node_live' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._worker_status()
RETURNS TABLE (name text, pid integer, started_at timestamptz, last_tick_at timestamptz, lag_ms bigint, ticks bigint,
    errors bigint, restarts bigint, last_error text, last_error_at timestamptz)
AS 'MODULE_PATHNAME', 'a67_sql_worker_status' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._listener_status()
RETURNS TABLE (pid integer, address text, port integer, clients integer, requests bigint, api_workers integer, queued integer,
    scheme text, tls_pin text)
AS 'MODULE_PATHNAME', 'a67_sql_listener_status' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._listener_status() IS
    'One row per listener; tls_pin is there when its key was made by itself: SHA-256 of its public key, base64url';

CREATE OR REPLACE FUNCTION a67_internal._listener_url(scheme text, address text, port integer) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format(CASE WHEN address LIKE '%:%' THEN '%s://[%s]:%s' ELSE '%s://%s:%s' END, scheme, address, port)
$$;
