-- Credentials as their users have them: stored, looked at, refreshed and revoked on demand. Nothing here answers a secret.

CREATE OR REPLACE VIEW a67.credential WITH (security_invoker = true) AS
SELECT c.credential_id, c.provider, c.node_id,
       (SELECT n.name FROM a67_internal.node n WHERE n.node_id = c.node_id) AS node,
       c.status, c.last_error, c.attempts, nullif(c.next_attempt_at, 'infinity') AS next_attempt_at, c.refreshable, c.token_type,
       c.scopes, c.expires_at, c.token_url, c.revocation_url, c.client_id, c.client_auth, c.created_at, c.refreshed_at,
       c.updated_at, c.owner_id
FROM a67_internal.oauth_credential c;
COMMENT ON VIEW a67.credential IS 'Your OAuth credentials at providers: how they are, without a secret';

-- The checks of credential_set. The new credential comes without secrets, which are checked here and sealed there.
CREATE OR REPLACE FUNCTION a67_internal._credential_check(c a67_internal.oauth_credential, client_secret text, access_token text,
    refresh_token text, expires_in integer) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF coalesce(c.provider, '') !~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' THEN
        PERFORM a67_internal._oauth_refuse('provider', 'provider must be lower-case letters, digits and "-", at most 63');
    END IF;
    PERFORM a67_internal._oauth_url_check('token_url', c.token_url),
        a67_internal._oauth_url_check('revocation_url', c.revocation_url),
        a67_internal._oauth_text_check('client_id', c.client_id, 255),
        a67_internal._oauth_text_check('client_secret', client_secret, 512),
        a67_internal._oauth_text_check('access_token', access_token, 16384),
        a67_internal._oauth_text_check('refresh_token', refresh_token, 16384),
        a67_internal._oauth_text_check('token_type', coalesce(c.token_type, ''), 50);
    IF access_token IS NULL AND refresh_token IS NULL THEN
        PERFORM a67_internal._oauth_refuse('refresh_token', 'access_token or refresh_token is needed');
    ELSIF refresh_token IS NOT NULL AND c.token_url IS NULL THEN
        PERFORM a67_internal._oauth_refuse('token_url', 'token_url is needed to use a refresh token');
    ELSIF coalesce(refresh_token, client_secret, c.revocation_url) IS NOT NULL AND c.client_id IS NULL THEN
        PERFORM a67_internal._oauth_refuse('client_id', 'client_id is needed to speak to the provider');
    ELSIF c.client_auth IS NULL OR c.client_auth NOT IN ('basic', 'post') THEN
        PERFORM a67_internal._oauth_refuse('client_auth', 'client_auth must be "basic" or "post"');
    ELSIF expires_in NOT BETWEEN 0 AND 315360000 THEN
        PERFORM a67_internal._oauth_refuse('expires_in', 'expires_in must be seconds, at most ten years');
    ELSIF c.scopes IS NULL OR NOT a67_internal._oauth_scopes_valid(c.scopes) THEN
        PERFORM a67_internal._oauth_refuse('scopes', 'scopes must be at most 100 scope tokens of RFC 6749');
    END IF;
END
$$;

-- Inlined by the planner: a list calls it for every row.
CREATE OR REPLACE FUNCTION a67_internal._credential_json(c a67.credential) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object('id', c.credential_id, 'provider', c.provider, 'node', c.node, 'node_id', c.node_id, 'status', c.status,
    'last_error', c.last_error, 'attempts', c.attempts, 'next_attempt_at', c.next_attempt_at, 'refreshable', c.refreshable,
    'token_type', c.token_type, 'scopes', c.scopes, 'expires_at', c.expires_at, 'token_url', c.token_url,
    'revocation_url', c.revocation_url, 'client_id', c.client_id, 'client_auth', c.client_auth, 'created_at', c.created_at,
    'refreshed_at', c.refreshed_at, 'updated_at', c.updated_at);

