-- Channels: where their owners want alerts to go. A configuration is sealed as a whole and never shown again; what may
-- be shown of it is its target. How messages get there is notifier.sql.

-- A text of a configuration, or the error that names it.
CREATE OR REPLACE FUNCTION a67_internal._config_text(config jsonb, field text, most integer, required boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value text := config ->> field;
BEGIN
    IF value IS NULL AND NOT required THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(config -> field) IS DISTINCT FROM 'string' OR octet_length(value) NOT BETWEEN 1 AND most
       OR value ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'channel needs "%": a text of 1 to % bytes without control characters', field, most
            USING ERRCODE = '22023', DETAIL = format('Field: config.%s.', field);
    END IF;
    RETURN value;
END
$$;

-- The host, with its port if there is one, of a URL that messages may be sent to.
CREATE OR REPLACE FUNCTION a67_internal._outbound_target(url text, field text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    target text := substring(url FROM '^https?://([A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?)(?:[/?]|$)');
BEGIN
    IF target IS NULL OR octet_length(url) > 2048 OR url !~ '^[!-~]+$' OR url ~ '[#"<>\\]' THEN
        RAISE EXCEPTION 'invalid url' USING ERRCODE = '22023', DETAIL = format('Field: %s.', field),
            HINT = 'It must be like "https://hooks.example.org/path", without user and password in it.';
    END IF;
    IF url NOT LIKE 'https://%' AND NOT current_setting('a67.outbound_private')::boolean THEN
        RAISE EXCEPTION 'url must begin with https://' USING ERRCODE = '22023', DETAIL = format('Field: %s.', field),
            HINT = 'Plain http is for private networks only: see the setting a67.outbound_private.';
    END IF;
    RETURN target;
END
$$;

-- A mail address as RFC 5322 has it without quotes and comments, so that it cannot hold another header or command.
CREATE OR REPLACE FUNCTION a67_internal._config_address(address text, field text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF address IS NULL OR length(address) > 254
       OR address !~ '^[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+)*@[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*$' THEN
        RAISE EXCEPTION 'invalid mail address' USING ERRCODE = '22023', DETAIL = format('Field: config.%s.', field),
            HINT = 'Give the address alone, like "ops@example.org".';
    END IF;
    RETURN address;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._config_smtp(config jsonb, OUT normal jsonb, OUT target text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    host text := a67_internal._config_text(config, 'host', 253, true);
    tls text := coalesce(a67_internal._config_text(config, 'tls', 16, false), 'starttls');
    username text := a67_internal._config_text(config, 'username', 256, false);
    password text := a67_internal._config_text(config, 'password', 256, false);
    port text := coalesce(config ->> 'port', CASE tls WHEN 'tls' THEN '465' WHEN 'starttls' THEN '587' ELSE '25' END);
    recipients jsonb := config -> 'to';
BEGIN
    IF host !~ '^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])$' THEN
        RAISE EXCEPTION 'invalid host' USING ERRCODE = '22023', DETAIL = 'Field: config.host.',
            HINT = 'It must be a name or an IP address; IPv6 in brackets.';
    END IF;
    IF tls NOT IN ('none', 'starttls', 'tls') THEN
        RAISE EXCEPTION 'invalid tls "%"', tls USING ERRCODE = '22023', DETAIL = 'Field: config.tls.',
            HINT = 'Use none, starttls or tls.';
    END IF;
    IF coalesce(jsonb_typeof(config -> 'port'), 'number') <> 'number' OR port !~ '^[0-9]{1,5}$'
       OR port::integer NOT BETWEEN 1 AND 65535 THEN
        RAISE EXCEPTION 'invalid port' USING ERRCODE = '22023', DETAIL = 'Field: config.port.';
    END IF;
    IF (username IS NULL) <> (password IS NULL) THEN
        RAISE EXCEPTION 'username and password go together' USING ERRCODE = '22023',
            DETAIL = format('Field: config.%s.', CASE WHEN username IS NULL THEN 'username' ELSE 'password' END);
    END IF;
    IF password IS NOT NULL AND tls = 'none' THEN
        RAISE EXCEPTION 'a password is not sent without TLS' USING ERRCODE = '22023', DETAIL = 'Field: config.tls.',
            HINT = 'Use starttls or tls.';
    END IF;
    PERFORM a67_internal._config_address(a67_internal._config_text(config, 'from', 254, true), 'from');
    IF jsonb_typeof(recipients) IS DISTINCT FROM 'array' OR jsonb_array_length(recipients) NOT BETWEEN 1 AND 20 THEN
        RAISE EXCEPTION 'channel needs "to": an array of 1 to 20 addresses' USING ERRCODE = '22023', DETAIL = 'Field: config.to.';
    END IF;
    PERFORM a67_internal._config_address(CASE jsonb_typeof(t.one) WHEN 'string' THEN t.one #>> '{}' END, format('to[%s]', t.n - 1))
    FROM jsonb_array_elements(recipients) WITH ORDINALITY t (one, n) ORDER BY t.n;
    normal := jsonb_strip_nulls(jsonb_build_object('host', host, 'port', port::integer, 'tls', tls, 'username', username,
        'password', password, 'from', config ->> 'from', 'to', recipients));
    target := host || ':' || port;
END
$$;

-- A configuration with its defaults filled in, and what may be shown of it. Errors name the field, never its value.
CREATE OR REPLACE FUNCTION a67_internal._channel_config(kind text, config jsonb, OUT normal jsonb, OUT target text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    known text[] := CASE kind WHEN 'webhook' THEN ARRAY['url', 'secret'] WHEN 'slack' THEN ARRAY['url']
                              WHEN 'smtp' THEN ARRAY['host', 'port', 'tls', 'username', 'password', 'from', 'to'] END;
    unknown text;
BEGIN
    IF known IS NULL THEN
        RAISE EXCEPTION 'invalid kind of channel' USING ERRCODE = '22023', DETAIL = 'Field: kind.',
            HINT = 'Use webhook, slack or smtp.';
    END IF;
    IF jsonb_typeof(config) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'config must be an object' USING ERRCODE = '22023', DETAIL = 'Field: config.';
    END IF;
    SELECT k INTO unknown FROM jsonb_object_keys(config) k WHERE k <> ALL (known) ORDER BY k LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'unknown field "%"', left(unknown, 64) USING ERRCODE = '22023',
            DETAIL = format('Field: config.%s.', left(unknown, 64)),
            HINT = format('A channel of kind %s has: %s.', kind, array_to_string(known, ', '));
    END IF;
    config := jsonb_strip_nulls(config);
    IF kind = 'smtp' THEN
        SELECT s.normal, s.target INTO normal, target FROM a67_internal._config_smtp(config) s;
        RETURN;
    END IF;
    target := a67_internal._outbound_target(a67_internal._config_text(config, 'url', 2048, true), 'config.url');
    IF kind = 'webhook' AND octet_length(a67_internal._config_text(config, 'secret', 256, false)) < 16 THEN
        RAISE EXCEPTION 'secret is too short' USING ERRCODE = '22023', DETAIL = 'Field: config.secret.',
            HINT = 'It must have at least 16 bytes: openssl rand -hex 32 makes a good one.';
    END IF;
    normal := config;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._channel_check(name text, min_severity text, scope text, rate_per_minute integer)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF name IS NULL OR name !~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' THEN
        RAISE EXCEPTION 'invalid name of a channel' USING ERRCODE = '22023', DETAIL = 'Field: name.',
            HINT = 'Use 1 to 63 lower-case letters, digits and hyphens.';
    END IF;
    IF a67_internal._severity_rank(min_severity) IS NULL THEN
        RAISE EXCEPTION 'invalid severity' USING ERRCODE = '22023', DETAIL = 'Field: min_severity.',
            HINT = 'Use info, warning or critical.';
    END IF;
    IF scope IS NULL OR scope NOT IN ('own', 'all') THEN
        RAISE EXCEPTION 'invalid scope' USING ERRCODE = '22023', DETAIL = 'Field: scope.', HINT = 'Use own or all.';
    END IF;
    IF scope = 'all' AND NOT a67_internal._is_admin() THEN
        RAISE EXCEPTION 'only an administrator may see the alerts of all users' USING ERRCODE = '42501', DETAIL = 'Field: scope.';
    END IF;
    IF rate_per_minute IS NULL OR rate_per_minute NOT BETWEEN 1 AND 600 THEN
        RAISE EXCEPTION 'rate must be from 1 to 600 messages a minute' USING ERRCODE = '22023', DETAIL = 'Field: rate_per_minute.';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._channel_json(c a67_internal.channel) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_build_object('id', c.channel_id, 'name', c.name, 'kind', c.kind, 'target', c.target,
        'min_severity', c.min_severity, 'scope', c.scope, 'enabled', c.enabled, 'rate_per_minute', c.rate_per_minute,
        'last_sent_at', c.last_sent_at, 'last_error', c.last_error, 'last_error_at', c.last_error_at, 'failures', c.failures,
        'created_at', c.created_at, 'updated_at', c.updated_at)
$$;

CREATE OR REPLACE FUNCTION a67_internal._channel_find(channel text) RETURNS a67_internal.channel
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    found_channel a67_internal.channel;
BEGIN
    SELECT * INTO found_channel FROM a67_internal.channel c
    WHERE c.name = _channel_find.channel AND c.owner_id = caller
       OR c.channel_id::text = lower(_channel_find.channel) AND (c.owner_id = caller OR a67_internal._is_admin())
    ORDER BY (c.channel_id::text = lower(_channel_find.channel)) DESC LIMIT 1
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'channel "%" does not exist', _channel_find.channel USING ERRCODE = 'PT404';
    END IF;
    RETURN found_channel;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._channel_seal(channel_id uuid, config jsonb) RETURNS bytea
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._vault_seal(convert_to(config::text, 'UTF8'), 'channel.config_sealed:' || channel_id)
$$;

CREATE OR REPLACE FUNCTION a67.channel_create(name text, kind text, config jsonb, min_severity text DEFAULT 'warning',
    scope text DEFAULT 'own', rate_per_minute integer DEFAULT 30, enabled boolean DEFAULT true) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller uuid := a67_internal._user_id();
    new_id uuid := gen_random_uuid();
    checked record;
    made a67_internal.channel;
BEGIN
    PERFORM a67_internal._channel_check(channel_create.name, channel_create.min_severity, channel_create.scope,
        channel_create.rate_per_minute);
    checked := a67_internal._channel_config(channel_create.kind, channel_create.config);
    -- One at a time, so that the count holds.
    PERFORM FROM a67_internal."user" u WHERE u.user_id = caller FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM a67_internal.channel c WHERE c.owner_id = caller) >= 20 THEN
        RAISE EXCEPTION 'you have 20 channels already' USING ERRCODE = 'PT409', HINT = 'Remove one that is not needed.';
    END IF;
    INSERT INTO a67_internal.channel AS c (channel_id, owner_id, name, kind, config_sealed, target, min_severity, scope, enabled,
                                           rate_per_minute, tokens)
    VALUES (new_id, caller, channel_create.name, channel_create.kind, a67_internal._channel_seal(new_id, checked.normal),
            checked.target, channel_create.min_severity, channel_create.scope, coalesce(channel_create.enabled, true),
            channel_create.rate_per_minute, channel_create.rate_per_minute)
    ON CONFLICT ON CONSTRAINT channel_owner_name_key DO NOTHING RETURNING c.* INTO made;
    IF made.channel_id IS NULL THEN
        RAISE EXCEPTION 'channel "%" already exists', channel_create.name USING ERRCODE = '23505', DETAIL = 'Field: name.';
    END IF;
    PERFORM a67_internal._audit('channel.create', 'ok', new_id::text);
    PERFORM set_config('response.status', '201', true);
    RETURN a67_internal._channel_json(made);
END
$$;
COMMENT ON FUNCTION a67.channel_create(text, text, jsonb, text, text, integer, boolean) IS
    'Adds a channel for your alerts: a webhook, a Slack-compatible webhook or mail (docs/alerts.md); its config is never shown again';

CREATE OR REPLACE FUNCTION a67.channel_update(channel text, name text DEFAULT NULL, config jsonb DEFAULT NULL,
    min_severity text DEFAULT NULL, scope text DEFAULT NULL, rate_per_minute integer DEFAULT NULL, enabled boolean DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c a67_internal.channel := a67_internal._channel_find(channel_update.channel);
    changed a67_internal.channel;
BEGIN
    c.name := coalesce(channel_update.name, c.name);
    c.min_severity := coalesce(channel_update.min_severity, c.min_severity);
    c.rate_per_minute := coalesce(channel_update.rate_per_minute, c.rate_per_minute);
    PERFORM a67_internal._channel_check(c.name, c.min_severity, coalesce(channel_update.scope, 'own'), c.rate_per_minute);
    c.scope := coalesce(channel_update.scope, c.scope);
    IF channel_update.config IS NOT NULL THEN
        SELECT a67_internal._channel_seal(c.channel_id, f.normal), f.target INTO c.config_sealed, c.target
        FROM a67_internal._channel_config(c.kind, channel_update.config) f;
    END IF;
    IF EXISTS (SELECT FROM a67_internal.channel o
               WHERE o.owner_id = c.owner_id AND o.name = c.name AND o.channel_id <> c.channel_id) THEN
        RAISE EXCEPTION 'channel "%" already exists', c.name USING ERRCODE = '23505', DETAIL = 'Field: name.';
    END IF;
    UPDATE a67_internal.channel t
    SET name = c.name, min_severity = c.min_severity, scope = c.scope, rate_per_minute = c.rate_per_minute,
        tokens = least(t.tokens, c.rate_per_minute), config_sealed = c.config_sealed, target = c.target, updated_at = now()
    WHERE t.channel_id = c.channel_id RETURNING t.* INTO changed;
    IF channel_update.enabled AND NOT changed.enabled THEN
        UPDATE a67_internal.channel t SET enabled = true, failures = 0, dead_letters = 0, last_error = NULL, last_error_at = NULL
        WHERE t.channel_id = c.channel_id RETURNING t.* INTO changed;
        PERFORM a67_internal._alert_resolve('channel-disabled:' || c.channel_id);
    ELSIF NOT channel_update.enabled AND changed.enabled THEN
        PERFORM a67_internal._channel_disable(c.channel_id, now());
        changed.enabled := false;
    END IF;
    PERFORM a67_internal._audit('channel.update', 'ok', c.channel_id::text);
    RETURN a67_internal._channel_json(changed);
END
$$;
COMMENT ON FUNCTION a67.channel_update(text, text, jsonb, text, text, integer, boolean) IS
    'Changes what is given of a channel; a config replaces the old one as a whole. Disabling gives up what is on its way';

CREATE OR REPLACE FUNCTION a67.channel_remove(channel text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.channel := a67_internal._channel_find(channel);
BEGIN
    DELETE FROM a67_internal.channel t WHERE t.channel_id = c.channel_id;
    PERFORM a67_internal._alert_resolve('channel-disabled:' || c.channel_id);
    PERFORM a67_internal._audit('channel.remove', 'ok', c.channel_id::text);
END
$$;
COMMENT ON FUNCTION a67.channel_remove(text) IS 'Removes a channel, with its messages, sent or not';

CREATE OR REPLACE FUNCTION a67.channel_test(channel text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c a67_internal.channel := a67_internal._channel_find(channel);
    new_id uuid;
BEGIN
    IF (SELECT count(*) FROM a67_internal.outbox o
        WHERE o.channel_id = c.channel_id AND o.kind = 'test' AND o.state = 'pending') >= 5 THEN
        RAISE EXCEPTION 'five test messages of channel "%" are on their way already', c.name USING ERRCODE = 'PT429',
            HINT = 'Look at a67.outbox for what comes of them.';
    END IF;
    INSERT INTO a67_internal.outbox (owner_id, channel_id, kind, payload)
    VALUES (c.owner_id, c.channel_id, 'test', jsonb_build_object('channel', c.name)) RETURNING outbox_id INTO new_id;
    PERFORM a67_internal._wake('notifier');
    PERFORM set_config('response.status', '202', true);
    RETURN jsonb_build_object('message_id', new_id, 'state', 'pending');
END
$$;
COMMENT ON FUNCTION a67.channel_test(text) IS
    'Sends a test message the way of all others, also when the channel is disabled; outbox_get tells what came of it';

CREATE OR REPLACE FUNCTION a67.channel_list("limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(a67_internal._channel_json(c.found) ORDER BY c.name, c.channel_id), '[]')
    FROM (SELECT t AS found, t.name, t.channel_id FROM a67_internal.channel t
          WHERE t.owner_id = (SELECT a67_internal._claims_user_id()) OR (SELECT a67_internal._is_admin())
          ORDER BY t.name, t.channel_id LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) c
$$;
COMMENT ON FUNCTION a67.channel_list(integer, integer) IS 'Your channels, without their secrets; an administrator sees all';

CREATE OR REPLACE FUNCTION a67.channel_get(channel text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    found_channel jsonb;
BEGIN
    SELECT a67_internal._channel_json(c) INTO found_channel FROM a67_internal.channel c
    WHERE (c.owner_id = a67_internal._claims_user_id() OR a67_internal._is_admin())
      AND (c.name = channel_get.channel OR c.channel_id::text = lower(channel_get.channel))
    ORDER BY (c.channel_id::text = lower(channel_get.channel)) DESC,
             (c.owner_id IS NOT DISTINCT FROM a67_internal._claims_user_id()) DESC, c.channel_id LIMIT 1;
    IF found_channel IS NULL THEN
        RAISE EXCEPTION 'channel "%" does not exist', channel_get.channel USING ERRCODE = 'PT404';
    END IF;
    RETURN found_channel;
END
$$;
COMMENT ON FUNCTION a67.channel_get(text) IS 'One channel, by name or id';
