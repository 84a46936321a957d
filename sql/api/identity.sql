-- Who acts, and the tokens that prove it.

-- The built-in administrator; made on first use, since rows of an extension script would collide with restored ones.
CREATE OR REPLACE FUNCTION a67_internal._operator_id() RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    id uuid;
BEGIN
    LOOP
        SELECT user_id INTO id FROM a67_internal."user" WHERE is_operator;
        EXIT WHEN FOUND;
        INSERT INTO a67_internal."user" (email, role, is_operator) VALUES ('operator@localhost', 'a67_admin', true)
        ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN id;
END
$$;

-- The user on whose behalf this session acts: the token's subject, or the operator for an administrator in psql.
CREATE OR REPLACE FUNCTION a67_internal._user_id() RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    id uuid := a67_internal._claims_user_id();
BEGIN
    IF id IS NULL AND a67_internal._is_admin() THEN
        id := a67_internal._operator_id();
    ELSE
        SELECT user_id INTO id FROM a67_internal."user" WHERE user_id = id;
    END IF;
    IF id IS NULL THEN
        RAISE EXCEPTION 'not authenticated' USING ERRCODE = 'PT401', HINT = 'Send a valid user token.';
    END IF;
    RETURN id;
END
$$;

-- The node whose token this session carries.
CREATE OR REPLACE FUNCTION a67_internal._node_id() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
BEGIN
    IF claims ->> 'role' IS DISTINCT FROM 'a67_node' THEN
        RAISE EXCEPTION 'only a node may do this' USING ERRCODE = '42501';
    END IF;
    RETURN (claims ->> 'sub')::uuid;
END
$$;

-- Makes a key of a kind. Its secret half is nowhere but in its row, sealed.
CREATE OR REPLACE FUNCTION a67_internal._key_create(kind text) RETURNS a67_internal.signing_key
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    new_kid text := encode(a67_internal._random_bytes(8), 'hex');
    fresh a67_internal.signing_key;
BEGIN
    INSERT INTO a67_internal.signing_key (kid, kind, public_key, sealed)
    SELECT new_kid, _key_create.kind, g.public_key, g.sealed FROM a67_internal._key_generate(_key_create.kind, new_kid) g
    RETURNING * INTO fresh;
    RETURN fresh;
END
$$;

-- The oldest live key of a kind, which all agree to sign with; made on first use. A retired HS256 key only verifies, and
-- its successor signs at once; an Ed25519 key goes on signing until its time is up, since agents must hear of the next
-- one first.
CREATE OR REPLACE FUNCTION a67_internal._current_key(kind text) RETURNS a67_internal.signing_key
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    found_key a67_internal.signing_key;
BEGIN
    LOOP
        SELECT * INTO found_key FROM a67_internal.signing_key k
        WHERE k.kind = _current_key.kind AND (k.retired_at IS NULL OR k.kind = 'ed25519' AND k.retired_at > now())
        ORDER BY k.created_at, k.kid LIMIT 1;
        EXIT WHEN FOUND;
        -- One maker at a time; the second looks again.
        PERFORM pg_advisory_xact_lock(hashtextextended('a67.signing_key', 0));
        IF NOT EXISTS (SELECT FROM a67_internal.signing_key k
                       WHERE k.kind = _current_key.kind AND k.retired_at IS NULL) THEN
            PERFORM a67_internal._vault_attach(), a67_internal._key_create(_current_key.kind);
        END IF;
    END LOOP;
    RETURN found_key;
END
$$;

-- Hands every HS256 key that a good token may bear to the listeners. At once, not at commit: a key too many does no
-- harm, while a token signed with a key that they do not have yet would be refused.
CREATE OR REPLACE FUNCTION a67_internal._keys_publish() RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._keyring_publish(array_agg(k.kid), array_agg(k.sealed))
    FROM (SELECT kid, sealed FROM a67_internal.signing_key
          WHERE kind = 'hs256' AND (retired_at IS NULL OR retired_at > now()) ORDER BY created_at DESC LIMIT 8) k
$$;

-- Makes what a new installation needs (keys, the operator, the catalogue of providers) and hands the verification keys to
-- the listener, as far as the vault is open; returns why it is not, and NULL when it is. The launcher calls it at start,
-- every minute and when woken; doing it again changes nothing.
CREATE OR REPLACE FUNCTION a67_internal._bootstrap() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    vault record;
BEGIN
    PERFORM a67_internal._operator_id(), a67_internal._provider_seed(), a67_internal._event_rebase();
    SELECT * INTO vault FROM a67_internal._vault_attach();
    IF NOT vault.opened THEN
        RETURN coalesce(vault.problem, 'No source has the master key of this database.');
    END IF;
    PERFORM a67_internal._current_key('hs256'), a67_internal._current_key('ed25519');
    PERFORM a67_internal._keys_publish();
    RETURN NULL;
