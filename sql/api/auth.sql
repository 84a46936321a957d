-- Users, sessions and second factors. What a stranger may call (register, login, refresh) never raises for a wrong
-- secret: it answers an error object with status 401, so that the count of failures and the audit row are committed.

-- The error object of a refusal that must be remembered.
CREATE OR REPLACE FUNCTION a67_internal._refuse(message text, hint text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM set_config('response.status', '401', true);
    RETURN jsonb_build_object('code', 'PT401', 'message', message, 'details', NULL, 'hint', hint);
END
$$;

-- The one secret of a request: "password", or "password_hash" for clients that hash first. Both are hashed again.
CREATE OR REPLACE FUNCTION a67_internal._password(password text, password_hash text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF (password IS NULL) = (password_hash IS NULL) THEN
        RAISE EXCEPTION 'exactly one of "password" and "password_hash" is needed'
            USING ERRCODE = '22023', DETAIL = 'Field: password.';
    END IF;
    RETURN coalesce(password, password_hash);
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._password_new(password text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF length(password) < 8 OR octet_length(password) > 1024 THEN
        RAISE EXCEPTION 'password must have at least 8 characters and at most 1024 bytes'
            USING ERRCODE = '22023', DETAIL = 'Field: password.';
    END IF;
    RETURN a67_internal._password_hash(password);
END
$$;

-- The two tokens of a session. The refresh token is for auth_refresh only (another audience) and good once.
CREATE OR REPLACE FUNCTION a67_internal._session_tokens(s a67_internal.session) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    key a67_internal.signing_key := a67_internal._current_key('hs256');
    issued_at bigint := floor(extract(epoch FROM clock_timestamp()));
    user_role text;
BEGIN
    SELECT u.role INTO STRICT user_role FROM a67_internal."user" u WHERE u.user_id = s.user_id;
    RETURN jsonb_build_object(
        'access_token', a67_internal._jwt_sign(jsonb_build_object('sub', s.user_id, 'role', user_role, 'aud', 'a67',
            'sid', s.session_id, 'iat', issued_at, 'exp', issued_at + 3600, 'jti', gen_random_uuid()),
            'HS256', key.kid, key.sealed),
        'refresh_token', a67_internal._jwt_sign(jsonb_build_object('sub', s.user_id, 'role', 'a67_anon', 'aud', 'a67-refresh',
            'sid', s.session_id, 'iat', issued_at, 'exp', floor(extract(epoch FROM s.expires_at))::bigint, 'jti', s.refresh_id),
            'HS256', key.kid, key.sealed),
        'expires_in', 3600);
END
$$;

-- A new session of a user, at most 100 a user: the oldest go.
CREATE OR REPLACE FUNCTION a67_internal._session_start(user_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    s a67_internal.session;
BEGIN
    DELETE FROM a67_internal.session t WHERE t.session_id IN (
        SELECT o.session_id FROM a67_internal.session o WHERE o.user_id = _session_start.user_id
        ORDER BY (o.revoked_at IS NULL AND o.expires_at > now()) DESC, o.refreshed_at DESC OFFSET 99);
    INSERT INTO a67_internal.session (user_id, address, expires_at)
    VALUES (_session_start.user_id, nullif(current_setting('request.address', true), ''), now() + interval '7 days')
    RETURNING * INTO s;
    RETURN a67_internal._session_tokens(s);
END
$$;

CREATE OR REPLACE FUNCTION a67.auth_register(email text, password text DEFAULT NULL, password_hash text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    hash text;
    id uuid;
BEGIN
    IF NOT current_setting('a67.registration')::boolean THEN
        RAISE EXCEPTION 'registration is closed' USING ERRCODE = '42501', HINT = 'Ask an administrator for an account.';
    END IF;
    hash := a67_internal._password_new(a67_internal._password(password, password_hash));
    id := a67.user_create(email);
    INSERT INTO a67_internal.credential (user_id, password_hash) VALUES (id, hash);
    PERFORM a67_internal._audit('auth.register', 'ok', NULL, id);
    PERFORM set_config('response.status', '201', true);
    RETURN jsonb_build_object('user_id', id) || a67_internal._session_start(id);
END
$$;
COMMENT ON FUNCTION a67.auth_register(text, text, text) IS
    'Makes an account and logs in. password: at least 8 characters; password_hash: the same, hashed by the client';

-- Whether a code is right: a one-time password of this or a neighbouring time step, never one twice, or a recovery code.
CREATE OR REPLACE FUNCTION a67_internal._otp_check(c a67_internal.credential, otp text,
    now timestamptz DEFAULT clock_timestamp()) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    seed bytea := a67_internal._vault_open(c.totp_sealed, 'credential.totp_sealed:' || c.user_id);
    now_step bigint := floor(extract(epoch FROM _otp_check.now) / 30);
    code text := upper(regexp_replace(coalesce(otp, ''), '[^0-9A-Za-z]', '', 'g'));
    matched bigint;
BEGIN
    IF code ~ '^[0-9]{6}$' THEN
        SELECT max(step) INTO matched FROM generate_series(now_step - 1, now_step + 1) step
        WHERE step > c.totp_last_step AND a67_internal._totp(seed, step) = code;
        UPDATE a67_internal.credential t SET totp_last_step = matched
        WHERE t.user_id = c.user_id AND matched IS NOT NULL;
        RETURN matched IS NOT NULL;
    END IF;
    UPDATE a67_internal.recovery_code r SET used_at = _otp_check.now
    WHERE r.user_id = c.user_id AND r.used_at IS NULL AND r.code_hash = sha256(convert_to(code, 'UTF8'));
    RETURN FOUND;
END
$$;

-- Counts a wrong secret. From the fifth in a row on the account is locked for a time that doubles, 15 minutes at most.
CREATE OR REPLACE FUNCTION a67_internal._credential_fail(user_id uuid) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    UPDATE a67_internal.credential c
    SET failures = c.failures + 1,
        locked_until = CASE WHEN c.failures >= 4
            THEN clock_timestamp() + least(power(2, least(c.failures - 4, 20)) * interval '1 second', interval '15 minutes')
            ELSE c.locked_until END
    WHERE c.user_id = _credential_fail.user_id
$$;

CREATE OR REPLACE FUNCTION a67.auth_login(email text, password text DEFAULT NULL, password_hash text DEFAULT NULL,
    otp text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    secret text := a67_internal._password(password, password_hash);
    address text := lower(btrim(email));
    c a67_internal.credential;
    good boolean;
BEGIN
    IF address IS NULL THEN
        RAISE EXCEPTION 'field "email" is missing' USING ERRCODE = '22023', DETAIL = 'Field: email.';
    END IF;
    SELECT t.* INTO c FROM a67_internal.credential t JOIN a67_internal."user" u USING (user_id)
    WHERE u.email = address FOR UPDATE OF t;
    -- The same work for an unknown user, a locked account and a wrong password.
    good := a67_internal._password_check(secret, c.password_hash);
    IF c.user_id IS NULL OR c.locked_until > clock_timestamp() OR NOT good THEN
        IF c.locked_until <= clock_timestamp() THEN
            PERFORM a67_internal._credential_fail(c.user_id);
        END IF;
        PERFORM a67_internal._audit('auth.login', 'refused', 'password', c.user_id);
        RETURN a67_internal._refuse('wrong e-mail address or password');
    END IF;
    IF c.totp_confirmed_at IS NOT NULL AND otp IS NULL THEN
        PERFORM a67_internal._audit('auth.login', 'refused', 'mfa_required', c.user_id);
        RETURN a67_internal._refuse('mfa_required', 'Send the one-time password as "otp".');
    END IF;
    IF c.totp_confirmed_at IS NOT NULL AND NOT a67_internal._otp_check(c, otp) THEN
        PERFORM a67_internal._credential_fail(c.user_id), a67_internal._audit('auth.login', 'refused', 'otp', c.user_id);
        RETURN a67_internal._refuse('wrong one-time password');
    END IF;
    UPDATE a67_internal.credential t
    SET failures = 0, locked_until = '-infinity',
        password_hash = CASE WHEN a67_internal._password_outdated(t.password_hash)
            THEN a67_internal._password_hash(secret) ELSE t.password_hash END
    WHERE t.user_id = c.user_id;
    PERFORM a67_internal._audit('auth.login', 'ok', NULL, c.user_id);
    RETURN a67_internal._session_start(c.user_id);
END
$$;
COMMENT ON FUNCTION a67.auth_login(text, text, text, text) IS
    'Logs in: access token (1 h) and refresh token (7 days). 401 for wrong credentials, or "mfa_required" when otp is missing';

CREATE OR REPLACE FUNCTION a67.auth_refresh(refresh_token text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    claims jsonb := a67_internal._jwt_verify(refresh_token, 'a67-refresh');
    s a67_internal.session;
BEGIN
    SELECT * INTO s FROM a67_internal.session t WHERE t.session_id = (claims ->> 'sid')::uuid FOR UPDATE;
    IF NOT FOUND OR s.revoked_at IS NOT NULL OR s.expires_at <= now() THEN
        PERFORM a67_internal._audit('auth.refresh', 'refused', NULL, (claims ->> 'sub')::uuid);
        RETURN a67_internal._refuse('refresh token is invalid or expired', 'Log in again.');
    END IF;
    IF s.refresh_id <> (claims ->> 'jti')::uuid THEN
        -- A spent token: somebody has copied it. Which of the two is the thief cannot be known, so both are out.
        UPDATE a67_internal.session t SET revoked_at = now() WHERE t.session_id = s.session_id;
        PERFORM a67_internal._audit('auth.refresh', 'refused', 'reuse', s.user_id),
                a67_internal._alert_raise(s.user_id, 'critical', s.user_id, 'token-reuse:' || s.session_id,
                    'a refresh token was used twice: its session was ended');
        RETURN a67_internal._refuse('refresh token is invalid or expired', 'Log in again.');
    END IF;
    UPDATE a67_internal.session t
    SET refresh_id = gen_random_uuid(), refreshed_at = now(), expires_at = now() + interval '7 days'
    WHERE t.session_id = s.session_id RETURNING * INTO s;
    RETURN a67_internal._session_tokens(s);
END
$$;
COMMENT ON FUNCTION a67.auth_refresh(text) IS
    'New tokens for a refresh token, which is spent by it. A spent one ends the session and raises an alert';

-- The session of the caller's token; NULL for tokens of an administrator's making.
CREATE OR REPLACE FUNCTION a67_internal._claims_session_id() RETURNS uuid
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sid')::uuid
$$;

-- Before every request with a token: its session must not have been ended, and its role must still be the user's.
-- The listener calls it; PostgREST does as its db-pre-request. Planning anew would cost more than all the rest of it.
CREATE OR REPLACE FUNCTION a67.request_check() RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
BEGIN
    IF claims ->> 'sub' IS NULL OR claims ->> 'role' NOT IN ('a67_user', 'a67_admin') THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM a67_internal."user" u WHERE u.user_id = (claims ->> 'sub')::uuid AND u.role = claims ->> 'role')
       OR claims ? 'sid' AND NOT EXISTS (SELECT FROM a67_internal.session s WHERE s.session_id = (claims ->> 'sid')::uuid
                                         AND s.revoked_at IS NULL AND s.expires_at > now()) THEN
        RAISE EXCEPTION 'session has ended' USING ERRCODE = 'PT401', HINT = 'Log in again.';
    END IF;
END
$$;
COMMENT ON FUNCTION a67.request_check() IS 'Raises when the session of the request''s token has ended; called before each request';

CREATE OR REPLACE FUNCTION a67.auth_logout() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    UPDATE a67_internal.session s SET revoked_at = now()
    WHERE s.session_id = a67_internal._claims_session_id() AND s.revoked_at IS NULL;
    PERFORM a67_internal._audit('auth.logout', 'ok');
END
$$;
COMMENT ON FUNCTION a67.auth_logout() IS 'Ends the session of the token: neither it nor its refresh token is good any more';

CREATE OR REPLACE FUNCTION a67.auth_me() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
BEGIN
    RETURN (SELECT jsonb_build_object('user_id', u.user_id, 'email', u.email, 'role', u.role, 'created_at', u.created_at,
                                      'mfa', coalesce(c.totp_confirmed_at IS NOT NULL, false))
            FROM a67_internal."user" u LEFT JOIN a67_internal.credential c USING (user_id) WHERE u.user_id = caller);
END
$$;
COMMENT ON FUNCTION a67.auth_me() IS 'The calling user';

-- The caller's credential after the password was given again; NULL for a wrong one and while the account is locked.
-- Guesses are counted, since an access token that leaked must not become a way to try passwords; the count survives
-- because nothing is raised here.
CREATE OR REPLACE FUNCTION a67_internal._credential_prove(password text) RETURNS a67_internal.credential
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.credential;
    caller uuid := a67_internal._user_id();
BEGIN
    SELECT * INTO c FROM a67_internal.credential t WHERE t.user_id = caller FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this user has no password' USING ERRCODE = '22023';
    END IF;
    IF c.locked_until > clock_timestamp() THEN
        RETURN NULL;
    END IF;
    IF NOT a67_internal._password_check(password, c.password_hash) THEN
        PERFORM a67_internal._credential_fail(c.user_id);
        RETURN NULL;
    END IF;
    RETURN c;
END
$$;

CREATE OR REPLACE FUNCTION a67.auth_password_change(old_password text, new_password text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.credential;
    hash text := a67_internal._password_new(new_password);
BEGIN
    c := a67_internal._credential_prove(old_password);
    IF c.user_id IS NULL THEN
        PERFORM a67_internal._audit('auth.password_change', 'refused');
        RETURN a67_internal._refuse('wrong password');
    END IF;
    UPDATE a67_internal.credential t SET password_hash = hash, failures = 0, changed_at = now() WHERE t.user_id = c.user_id;
    UPDATE a67_internal.session s SET revoked_at = now()
    WHERE s.user_id = c.user_id AND s.revoked_at IS NULL AND s.session_id IS DISTINCT FROM a67_internal._claims_session_id();
    PERFORM a67_internal._audit('auth.password_change', 'ok');
    RETURN a67.auth_me();
END
$$;
COMMENT ON FUNCTION a67.auth_password_change(text, text) IS 'Sets a new password and ends every other session';

CREATE OR REPLACE FUNCTION a67.auth_mfa_enroll(password text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.credential := a67_internal._credential_prove(password);
    seed bytea := a67_internal._random_bytes(20);
    address text;
BEGIN
    IF c.user_id IS NULL THEN
        PERFORM a67_internal._audit('auth.mfa_enroll', 'refused');
        RETURN a67_internal._refuse('wrong password');
    END IF;
    IF c.totp_confirmed_at IS NOT NULL THEN
        RAISE EXCEPTION 'a second factor is active already' USING ERRCODE = '23505', HINT = 'Disable it first.';
    END IF;
    UPDATE a67_internal.credential t
    SET totp_sealed = a67_internal._vault_seal(seed, 'credential.totp_sealed:' || t.user_id), totp_last_step = 0
    WHERE t.user_id = c.user_id;
    PERFORM a67_internal._audit('auth.mfa_enroll', 'ok');
    SELECT email INTO address FROM a67_internal."user" u WHERE u.user_id = c.user_id;
    RETURN jsonb_build_object('secret', a67_internal._base32(seed), 'otpauth_uri', format(
        'otpauth://totp/Automator67:%s?secret=%s&issuer=Automator67&algorithm=SHA1&digits=6&period=30',
        replace(replace(address, '%', '%25'), '@', '%40'), a67_internal._base32(seed)));
END
$$;
COMMENT ON FUNCTION a67.auth_mfa_enroll(text) IS
    'A new seed for one-time passwords (RFC 6238), shown once; active after a67.auth_mfa_confirm()';

CREATE OR REPLACE FUNCTION a67.auth_mfa_confirm(code text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    c a67_internal.credential;
    codes text[];
BEGIN
    SELECT * INTO c FROM a67_internal.credential t WHERE t.user_id = caller FOR UPDATE;
    IF c.totp_sealed IS NULL OR c.totp_confirmed_at IS NOT NULL THEN
        RAISE EXCEPTION 'there is no second factor to confirm' USING ERRCODE = '22023', HINT = 'Enroll first.';
    END IF;
    IF c.locked_until > clock_timestamp() OR code !~ '^[0-9]{6}$' OR NOT a67_internal._otp_check(c, code) THEN
        IF c.locked_until <= clock_timestamp() THEN
            PERFORM a67_internal._credential_fail(caller);
        END IF;
        PERFORM a67_internal._audit('auth.mfa_confirm', 'refused');
        RETURN a67_internal._refuse('wrong one-time password');
    END IF;
    UPDATE a67_internal.credential t SET totp_confirmed_at = now(), failures = 0 WHERE t.user_id = caller;
    SELECT array_agg(regexp_replace(a67_internal._base32(a67_internal._random_bytes(10)), '(.{4})(?=.)', '\1-', 'g')) INTO codes
    FROM generate_series(1, 10);
    DELETE FROM a67_internal.recovery_code r WHERE r.user_id = caller;
    INSERT INTO a67_internal.recovery_code (user_id, code_hash)
    SELECT caller, sha256(convert_to(replace(one, '-', ''), 'UTF8')) FROM unnest(codes) one;
    PERFORM a67_internal._audit('auth.mfa_confirm', 'ok');
    RETURN jsonb_build_object('recovery_codes', codes);
END
$$;
COMMENT ON FUNCTION a67.auth_mfa_confirm(text) IS
    'Activates the second factor with a first code; returns ten recovery codes, shown once, each good once';

CREATE OR REPLACE FUNCTION a67.auth_mfa_disable(password text, code text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.credential := a67_internal._credential_prove(password);
BEGIN
    IF c.user_id IS NOT NULL AND c.totp_confirmed_at IS NULL THEN
        RAISE EXCEPTION 'no second factor is active' USING ERRCODE = '22023';
    END IF;
    IF c.user_id IS NULL OR NOT a67_internal._otp_check(c, code) THEN
        PERFORM a67_internal._credential_fail(c.user_id), a67_internal._audit('auth.mfa_disable', 'refused');
        RETURN a67_internal._refuse('wrong password or one-time password');
    END IF;
    UPDATE a67_internal.credential t SET totp_sealed = NULL, totp_confirmed_at = NULL, failures = 0 WHERE t.user_id = c.user_id;
    DELETE FROM a67_internal.recovery_code r WHERE r.user_id = c.user_id;
    PERFORM a67_internal._audit('auth.mfa_disable', 'ok');
    RETURN a67.auth_me();
END
$$;
COMMENT ON FUNCTION a67.auth_mfa_disable(text, text) IS 'Takes the second factor away; needs the password and a code';

-- The keys that tokens are verified with, as a JSON Web Key Set (RFC 7517) for PostgREST: docs/postgrest.md. Whoever has
-- it can make tokens, so nobody is granted this, and each call is on record.
CREATE OR REPLACE FUNCTION a67_internal._jwks() RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._audit('signing_key.export', 'ok');
    RETURN (SELECT jsonb_build_object('keys', jsonb_agg(jsonb_build_object(
                'kty', 'oct', 'use', 'sig', 'alg', 'HS256', 'kid', k.kid,
                'k', a67_internal._base64url(a67_internal._vault_open(k.sealed, 'signing_key.sealed:' || k.kid)))
                ORDER BY k.created_at DESC))
            FROM a67_internal.signing_key k WHERE k.kind = 'hs256' AND (k.retired_at IS NULL OR k.retired_at > now()));
END
$$;
COMMENT ON FUNCTION a67_internal._jwks() IS 'JSON Web Key Set of the live HS256 keys: secret. Superusers only';