CREATE OR REPLACE FUNCTION a67_internal._credential_answer(credential_id uuid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._credential_json(c) FROM a67.credential c WHERE c.credential_id = _credential_answer.credential_id
$$;

-- A change of a credential as its owner's feed has it.
CREATE OR REPLACE FUNCTION a67_internal._credential_event(c a67_internal.oauth_credential) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._event(c.owner_id, 'credential.changed', c.credential_id, jsonb_build_object('provider', c.provider,
        'node_id', c.node_id, 'status', c.status, 'reason', c.last_error, 'expires_at', c.expires_at))
$$;

-- The credential in use for a provider and a node, made if there is none; locked.
CREATE OR REPLACE FUNCTION a67_internal._credential_slot(owner_id uuid, provider text, node_id uuid, OUT id uuid, OUT made boolean)
RETURNS record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    made := false;
    LOOP
        SELECT c.credential_id INTO id FROM a67_internal.oauth_credential c
        WHERE c.owner_id = _credential_slot.owner_id AND c.provider = _credential_slot.provider
          AND c.node_id IS NOT DISTINCT FROM _credential_slot.node_id AND c.status IN ('active', 'failed')
        FOR UPDATE;
        EXIT WHEN FOUND;
        IF (SELECT count(*) FROM a67_internal.oauth_credential c WHERE c.owner_id = _credential_slot.owner_id) >= 1000 THEN
            RAISE EXCEPTION 'a user can have at most 1000 credentials'
                USING ERRCODE = 'PT409', HINT = 'Revoke some; a revoked one is forgotten after a week.';
        END IF;
        INSERT INTO a67_internal.oauth_credential AS c (owner_id, provider, node_id)
        VALUES (_credential_slot.owner_id, _credential_slot.provider, _credential_slot.node_id)
        ON CONFLICT DO NOTHING RETURNING c.credential_id INTO id;
        made := FOUND;
        EXIT WHEN made;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION a67.credential_set(provider text, token_url text DEFAULT NULL, client_id text DEFAULT NULL,
    client_secret text DEFAULT NULL, refresh_token text DEFAULT NULL, access_token text DEFAULT NULL,
    expires_in integer DEFAULT NULL, scopes text[] DEFAULT '{}', node text DEFAULT NULL, revocation_url text DEFAULT NULL,
    token_type text DEFAULT 'Bearer', client_auth text DEFAULT 'basic') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner uuid := a67_internal._user_id();
    place a67_internal.node;
    slot record;
    c a67_internal.oauth_credential;
BEGIN
    IF credential_set.node IS NOT NULL THEN
        place := a67_internal._node_find(credential_set.node);
        owner := place.owner_id;
    END IF;
    c.provider := credential_set.provider;
    c.token_url := credential_set.token_url;
    c.revocation_url := credential_set.revocation_url;
    c.client_id := credential_set.client_id;
    c.client_auth := credential_set.client_auth;
    c.token_type := credential_set.token_type;
    c.scopes := credential_set.scopes;
    PERFORM a67_internal._credential_check(c, client_secret, access_token, refresh_token, expires_in);
    SELECT * INTO slot FROM a67_internal._credential_slot(owner, c.provider, place.node_id);
    UPDATE a67_internal.oauth_credential t
    SET token_url = c.token_url, revocation_url = c.revocation_url, client_id = c.client_id, client_auth = c.client_auth,
        client_secret_sealed = a67_internal._oauth_seal(slot.id, 'client_secret_sealed', client_secret),
        access_token_sealed = a67_internal._oauth_seal(slot.id, 'access_token_sealed', access_token),
        refresh_token_sealed = a67_internal._oauth_seal(slot.id, 'refresh_token_sealed', refresh_token),
        token_type = c.token_type, scopes = c.scopes, status = 'active', attempts = 0, under_way = false, epoch = t.epoch + 1,
        last_error = NULL, refreshed_at = NULL, updated_at = now(),
        expires_at = CASE WHEN access_token IS NOT NULL THEN now() + make_interval(secs => expires_in) END,
        -- Without an access token there is nothing to wait for; with one that never ends, nothing to do.
        next_attempt_at = CASE WHEN access_token IS NULL THEN now()
                               WHEN expires_in IS NULL AND refresh_token IS NULL THEN 'infinity'
                               ELSE a67_internal._oauth_due(now(), coalesce(expires_in, 3600),
                                                            hashtextextended(slot.id::text, 0)) END
    WHERE t.credential_id = slot.id
    RETURNING * INTO c;
    PERFORM a67_internal._audit('credential.set', 'ok', slot.id::text), a67_internal._credential_event(c),
        a67_internal._alert_resolve('oauth-refresh:' || slot.id), a67_internal._wake('vault');
    PERFORM set_config('response.status', CASE WHEN slot.made THEN '201' ELSE '200' END, true);
    RETURN a67_internal._credential_answer(slot.id);
END
$$;
COMMENT ON FUNCTION a67.credential_set(text, text, text, text, text, text, integer, text[], text, text, text, text) IS
    'Stores OAuth tokens for a provider, or for one node there, over what was stored for the same; they are refreshed in time and never shown';

CREATE OR REPLACE FUNCTION a67.credential_list(provider text DEFAULT NULL, status text DEFAULT NULL, "limit" integer DEFAULT 100,
    "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(a67_internal._credential_json(c)
                                  ORDER BY c.provider, c.node NULLS FIRST, c.created_at, c.credential_id), '[]')
        FROM (SELECT t.* FROM a67.credential t
              WHERE (credential_list.provider IS NULL OR t.provider = credential_list.provider)
                AND (credential_list.status IS NULL OR t.status = credential_list.status)
              ORDER BY t.provider, t.node NULLS FIRST, t.created_at, t.credential_id
              LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) c);
