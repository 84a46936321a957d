-- OAuth 2.0: tokens are refreshed before they expire (RFC 6749 section 6) and revoked (RFC 7009). The worker "vault" sends
-- what _oauth_plan returns and tells _oauth_record the answers. A request is leased by next_attempt_at and fenced by epoch,
-- and keeps its key for as long as it means the same: no refresh token, which may be good once only, is on its way twice.

-- application/x-www-form-urlencoded, of one value.
CREATE OR REPLACE FUNCTION a67_internal._form_encode(value text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(string_agg(CASE WHEN chr(byte) ~ '[A-Za-z0-9._*-]' AND byte < 128 THEN chr(byte)
                                    WHEN byte = 32 THEN '+' ELSE '%' || upper(lpad(to_hex(byte), 2, '0')) END, '' ORDER BY i), '')
    FROM (SELECT i, get_byte(bytes, i) AS byte
          FROM convert_to(value, 'UTF8') bytes, generate_series(0, octet_length(bytes) - 1) i) b
$$;

-- The same of names and values in turn; a value that is NULL is left out together with its name.
CREATE OR REPLACE FUNCTION a67_internal._form(VARIADIC fields text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT string_agg(fields[i] || '=' || a67_internal._form_encode(fields[i + 1]), '&' ORDER BY i)
    FROM generate_series(1, cardinality(fields) - 1, 2) i
$$;

CREATE OR REPLACE FUNCTION a67_internal._oauth_seal(credential_id uuid, field text, secret text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._vault_seal(convert_to(secret, 'UTF8'), 'oauth_credential.' || field || ':' || credential_id)
$$;

CREATE OR REPLACE FUNCTION a67_internal._oauth_open(credential_id uuid, field text, sealed bytea) RETURNS text
LANGUAGE sql VOLATILE STRICT
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT convert_from(a67_internal._vault_open(sealed, 'oauth_credential.' || field || ':' || credential_id), 'UTF8')
$$;

-- When a token that is good for that long is refreshed: after 80 % of its life or 5 minutes before its end, whichever is
-- earlier, but not in its first half; up to a tenth earlier, so that what was stored together is not refreshed together.
CREATE OR REPLACE FUNCTION a67_internal._oauth_due(now timestamptz, life_s float8, seed bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT now + make_interval(secs => greatest(1,
        greatest(least(life_s * 0.8, life_s - 300), life_s * 0.5) * (1 - abs(seed % 1000) / 10000.0)))
$$;

CREATE OR REPLACE FUNCTION a67_internal._oauth_refuse(field text, why text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '%', why USING ERRCODE = '22023', DETAIL = format('Field: %s.', field);
END
$$;

-- Whether requests may be sent there. Secrets go over TLS, except to this very machine where that is allowed at all.
CREATE OR REPLACE FUNCTION a67_internal._oauth_url_check(field text, url text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF url IS NULL THEN
        RETURN;
    END IF;
    IF length(url) > 2000 OR url ~ '#'
       OR url !~ '^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?([/?][!-~]*)?$' THEN
        PERFORM a67_internal._oauth_refuse(field, field || ' must be an absolute URL without user name and fragment');
    END IF;
    IF url !~ '^https:' AND NOT (current_setting('a67.outbound_private')::boolean
                                 AND url ~ '^http://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])([:/?]|$)') THEN
        PERFORM a67_internal._oauth_refuse(field, field || ' must begin with https://');
    END IF;
END
$$;

-- What an OAuth parameter may be: visible ASCII and spaces (RFC 6749 appendix A), not empty, not too long.
CREATE OR REPLACE FUNCTION a67_internal._oauth_text_check(field text, value text, longest integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF value = '' OR length(value) > longest OR value ~ '[^ -~]' THEN
        PERFORM a67_internal._oauth_refuse(field, format('%s must be 1 to %s ASCII characters', field, longest));
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._oauth_scopes_valid(scopes text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT cardinality(scopes) <= 100
           AND NOT EXISTS (SELECT FROM unnest(scopes) s WHERE s IS NULL OR length(s) > 200 OR s !~ '^[!#-\[\]-~]+$')
$$;

-- ---- requests ------------------------------------------------------------------------------------------------------

-- One request of a credential: to refresh it, or to revoke the tokens that are left of it one after another.
CREATE OR REPLACE FUNCTION a67_internal._oauth_request(c a67_internal.oauth_credential, OUT key text, OUT url text, OUT body text,
    OUT headers text[]) RETURNS record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    act text := CASE c.status WHEN 'revoking' THEN 'revoke' ELSE 'refresh' END;
    secret text := a67_internal._oauth_open(c.credential_id, 'client_secret_sealed', c.client_secret_sealed);
    field text := CASE WHEN c.refreshable THEN 'refresh_token' ELSE 'access_token' END;
    token text := a67_internal._oauth_open(c.credential_id, field || '_sealed',
        CASE WHEN c.refreshable THEN c.refresh_token_sealed ELSE c.access_token_sealed END);
    in_header boolean := secret IS NOT NULL AND c.client_auth = 'basic';
BEGIN
    key := concat_ws(' ', 'oauth', act, c.credential_id, c.epoch);
    url := CASE act WHEN 'revoke' THEN c.revocation_url ELSE c.token_url END;
    -- A client without a secret names itself in the body (RFC 6749 section 3.2.1).
    body := concat_ws('&',
        CASE act WHEN 'revoke' THEN a67_internal._form('token', token, 'token_type_hint', field)
                 ELSE a67_internal._form('grant_type', 'refresh_token', 'refresh_token', token) END,
        CASE WHEN NOT in_header THEN a67_internal._form('client_id', c.client_id, 'client_secret', secret) END);
    headers := ARRAY['Content-Type: application/x-www-form-urlencoded', 'Accept: application/json']
        || CASE WHEN in_header THEN ARRAY['Authorization: Basic ' || translate(encode(convert_to(
            a67_internal._form_encode(c.client_id) || ':' || a67_internal._form_encode(secret), 'UTF8'), 'base64'), E'\n', '')]
           ELSE '{}' END;
END
$$;

-- Tokens that nothing can renew: their owner is told before they end, and again when they have.
CREATE OR REPLACE FUNCTION a67_internal._oauth_expire(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.oauth_credential;
BEGIN
    FOR c IN
        SELECT * FROM a67_internal.oauth_credential t
        WHERE t.status = 'active' AND NOT t.refreshable AND t.next_attempt_at <= _oauth_expire.now
        ORDER BY t.next_attempt_at LIMIT 64 FOR UPDATE SKIP LOCKED
    LOOP
        IF c.expires_at > now THEN
            UPDATE a67_internal.oauth_credential t SET next_attempt_at = t.expires_at WHERE t.credential_id = c.credential_id;
            PERFORM a67_internal._alert_raise(c.owner_id, 'warning', c.credential_id, 'oauth-refresh:' || c.credential_id,
                format('credential for provider "%s" expires at %s and has no refresh token: store a new one', c.provider,
                       to_char(c.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')));
        ELSE
            PERFORM a67_internal._oauth_failed(c, now, 'expired', true);
        END IF;
    END LOOP;
END
$$;

-- Leases the requests that are due, at most 64. One whose secrets do not open says so and leaves the others alone.
CREATE OR REPLACE FUNCTION a67_internal._oauth_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.oauth_credential;
    patience interval := current_setting('a67.outbound_timeout')::interval;
BEGIN
    IF a67_internal._vault_is_sealed() THEN
        RETURN;
    END IF;
    DELETE FROM a67_internal.oauth_credential t
    WHERE t.status = 'revoked' AND t.updated_at < _oauth_plan.now - interval '7 days';
    PERFORM a67_internal._oauth_expire(_oauth_plan.now);
    method := 'POST';
    timeout_ms := extract(epoch FROM patience) * 1000;
    FOR c IN
        SELECT * FROM a67_internal.oauth_credential t
        WHERE t.next_attempt_at <= _oauth_plan.now AND (t.status = 'revoking' OR t.status = 'active' AND t.refreshable)
        ORDER BY t.next_attempt_at LIMIT 64 FOR UPDATE SKIP LOCKED
    LOOP
        BEGIN
            SELECT r.key, r.url, r.body, r.headers INTO key, url, body, headers FROM a67_internal._oauth_request(c) r;
        EXCEPTION WHEN SQLSTATE '22000' THEN
            IF c.status = 'revoking' THEN
                PERFORM a67_internal._oauth_revoke_record(c, _oauth_plan.now, 0, NULL, 'secrets do not open');
            ELSE
                PERFORM a67_internal._oauth_failed(c, _oauth_plan.now, 'secrets do not open', true);
            END IF;
            CONTINUE;
        END;
        UPDATE a67_internal.oauth_credential t
        SET under_way = true, next_attempt_at = _oauth_plan.now + patience + interval '1 s'
        WHERE t.credential_id = c.credential_id;
        RETURN NEXT;
    END LOOP;
END
$$;

-- ---- answers -------------------------------------------------------------------------------------------------------

-- What went wrong, in words of ours: a provider could put anything into its own.
CREATE OR REPLACE FUNCTION a67_internal._oauth_reason(status integer, body text, error text, OUT reason text, OUT final boolean)
RETURNS record
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    code text;
BEGIN
    final := false;
    IF status = 0 THEN
        reason := left(coalesce(error, 'no answer'), 100);
        RETURN;
    END IF;
    reason := CASE WHEN status BETWEEN 200 AND 299 THEN 'malformed answer' ELSE 'HTTP ' || status END;
    IF status BETWEEN 400 AND 499 AND status NOT IN (408, 429) THEN
        code := body::jsonb ->> 'error';
        IF code IN ('invalid_request', 'invalid_client', 'invalid_grant', 'unauthorized_client', 'unsupported_grant_type',
                    'invalid_scope', 'unsupported_token_type') THEN
            reason := code;
            final := true;
        END IF;
    END IF;
EXCEPTION WHEN OTHERS THEN
    RETURN;
END
$$;

-- The tokens of an answer (RFC 6749 section 5.1), or NULL when it holds none. Numbers may come as strings.
CREATE OR REPLACE FUNCTION a67_internal._oauth_tokens(body text, OUT access_token text, OUT refresh_token text, OUT token_type text,
    OUT scopes text[], OUT life_s float8) RETURNS record
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    answer jsonb;
BEGIN
    answer := body::jsonb;
    IF jsonb_typeof(answer) <> 'object' OR jsonb_typeof(answer -> 'access_token') <> 'string' THEN
        RETURN;
    END IF;
    PERFORM a67_internal._oauth_text_check('access_token', answer ->> 'access_token', 16384),
        a67_internal._oauth_text_check('refresh_token', nullif(answer ->> 'refresh_token', ''), 16384);
    refresh_token := nullif(answer ->> 'refresh_token', '');
    token_type := CASE WHEN answer ->> 'token_type' ~ '^[!-~]{1,50}$' THEN answer ->> 'token_type' END;
    scopes := CASE WHEN answer ->> 'scope' <> '' THEN string_to_array(btrim(answer ->> 'scope'), ' ') END;
    scopes := CASE WHEN a67_internal._oauth_scopes_valid(scopes) THEN scopes END;
    life_s := CASE WHEN answer ->> 'expires_in' ~ '^[0-9]{1,9}(\.[0-9]+)?$' THEN nullif((answer ->> 'expires_in')::float8, 0) END;
    access_token := answer ->> 'access_token';
EXCEPTION WHEN OTHERS THEN
    -- What a provider sends must not end up in a log by way of an error.
    access_token := NULL;
END
$$;

-- New tokens, stored together: a refresh token that came along replaces the old one, which is of no use any more.
CREATE OR REPLACE FUNCTION a67_internal._oauth_refreshed(c a67_internal.oauth_credential, now timestamptz, body text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    got record;
BEGIN
    SELECT * INTO got FROM a67_internal._oauth_tokens(body);
    IF got.access_token IS NULL THEN
        RETURN false;
    END IF;
    UPDATE a67_internal.oauth_credential t
    SET access_token_sealed = a67_internal._oauth_seal(t.credential_id, 'access_token_sealed', got.access_token),
        refresh_token_sealed = coalesce(a67_internal._oauth_seal(t.credential_id, 'refresh_token_sealed', got.refresh_token),
                                        t.refresh_token_sealed),
        token_type = coalesce(got.token_type, t.token_type), scopes = coalesce(got.scopes, t.scopes),
        expires_at = _oauth_refreshed.now + make_interval(secs => got.life_s),
        attempts = 0, last_error = NULL, under_way = false, epoch = t.epoch + 1,
        refreshed_at = _oauth_refreshed.now, updated_at = _oauth_refreshed.now,
        next_attempt_at = CASE t.status WHEN 'revoking' THEN _oauth_refreshed.now
            ELSE a67_internal._oauth_due(_oauth_refreshed.now, coalesce(got.life_s, 3600),
                                         hashtextextended(t.credential_id::text, t.epoch)) END
    WHERE t.credential_id = c.credential_id
    RETURNING * INTO c;
    PERFORM a67_internal._alert_resolve('oauth-refresh:' || c.credential_id), a67_internal._credential_event(c);
    RETURN true;
END
$$;

-- A refresh that did not work. final: trying again would change nothing, a person must. Else again after a pause that
-- grows; the owner hears of the third in a row.
CREATE OR REPLACE FUNCTION a67_internal._oauth_failed(c a67_internal.oauth_credential, now timestamptz, reason text, final boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    UPDATE a67_internal.oauth_credential t
    SET attempts = t.attempts + 1, last_error = reason, under_way = false, epoch = t.epoch + 1, updated_at = _oauth_failed.now,
        status = CASE WHEN final THEN 'failed' ELSE t.status END,
        next_attempt_at = CASE WHEN final THEN 'infinity' ELSE _oauth_failed.now + make_interval(secs => a67_internal._backoff_ms(
            t.attempts + 1, 1000, 900000, hashtextextended(t.credential_id::text, t.epoch)) / 1000.0) END
    WHERE t.credential_id = c.credential_id
    RETURNING * INTO c;
    IF final THEN
        PERFORM a67_internal._credential_event(c),
            a67_internal._alert_raise(c.owner_id, 'critical', c.credential_id, 'oauth-refresh:' || c.credential_id,
                format('credential for provider "%s" has ended (%s): store a new one', c.provider, reason));
    ELSIF c.attempts >= 3 THEN
        PERFORM a67_internal._alert_raise(c.owner_id, 'warning', c.credential_id, 'oauth-refresh:' || c.credential_id,
            format('credential for provider "%s" could not be refreshed %s times in a row (%s)', c.provider, c.attempts, reason));
    END IF;
END
$$;

-- The answer to a refresh. When the credential is being revoked meanwhile, whatever came of it is where that begins.
CREATE OR REPLACE FUNCTION a67_internal._oauth_refresh_record(c a67_internal.oauth_credential, now timestamptz, status integer,
    body text, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    failure record;
BEGIN
    IF status = 200 AND a67_internal._oauth_refreshed(c, now, body) THEN
        RETURN;
    END IF;
    SELECT * INTO failure FROM a67_internal._oauth_reason(status, body, error);
    IF c.status = 'revoking' THEN
        UPDATE a67_internal.oauth_credential t
        SET under_way = false, epoch = t.epoch + 1, next_attempt_at = _oauth_refresh_record.now
        WHERE t.credential_id = c.credential_id;
    ELSE
        PERFORM a67_internal._oauth_failed(c, now, failure.reason, failure.final);
    END IF;
END
$$;

-- The answer to a revocation. 200 also means that the provider does not know the token any more. Five tries, then the
-- secrets go all the same.
CREATE OR REPLACE FUNCTION a67_internal._oauth_revoke_record(c a67_internal.oauth_credential, now timestamptz, status integer,
    body text, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    failure record;
BEGIN
    SELECT * INTO failure FROM a67_internal._oauth_reason(status, body, error);
    IF status BETWEEN 200 AND 299 OR failure.reason = 'unsupported_token_type' AND NOT c.refreshable THEN
        IF c.refreshable AND c.access_token_sealed IS NOT NULL THEN
            UPDATE a67_internal.oauth_credential t
            SET refresh_token_sealed = NULL, attempts = 0, under_way = false, epoch = t.epoch + 1,
                next_attempt_at = _oauth_revoke_record.now
            WHERE t.credential_id = c.credential_id;
        ELSE
            PERFORM a67_internal._credential_erase(c.credential_id, now);
        END IF;
    ELSIF failure.final OR c.attempts >= 4 THEN
        PERFORM a67_internal._credential_erase(c.credential_id, now, failure.reason);
    ELSE
        UPDATE a67_internal.oauth_credential t
        SET attempts = t.attempts + 1, last_error = failure.reason, under_way = false, epoch = t.epoch + 1,
            next_attempt_at = _oauth_revoke_record.now + make_interval(secs => a67_internal._backoff_ms(t.attempts + 1, 1000, 60000,
                hashtextextended(t.credential_id::text, t.epoch)) / 1000.0)
        WHERE t.credential_id = c.credential_id;
    END IF;
END
$$;

-- Returns how many requests can follow at once. Answers that others have overtaken are dropped, and all of them while the
-- vault is sealed: new tokens could not be stored.
CREATE OR REPLACE FUNCTION a67_internal._oauth_record(now timestamptz, keys text[], statuses integer[], bodies text[],
    errors text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    IF a67_internal._vault_is_sealed() THEN
        RETURN 0;
    END IF;
    FOR answer IN
        SELECT c AS credential, split_part(a.key, ' ', 2) AS act, a.status, a.body, a.error
        FROM unnest(keys, statuses, bodies, errors) a (key, status, body, error)
        JOIN a67_internal.oauth_credential c
             ON c.credential_id = CASE WHEN a.key ~ '^oauth (refresh|revoke) ' THEN split_part(a.key, ' ', 3)::uuid END
             AND c.epoch = split_part(a.key, ' ', 4)::bigint AND c.under_way
        ORDER BY c.credential_id
        FOR UPDATE OF c
    LOOP
        IF answer.act = 'revoke' THEN
            PERFORM a67_internal._oauth_revoke_record(answer.credential, now, answer.status, answer.body, answer.error);
        ELSE
            PERFORM a67_internal._oauth_refresh_record(answer.credential, now, answer.status, answer.body, answer.error);
        END IF;
    END LOOP;
    RETURN (SELECT count(*) FROM a67_internal.oauth_credential t
            WHERE t.status = 'revoking' AND t.next_attempt_at <= _oauth_record.now);
END
$$;

-- ---- use -----------------------------------------------------------------------------------------------------------

-- The access token for a provider, the node's own before the one for all nodes. Noted before it is handed out.
CREATE OR REPLACE FUNCTION a67_internal._oauth_access_token(owner_id uuid, provider text, node_id uuid) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.oauth_credential;
BEGIN
    SELECT * INTO c FROM a67_internal.oauth_credential t
    WHERE t.owner_id = _oauth_access_token.owner_id AND t.provider = _oauth_access_token.provider
      AND (t.node_id = _oauth_access_token.node_id OR t.node_id IS NULL) AND t.status IN ('active', 'failed')
    ORDER BY t.node_id NULLS LAST LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no credential for provider "%"', _oauth_access_token.provider
            USING ERRCODE = 'PT404', HINT = 'Store one with a67.credential_set().';
    ELSIF c.access_token_sealed IS NULL OR c.expires_at <= clock_timestamp() THEN
        RAISE EXCEPTION 'credential "%" has no access token that is good now', c.credential_id
            USING ERRCODE = 'PT503',
                DETAIL = coalesce(format('Its last refresh failed: %s.', c.last_error), 'It is being refreshed.');
    END IF;
    PERFORM a67_internal._audit('credential.open', 'ok', c.credential_id::text, c.owner_id);
    RETURN a67_internal._oauth_open(c.credential_id, 'access_token_sealed', c.access_token_sealed);
END
$$;
