-- SQL faces of the C library: hashing, the ring, keys, tokens, the vault, wake-ups, shared memory. At the end, what every part needs.

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

CREATE OR REPLACE FUNCTION a67_internal._node_step(INOUT status text, INOUT failures integer, INOUT goods integer, sign text,
    INOUT flaps float8 DEFAULT 0, elapsed_s float8 DEFAULT 0, hold boolean DEFAULT false) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'a67_sql_node_step' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._node_step(text, integer, integer, text, float8, float8, boolean) IS
    'One step of the node health state machine (docs/states.md); flaps are those of elapsed_s ago, hold: no node becomes failed';

CREATE OR REPLACE FUNCTION a67_internal._node_beat_sign(status text, cpu_percent float8, memory_percent float8, requests float8,
    failures float8) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_node_beat_sign' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._node_beat_sign(text, float8, float8, float8, float8) IS
    'The sign that a fresh heartbeat gives; figures that are NULL speak for the node';

CREATE OR REPLACE FUNCTION a67_internal._node_pin(public_key text) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_node_pin' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._node_pin(text) IS
    'What the server of the node with this key is pinned to: sha256//BASE64 of its SubjectPublicKeyInfo';

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

CREATE OR REPLACE FUNCTION a67_internal._hmac_sha256(key bytea, data bytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_hmac_sha256' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OR REPLACE FUNCTION a67_internal._vault_seal(plaintext bytea, associated text) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_vault_seal' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._vault_open(sealed bytea, associated text) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_vault_open' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._vault_rewrap(sealed bytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_vault_rewrap' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._vault_rewrap(bytea) IS
    'The same value with its data key wrapped under the current master key; NULL when no held key opens the wrapping';

CREATE OR REPLACE FUNCTION a67_internal._vault_is_sealed() RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_vault_is_sealed' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._vault_is_sealed() IS 'Whether the server holds no master key';

CREATE OR REPLACE FUNCTION a67_internal._vault_require() RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_vault_require' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._vault_require() IS 'Raises PT503 while the vault is sealed';

CREATE OR REPLACE FUNCTION a67_internal._vault_fence(key_id bytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_vault_fence' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._vault_fence(bytea) IS
    'Whether no open transaction has sealed anything under this master key; none will until this one ends';

CREATE OR REPLACE FUNCTION a67_internal._vault_load(key_id bytea, old_key_ids bytea[], given text, salt bytea, iterations integer,
    memory_kb integer, create_file boolean, OUT current_id bytea, OUT problem text)
AS 'MODULE_PATHNAME', 'a67_sql_vault_load' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._vault_load(bytea, bytea[], text, bytea, integer, integer, boolean) IS
    'Holds these master keys as far as they are given or (given NULL) the sources have them; current_id NULL: sealed';

CREATE OR REPLACE FUNCTION a67_internal._vault_adopt(key_id bytea, passphrase text, salt bytea, iterations integer,
    memory_kb integer) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_vault_adopt' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._vault_adopt(bytea, text, bytea, integer, integer) IS
    'Finds, derives or makes the master key that follows key_id, and holds it, not yet in use';

CREATE OR REPLACE FUNCTION a67_internal._vault_select(key_id bytea) RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_vault_select' LANGUAGE C VOLATILE STRICT;

CREATE OR REPLACE FUNCTION a67_internal._vault_forget(key_ids bytea[]) RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_vault_forget' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._vault_forget(bytea[]) IS 'Drops retired master keys from memory and from the file';

CREATE OR REPLACE FUNCTION a67_internal._vault_hold() RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_vault_hold' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._vault_hold() IS 'Forgets every key in memory; only a67.vault_unseal() ends that';

CREATE OR REPLACE FUNCTION a67_internal._vault_state(OUT held boolean, OUT failures bigint, OUT retry_at timestamptz,
    OUT key_ids bytea[], OUT sources text[])
AS 'MODULE_PATHNAME', 'a67_sql_vault_state' LANGUAGE C VOLATILE STRICT;

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
RETURNS TABLE (node_id uuid, status text, selectable boolean, near_quota boolean, last_seen_at timestamptz, boot_id text,
    state_version bigint, metrics_at timestamptz, cpu_percent real, memory_percent real, disk_percent real, load1 real,
    memory_free_bytes bigint, active_requests integer, latency_ms real, requests float8, failures float8,
    free_memory_bytes bigint, free_cpu float8, free_disk_bytes bigint)
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

-- Whether a chore of a worker is due: once a minute of the worker's clock, whichever way that runs. When it was done is remembered by
-- the session alone: a worker that starts does it at once.
CREATE OR REPLACE FUNCTION a67_internal._minute_due(chore text, now timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    name text := format('a67_internal.%s_at', chore);
    last timestamptz := nullif(current_setting(name, true), '')::timestamptz;
BEGIN
    IF now >= last AND now < last + interval '1 minute' THEN
        RETURN false;
    END IF;
    PERFORM set_config(name, now::text, false);
    RETURN true;
END
$$;