END
$$;
COMMENT ON FUNCTION a67.credential_list(text, text, integer, integer) IS
    'Your credentials by provider or status: how they are, without a secret';

CREATE OR REPLACE FUNCTION a67.credential_get(credential text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    found_credential jsonb;
BEGIN
    SELECT a67_internal._credential_json(c) INTO found_credential FROM a67.credential c
    WHERE c.credential_id::text = lower(credential_get.credential);
    IF found_credential IS NULL THEN
        RAISE EXCEPTION 'credential "%" does not exist', credential_get.credential USING ERRCODE = 'PT404';
    END IF;
    RETURN found_credential;
END
$$;
COMMENT ON FUNCTION a67.credential_get(text) IS 'One credential by id: how it is, without a secret';

-- Locked, for a command of its owner or an administrator.
CREATE OR REPLACE FUNCTION a67_internal._credential_find(credential text) RETURNS a67_internal.oauth_credential
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    c a67_internal.oauth_credential;
BEGIN
    SELECT * INTO c FROM a67_internal.oauth_credential t
    WHERE t.credential_id::text = lower(_credential_find.credential) AND (t.owner_id = caller OR a67_internal._is_admin())
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'credential "%" does not exist', _credential_find.credential USING ERRCODE = 'PT404';
    END IF;
    RETURN c;
END
$$;

CREATE OR REPLACE FUNCTION a67.credential_refresh(credential text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.oauth_credential := a67_internal._credential_find(credential);
BEGIN
    IF c.status NOT IN ('active', 'failed') THEN
        RAISE EXCEPTION 'credential "%" is %', c.credential_id,
            CASE c.status WHEN 'revoking' THEN 'being revoked' ELSE 'revoked' END USING ERRCODE = 'PT409';
    ELSIF NOT c.refreshable THEN
        RAISE EXCEPTION 'credential "%" has no refresh token', c.credential_id
            USING ERRCODE = 'PT409', HINT = 'Store new tokens with a67.credential_set().';
    END IF;
    -- A refresh that is on its way already is the one that was asked for.
    UPDATE a67_internal.oauth_credential t
    SET status = 'active', next_attempt_at = CASE WHEN t.under_way THEN t.next_attempt_at ELSE now() END, updated_at = now()
    WHERE t.credential_id = c.credential_id;
    PERFORM a67_internal._audit('credential.refresh', 'ok', c.credential_id::text), a67_internal._wake('vault');
    PERFORM set_config('response.status', '202', true);
    RETURN a67_internal._credential_answer(c.credential_id);
END
$$;
COMMENT ON FUNCTION a67.credential_refresh(text) IS 'Refreshes a credential (id) now, also one whose provider has refused it before';

-- No secret is left of it. why: the provider was not told, and the owner should be.
CREATE OR REPLACE FUNCTION a67_internal._credential_erase(credential_id uuid, now timestamptz, why text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.oauth_credential;
BEGIN
    UPDATE a67_internal.oauth_credential t
    SET status = 'revoked', client_secret_sealed = NULL, access_token_sealed = NULL, refresh_token_sealed = NULL, expires_at = NULL,
        under_way = false, epoch = t.epoch + 1, next_attempt_at = 'infinity', last_error = why, updated_at = _credential_erase.now
    WHERE t.credential_id = _credential_erase.credential_id
    RETURNING * INTO c;
    PERFORM a67_internal._credential_event(c), a67_internal._alert_resolve('oauth-refresh:' || c.credential_id);
    IF why IS NOT NULL THEN
        PERFORM a67_internal._alert_raise(c.owner_id, 'warning', c.credential_id, 'oauth-revoke:' || c.credential_id,
            format('credential for provider "%s" was erased, but its provider did not confirm the revocation (%s): revoke it there',
                   c.provider, why));
    END IF;
END
$$;

-- Begins to revoke: at the provider when it has an endpoint for that, and erases. A refresh under way is waited for, since
-- it brings the tokens that are to be revoked.
CREATE OR REPLACE FUNCTION a67_internal._credential_end(c a67_internal.oauth_credential, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF c.status NOT IN ('active', 'failed') THEN
        RETURN;
    END IF;
    PERFORM a67_internal._audit('credential.revoke', 'ok', c.credential_id::text);
    IF c.revocation_url IS NULL THEN
        PERFORM a67_internal._credential_erase(c.credential_id, now);
        RETURN;
    END IF;
    UPDATE a67_internal.oauth_credential t
    SET status = 'revoking', attempts = 0, last_error = NULL, updated_at = _credential_end.now,
        next_attempt_at = CASE WHEN t.under_way THEN t.next_attempt_at ELSE _credential_end.now END
    WHERE t.credential_id = c.credential_id
    RETURNING * INTO c;
    PERFORM a67_internal._credential_event(c), a67_internal._alert_resolve('oauth-refresh:' || c.credential_id),
        a67_internal._wake('vault');
END
$$;

CREATE OR REPLACE FUNCTION a67.credential_revoke(credential text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.oauth_credential := a67_internal._credential_find(credential);
BEGIN
    PERFORM a67_internal._credential_end(c, now());
    PERFORM set_config('response.status', '202', true);
    RETURN a67_internal._credential_answer(c.credential_id);
END
$$;
COMMENT ON FUNCTION a67.credential_revoke(text) IS
    'Ends a credential (id): its tokens are revoked at the provider, if it has a revocation_url, and erased here in any case';

-- A credential of a node ends with the node.
CREATE OR REPLACE FUNCTION a67_internal._credential_node_removed() RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._credential_end(c, now()) FROM a67_internal.oauth_credential c WHERE c.node_id = NEW.node_id;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER node_credential AFTER UPDATE OF desired_state ON a67_internal.node
FOR EACH ROW WHEN (NEW.desired_state = 'removed' AND OLD.desired_state <> 'removed')
EXECUTE FUNCTION a67_internal._credential_node_removed();