END
$$;

-- An HS256 token of ours: sub, role and life; the rest of the claims is the same for all.
CREATE OR REPLACE FUNCTION a67_internal._token(sub uuid, role text, ttl interval) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    key a67_internal.signing_key := a67_internal._current_key('hs256');
    issued_at bigint := floor(extract(epoch FROM clock_timestamp()));
BEGIN
    RETURN a67_internal._jwt_sign(jsonb_build_object(
        'sub', sub, 'role', role, 'aud', 'a67', 'iat', issued_at,
        'exp', issued_at + ceil(extract(epoch FROM ttl))::bigint,
        'jti', encode(a67_internal._random_bytes(16), 'hex')), 'HS256', key.kid, key.sealed);
END
$$;

-- How an agent gets from the controller's key that it knows to the one of now: each key has signed the next one.
CREATE OR REPLACE FUNCTION a67_internal._key_handovers() RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(h.handover ORDER BY h.created_at, h.kid), '[]')
    FROM (SELECT k.handover, k.created_at, k.kid FROM a67_internal.signing_key k
          WHERE k.kind = 'ed25519' AND k.handover IS NOT NULL ORDER BY k.created_at DESC, k.kid DESC LIMIT 16) h
$$;

-- The token of one command to one agent (docs/protocol.md).
CREATE OR REPLACE FUNCTION a67_internal._command_token(key a67_internal.signing_key, node_id uuid, method text, path text,
    body text, now timestamptz) RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._jwt_sign(jsonb_build_object(
        'aud', node_id, 'iat', floor(extract(epoch FROM now))::bigint, 'exp', floor(extract(epoch FROM now))::bigint + 60,
        'jti', encode(a67_internal._random_bytes(16), 'hex'), 'method', method, 'path', path,
        'body_sha256', encode(sha256(convert_to(coalesce(body, ''), 'UTF8')), 'hex')), 'EdDSA', key.kid, key.sealed)
$$;

-- base64url without padding (RFC 4648 section 5).
CREATE OR REPLACE FUNCTION a67_internal._base64url(data bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT rtrim(translate(encode(data, 'base64'), E'+/\n', '-_'), '=')
$$;

CREATE OR REPLACE FUNCTION a67.user_create(email text, role text DEFAULT 'a67_user') RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    id uuid;
    address text := lower(btrim(user_create.email));
BEGIN
    IF address IS NULL OR length(address) > 254 OR address !~ '^[^@[:space:]]+@[^@[:space:]]+$' THEN
        RAISE EXCEPTION 'invalid e-mail address' USING ERRCODE = '22023', DETAIL = 'Field: email.';
    END IF;
    IF user_create.role IS NULL OR user_create.role NOT IN ('a67_user', 'a67_admin') THEN
        RAISE EXCEPTION 'invalid role "%"', user_create.role
            USING ERRCODE = '22023', DETAIL = 'Field: role.', HINT = 'Use a67_user or a67_admin.';
    END IF;
    INSERT INTO a67_internal."user" (email, role) VALUES (address, user_create.role)
    ON CONFLICT ON CONSTRAINT user_email_key DO NOTHING RETURNING user_id INTO id;
    IF id IS NULL THEN
        RAISE EXCEPTION 'user "%" already exists', address USING ERRCODE = '23505';
    END IF;
    PERFORM a67_internal._audit('user.create', 'ok', id::text);
    RETURN id;
END
$$;
COMMENT ON FUNCTION a67.user_create(text, text) IS 'Adds a user; returns the user id. Administrators only';

CREATE OR REPLACE FUNCTION a67.token_create(user_id uuid, ttl interval DEFAULT '1 hour') RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    user_role text;
BEGIN
    IF ttl IS NULL OR ttl <= interval '0' OR ttl > interval '7 days' THEN
        RAISE EXCEPTION 'token life must be above 0 and at most 7 days'
            USING ERRCODE = '22023', DETAIL = 'Field: ttl.';
    END IF;
    SELECT u.role INTO user_role FROM a67_internal."user" u WHERE u.user_id = token_create.user_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'user "%" does not exist', token_create.user_id USING ERRCODE = 'PT404';
    END IF;
    PERFORM a67_internal._audit('token.create', 'ok', token_create.user_id::text);
    RETURN a67_internal._token(token_create.user_id, user_role, ttl);
END
$$;
COMMENT ON FUNCTION a67.token_create(uuid, interval) IS 'An access token (JWT) for a user. Administrators only';
