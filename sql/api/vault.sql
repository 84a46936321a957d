-- The vault: state, unsealing, rotation of the master key.
-- A sealed value names the key that its data key is wrapped under (bytes 2 to 9), so that a rotation needs no list of
-- what is left to do: it is whatever still names an old key. Keys are in memory only (src/crypto); here are their ids.

-- Every sealed column of a67_internal. Whoever adds one adds it here, with an index on substring(COLUMN FROM 2 FOR 8)
-- unless the table stays small: rotation looks for old keys through it.
CREATE OR REPLACE FUNCTION a67_internal._sealed_columns() RETURNS TABLE (table_name text, column_name text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    VALUES ('signing_key', 'sealed'),
           ('credential', 'totp_sealed'),
           ('provider', 'restart_secret_sealed'),
           ('oauth_credential', 'client_secret_sealed'),
           ('oauth_credential', 'access_token_sealed'),
           ('oauth_credential', 'refresh_token_sealed'),
           ('secret', 'sealed'),
           ('release', 'env_sealed'),
           ('channel', 'config_sealed'),
           ('outbox', 'target_sealed'),
           ('database_shard', 'connection_sealed'),
           ('shard_replica', 'connection_sealed')
$$;

-- Brings the keys in memory to what the row says, from the sources if need be; makes row, and key file, when there is
-- neither. Returns whether the vault is open. Called at start, when woken, and by whoever needs the first key of all.
CREATE OR REPLACE FUNCTION a67_internal._vault_attach(OUT opened boolean, OUT problem text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    v a67_internal.vault;
    held record;
    loaded record;
BEGIN
    SELECT * INTO held FROM a67_internal._vault_state();
    SELECT * INTO v FROM a67_internal.vault;
    opened := held.key_ids[1] IS NOT DISTINCT FROM v.key_id AND v.key_id IS NOT NULL AND v.old_key_ids <@ held.key_ids;
    IF opened AND held.key_ids && v.retired_key_ids THEN
        PERFORM a67_internal._vault_forget(v.retired_key_ids);
    END IF;
    IF opened OR held.held THEN
        problem := CASE WHEN NOT opened THEN 'It was sealed on purpose.' END;
        RETURN;
    END IF;
    SELECT * INTO loaded FROM a67_internal._vault_load(v.key_id, coalesce(v.old_key_ids, '{}'), NULL, NULL, NULL, NULL,
        v.key_id IS NULL);
    opened := loaded.current_id IS NOT NULL;
    problem := loaded.problem;
    IF opened AND v.key_id IS NULL THEN
        INSERT INTO a67_internal.vault (key_id) VALUES (loaded.current_id) ON CONFLICT DO NOTHING;
    END IF;
    IF opened AND v.key_id IS NOT NULL THEN
        PERFORM a67_internal._vault_forget(v.retired_key_ids);
    END IF;
    IF opened AND held.key_ids = '{}' THEN
        PERFORM a67_internal._vault_opened();
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._vault_event(type text, payload jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._event(o.id, _vault_event.type, o.id, _vault_event.payload) FROM a67_internal._operator_id() o (id)
$$;

-- While the vault was sealed nobody could report: what had to be healthy by some time gets the whole time again.
CREATE OR REPLACE FUNCTION a67_internal._vault_opened() RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    -- Rows that somebody else changes just now are no news of the time before.
    UPDATE a67_internal.replica r SET deadline_at = now() + current_setting('a67.deploy_timeout')::interval
    FROM (SELECT t.replica_id FROM a67_internal.replica t WHERE t.deadline_at IS NOT NULL FOR UPDATE SKIP LOCKED) waiting
    WHERE r.replica_id = waiting.replica_id
$$;

CREATE OR REPLACE FUNCTION a67.vault_status() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    v a67_internal.vault;
    held record;
BEGIN
    SELECT * INTO v FROM a67_internal.vault;
    SELECT * INTO held FROM a67_internal._vault_state();
    RETURN jsonb_build_object(
        'sealed', a67_internal._vault_is_sealed(),
        'held', held.held,
        'key_id', encode(v.key_id, 'hex'),
        'passphrase', v.kdf_salt IS NOT NULL,
        'keys', (SELECT coalesce(jsonb_agg(jsonb_build_object('key_id', encode(k.id, 'hex'), 'source', k.source,
                                                              'current', k.id = v.key_id) ORDER BY k.ordinal), '[]')
                 FROM unnest(held.key_ids, held.sources) WITH ORDINALITY k (id, source, ordinal)),
        'failures', held.failures,
        'retry_at', held.retry_at,
        'rotation', CASE WHEN v.rotated_at IS NOT NULL THEN jsonb_build_object(
            'running', v.old_key_ids <> '{}', 'started_at', v.rotated_at, 'finished_at', v.finished_at,
            'rewrapped', v.rewrapped, 'remaining', a67_internal._vault_remaining(v.old_key_ids),
            'missing', (SELECT coalesce(jsonb_agg(encode(old, 'hex')), '[]') FROM unnest(v.old_key_ids) old
                        WHERE old <> ALL (held.key_ids))) END);
END
$$;
COMMENT ON FUNCTION a67.vault_status() IS
    'Whether the vault is sealed, which master keys are held and where they came from, how a rotation gets on. Administrators only';

-- Sealed values that name one of these keys.
CREATE OR REPLACE FUNCTION a67_internal._vault_remaining(key_ids bytea[]) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c record;
    one bigint;
    total bigint := 0;
BEGIN
    IF key_ids = '{}' THEN
        RETURN 0;
    END IF;
    FOR c IN SELECT * FROM a67_internal._sealed_columns() LOOP
        EXECUTE format('SELECT count(*) FROM a67_internal.%I WHERE substring(%I FROM 2 FOR 8) = ANY ($1)', c.table_name, c.column_name)
        INTO one USING key_ids;
        total := total + one;
    END LOOP;
    RETURN total;
END
$$;

-- A wrong key is answered with an error object instead of an error, so that the audit row is committed. It says the
-- same whether the key was wrong, was not looked at because of earlier wrong ones, or is of the wrong shape.
CREATE OR REPLACE FUNCTION a67.vault_unseal(key text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    v a67_internal.vault;
    was_sealed boolean := a67_internal._vault_is_sealed();
    loaded record;
BEGIN
    SELECT * INTO v FROM a67_internal.vault FOR UPDATE;
    IF length(key) > 1024 THEN
        RAISE EXCEPTION 'key is too long' USING ERRCODE = '22023', DETAIL = 'Field: key.';
    END IF;
    SELECT * INTO loaded FROM a67_internal._vault_load(v.key_id, coalesce(v.old_key_ids, '{}'), vault_unseal.key, v.kdf_salt,
        v.kdf_iterations, v.kdf_memory_kb, false);
    IF loaded.current_id IS NULL THEN
        PERFORM a67_internal._audit('vault.unseal', 'refused'), set_config('response.status', '403', true);
        RETURN jsonb_build_object('code', 'PT403', 'message', 'could not unseal the vault', 'details', loaded.problem,
            'hint', 'Give the master key of this database. After wrong ones wait: a67.vault_status() says how long.');
    END IF;
    IF v.key_id IS NULL THEN
        INSERT INTO a67_internal.vault (key_id) VALUES (loaded.current_id);
    END IF;
    PERFORM a67_internal._audit('vault.unseal', 'ok', encode(loaded.current_id, 'hex'));
    IF was_sealed THEN
        PERFORM a67_internal._vault_opened(), a67_internal._vault_event('vault.unsealed', '{}');
    END IF;
    PERFORM a67_internal._bootstrap();
    PERFORM a67_internal._wake('launcher'), a67_internal._wake('vault'), a67_internal._wake('reconciler');
    RETURN a67.vault_status();
END
$$;
COMMENT ON FUNCTION a67.vault_unseal(text) IS
    'Opens the vault with the master key (64 hex digits) or passphrase; without an argument the sources are read again. Administrators only';

CREATE OR REPLACE FUNCTION a67.vault_seal() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    -- The keys go first: they are gone even if the rest fails.
    PERFORM a67_internal._vault_hold();
    PERFORM a67_internal._audit('vault.seal', 'ok'),
            a67_internal._vault_event('vault.sealed', '{}'), a67_internal._wake('launcher');
    RETURN a67.vault_status();
END
$$;
COMMENT ON FUNCTION a67.vault_seal() IS
    'Forgets all keys in memory at once: nothing secret works any more until a67.vault_unseal() or a restart. Administrators only';

-- ---- rotation ----

CREATE OR REPLACE FUNCTION a67.vault_rotate(passphrase text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    v a67_internal.vault;
    salt bytea := CASE WHEN passphrase IS NOT NULL THEN a67_internal._random_bytes(16) END;
    next_id bytea;
BEGIN
    PERFORM a67_internal._vault_require();
    IF current_database() <> current_setting('a67.database') THEN
        RAISE EXCEPTION 'master keys belong to database "%"', current_setting('a67.database') USING ERRCODE = '55000';
    END IF;
    IF length(passphrase) < 12 OR octet_length(passphrase) > 1024 OR passphrase ~ '^[0-9A-Fa-f]{64}$' THEN
        RAISE EXCEPTION 'passphrase must have at least 12 characters and at most 1024 bytes, and not look like a key'
            USING ERRCODE = '22023', DETAIL = 'Field: passphrase.';
    END IF;
    SELECT * INTO STRICT v FROM a67_internal.vault FOR UPDATE;
    IF v.old_key_ids <> '{}' THEN
        RAISE EXCEPTION 'a rotation is under way' USING ERRCODE = 'PT409', HINT = 'See a67.vault_status().';
    END IF;
    -- 64 MB and three passes: what one guess costs.
    next_id := a67_internal._vault_adopt(v.key_id, passphrase, salt, 3, 65536);
    IF next_id = ANY (v.key_id || v.retired_key_ids) THEN
        RAISE EXCEPTION 'this master key has been used before' USING ERRCODE = '22023',
            HINT = 'Make a new one, for example by "openssl rand -hex 32".';
    END IF;
    UPDATE a67_internal.vault
    SET key_id = next_id, old_key_ids = ARRAY[v.key_id], rotated_at = clock_timestamp(), finished_at = NULL, rewrapped = 0,
        kdf_salt = salt, kdf_iterations = CASE WHEN salt IS NOT NULL THEN 3 END,
        kdf_memory_kb = CASE WHEN salt IS NOT NULL THEN 65536 END;
    PERFORM a67_internal._audit('vault.rotate', 'ok', encode(next_id, 'hex')),
            a67_internal._vault_event('vault.rotating',
                jsonb_build_object('key_id', encode(next_id, 'hex'), 'old_key_id', encode(v.key_id, 'hex'))),
            a67_internal._wake('vault');
    RETURN a67.vault_status();
END
$$;
COMMENT ON FUNCTION a67.vault_rotate(text) IS
    'Changes the master key, to the one that the sources give first, a new one in the file, or one derived from a passphrase, and wraps every secret anew in the background. Administrators only';

-- Wraps at most so many values of old keys anew; rows that somebody holds, and values that no held key opens, are left.
CREATE OR REPLACE FUNCTION a67_internal._vault_rewrap_some(key_ids bytea[], batch integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c record;
    one integer;
    total integer := 0;
BEGIN
    FOR c IN SELECT * FROM a67_internal._sealed_columns() LOOP
        EXIT WHEN total >= batch;
        EXECUTE format($sql$
            UPDATE a67_internal.%1$I t SET %2$I = a67_internal._vault_rewrap(t.%2$I)
            WHERE t.ctid = ANY (ARRAY(
                SELECT o.ctid FROM a67_internal.%1$I o
                WHERE substring(o.%2$I FROM 2 FOR 8) = ANY ($1) AND a67_internal._vault_rewrap(o.%2$I) IS NOT NULL
                LIMIT $2 FOR UPDATE SKIP LOCKED))$sql$, c.table_name, c.column_name)
        USING key_ids, batch - total;
        GET DIAGNOSTICS one = ROW_COUNT;
        total := total + one;
    END LOOP;
    RETURN total;
END
$$;

-- One step of a rotation. The rows say all there is to know, so any step may be the last before a crash.
CREATE OR REPLACE FUNCTION a67_internal._vault_rotation_step(now timestamptz, batch integer DEFAULT 2000) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    v a67_internal.vault;
    done integer;
    old_id bytea;
BEGIN
    IF a67_internal._vault_is_sealed() THEN
        RETURN 0;
    END IF;
    SELECT * INTO v FROM a67_internal.vault WHERE old_key_ids <> '{}' FOR UPDATE;
    -- From here on every new value is sealed under the new key.
    IF NOT FOUND OR NOT a67_internal._vault_select(v.key_id) THEN
        RETURN 0;
    END IF;
    done := a67_internal._vault_rewrap_some(v.old_key_ids, batch);
    IF done > 0 THEN
        UPDATE a67_internal.vault SET rewrapped = rewrapped + done;
        PERFORM a67_internal._wake('vault');
        RETURN done;
    END IF;
    -- Values that were sealed under an old key just before become visible now, or their transactions are waited for.
    FOREACH old_id IN ARRAY v.old_key_ids LOOP
        IF NOT a67_internal._vault_fence(old_id) THEN
            RETURN 0;
        END IF;
    END LOOP;
    done := a67_internal._vault_remaining(v.old_key_ids);
    IF done > 0 THEN
        IF v.rotated_at < _vault_rotation_step.now - interval '1 minute' THEN
            PERFORM a67_internal._alert_raise(a67_internal._operator_id(), 'warning', a67_internal._operator_id(), 'vault-rotation',
                'the rotation of the master key does not end: some values are locked or their key is missing');
        END IF;
        RETURN 0;
    END IF;
    UPDATE a67_internal.vault
    SET old_key_ids = '{}', retired_key_ids = (retired_key_ids || v.old_key_ids)[greatest(cardinality(retired_key_ids) - 14, 1):],
        finished_at = clock_timestamp();
    PERFORM a67_internal._audit('vault.retire', 'ok', encode(v.old_key_ids[1], 'hex')),
            a67_internal._vault_event('vault.rotated',
                jsonb_build_object('key_id', encode(v.key_id, 'hex'), 'rewrapped', v.rewrapped)),
            a67_internal._alert_resolve('vault-rotation'), a67_internal._wake('launcher'), a67_internal._wake('vault');
    RETURN 0;
END
$$;

-- ---- rotation of the keys that sign ----

-- HS256: at most six that are retired but still accepted, so that the keyring has room.
CREATE OR REPLACE FUNCTION a67_internal._hs256_rotate() RETURNS a67_internal.signing_key
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    fresh a67_internal.signing_key;
BEGIN
    IF (SELECT count(*) FROM a67_internal.signing_key k WHERE k.kind = 'hs256' AND k.retired_at > now()) >= 6 THEN
        RAISE EXCEPTION 'too many keys are in use' USING ERRCODE = '53000',
            HINT = 'Tokens of earlier keys are still good; wait until they have expired.';
    END IF;
    UPDATE a67_internal.signing_key k
    SET retired_at = now() + greatest(interval '7 days', current_setting('a67.node_token_lifetime')::interval) + interval '1 hour'
    WHERE k.kind = 'hs256' AND k.retired_at IS NULL;
    fresh := a67_internal._key_create('hs256');
    PERFORM a67_internal._keys_publish();
    RETURN fresh;
END
$$;

-- Ed25519: agents obey one key only, the one of their join token. The old key signs the new one, which agents are told
-- with their next node token; when every node token has been renewed, and an hour later, the new key signs commands.
CREATE OR REPLACE FUNCTION a67_internal._ed25519_rotate() RETURNS a67_internal.signing_key
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    old_key a67_internal.signing_key := a67_internal._current_key('ed25519');
    fresh a67_internal.signing_key;
BEGIN
    IF old_key.retired_at IS NOT NULL THEN
        RAISE EXCEPTION 'agents are still being told the key of the last rotation' USING ERRCODE = 'PT409',
            DETAIL = format('It takes over at %s.', old_key.retired_at);
    END IF;
    fresh := a67_internal._key_create('ed25519');
    UPDATE a67_internal.signing_key k
    SET retired_at = now() + current_setting('a67.node_token_lifetime')::interval + interval '1 hour',
        handover = a67_internal._jwt_sign(jsonb_build_object('sub', 'controller-key',
            'next', a67_internal._base64url(fresh.public_key), 'iat', floor(extract(epoch FROM now()))::bigint),
            'EdDSA', old_key.kid, old_key.sealed)
    WHERE k.kid = old_key.kid;
    RETURN fresh;
END
$$;

CREATE OR REPLACE FUNCTION a67.signing_key_rotate(kind text DEFAULT 'hs256') RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    fresh a67_internal.signing_key;
BEGIN
    IF kind IS NULL OR kind NOT IN ('hs256', 'ed25519') THEN
        RAISE EXCEPTION 'unknown kind of key "%"', kind
            USING ERRCODE = '22023', DETAIL = 'Field: kind.', HINT = 'Use hs256 or ed25519.';
    END IF;
    PERFORM a67_internal._vault_require(), a67_internal._current_key(kind);
    PERFORM pg_advisory_xact_lock(hashtextextended('a67.signing_key', 0));
    IF kind = 'hs256' THEN
        fresh := a67_internal._hs256_rotate();
    ELSE
        fresh := a67_internal._ed25519_rotate();
    END IF;
    PERFORM a67_internal._audit('signing_key.rotate', 'ok', fresh.kid);
    RETURN fresh.kid;
END
$$;
COMMENT ON FUNCTION a67.signing_key_rotate(text) IS
    'Makes a new key that signs tokens (hs256: at once, the old one is accepted until its last token has expired) or commands to agents (ed25519: when all of them have been told). Administrators only';

-- Erases keys whose time is over. Of an Ed25519 key the public half and the hand-over stay, for agents that come late.
CREATE OR REPLACE FUNCTION a67_internal._signing_key_step(now timestamptz) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    DELETE FROM a67_internal.signing_key k WHERE k.kind = 'hs256' AND k.retired_at < _signing_key_step.now;
    UPDATE a67_internal.signing_key k SET sealed = NULL
    WHERE k.kind = 'ed25519' AND k.retired_at < _signing_key_step.now AND k.sealed IS NOT NULL
$$;

-- ---- the worker "vault": rotations, and what must be asked of others over HTTP ----

CREATE OR REPLACE FUNCTION a67_internal._vault_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._vault_rotation_step(_vault_plan.now);
    PERFORM a67_internal._signing_key_step(_vault_plan.now);
    RETURN QUERY SELECT * FROM a67_internal._oauth_plan(_vault_plan.now);
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._vault_record(now timestamptz, keys text[], statuses integer[], bodies text[], errors text[])
RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN a67_internal._oauth_record(_vault_record.now, keys, statuses, bodies, errors);
END
$$;
