-- The notifier: brings messages to channels and hooks, at least once. The worker only calls _notifier_plan and
-- _notifier_record. A message is a row of the outbox, written in the transaction of what it tells. An attempt is leased
-- and fenced (epoch); a failed one is tried again after a growing pause, for about a day, and is then a dead letter.

-- How often a message is tried; with the pauses of _outbox_fail that takes about a day.
CREATE OR REPLACE FUNCTION a67_internal._outbox_tries() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 26';

-- How many dead letters in a row disable a channel.
CREATE OR REPLACE FUNCTION a67_internal._channel_dead_letters() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 5';

-- ---- into the outbox --------------------------------------------------------------------------------------

-- Counts a message in the channel's summary. One that is on its way is left alone; one that failed gets a new id with its
-- new content, since who got it without our knowing would take the same id for the same message. One that somebody else is
-- adding to is not waited for, but another one begun: alerts of one transaction come to channels in any order, so that two
-- which wait for each other's summaries could be a deadlock.
CREATE OR REPLACE FUNCTION a67_internal._outbox_summarise(c a67_internal.channel, payload jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    s a67_internal.outbox;
    critical integer := coalesce(_outbox_summarise.payload #>> '{alert,severity}' = 'critical', false)::integer;
    told jsonb := jsonb_build_array(_outbox_summarise.payload #> '{alert,message}');
BEGIN
    SELECT o.* INTO s FROM a67_internal.outbox o
    WHERE o.channel_id = c.channel_id AND o.kind = 'summary' AND o.state = 'pending' AND o.leased_until IS NULL
    ORDER BY o.place DESC LIMIT 1
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        INSERT INTO a67_internal.outbox (owner_id, channel_id, kind, payload)
        VALUES (c.owner_id, c.channel_id, 'summary', jsonb_build_object('count', 1, 'critical', critical, 'first', told));
        RETURN;
    END IF;
    UPDATE a67_internal.outbox o
    SET outbox_id = CASE WHEN o.attempts > 0 THEN gen_random_uuid() ELSE o.outbox_id END,
        payload = jsonb_build_object('count', (o.payload ->> 'count')::integer + 1,
            'critical', (o.payload ->> 'critical')::integer + critical,
            'first', CASE WHEN jsonb_array_length(o.payload -> 'first') < 10 THEN (o.payload -> 'first') || told
                          ELSE o.payload -> 'first' END)
    WHERE o.outbox_id = s.outbox_id;
END
$$;

-- Queues a message to a channel. When more wait already than it takes in two minutes, the message is only counted, in one
-- that says how many there were: a storm neither floods people nor this table.
CREATE OR REPLACE FUNCTION a67_internal._outbox_add(c a67_internal.channel, kind text, alert_id uuid, subject_id uuid,
    payload jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    waiting bigint;
BEGIN
    SELECT count(*) INTO waiting
    FROM (SELECT FROM a67_internal.outbox o WHERE o.channel_id = c.channel_id AND o.state = 'pending'
          LIMIT 2 * c.rate_per_minute) o;
    IF waiting < 2 * c.rate_per_minute THEN
        INSERT INTO a67_internal.outbox (owner_id, channel_id, alert_id, subject_id, kind, payload)
        VALUES (c.owner_id, c.channel_id, _outbox_add.alert_id, _outbox_add.subject_id, _outbox_add.kind, _outbox_add.payload);
    ELSE
        PERFORM a67_internal._outbox_summarise(c, _outbox_add.payload);
    END IF;
END
$$;

-- Queues what there is to tell of an alert to the channels of its owner, and to those of administrators for everybody.
CREATE OR REPLACE FUNCTION a67_internal._alert_notify(a a67_internal.alert, kind text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    told record;
    any_told boolean := false;
    payload jsonb := jsonb_build_object('alert', a67_internal._alert_json(a));
BEGIN
    FOR told IN
        SELECT t.channel, t.owner
        FROM (SELECT c AS channel, c.channel_id, c.min_severity, NULL AS owner
              FROM a67_internal.channel c WHERE c.owner_id = a.owner_id AND c.enabled
              UNION ALL
              SELECT c, c.channel_id, c.min_severity, o.email
              FROM a67_internal.channel c
              JOIN a67_internal."user" u ON u.user_id = c.owner_id AND u.role = 'a67_admin'
              JOIN a67_internal."user" o ON o.user_id = a.owner_id
              WHERE c.scope = 'all' AND c.enabled AND c.owner_id <> a.owner_id) t
        WHERE a67_internal._severity_rank(a.severity) >= a67_internal._severity_rank(t.min_severity)
        ORDER BY t.channel_id
    LOOP
        PERFORM a67_internal._outbox_add(told.channel, _alert_notify.kind, a.alert_id, a.subject_id,
            payload || CASE WHEN told.owner IS NULL THEN '{}' ELSE jsonb_build_object('owner', told.owner) END);
        any_told := true;
    END LOOP;
    IF any_told THEN
        UPDATE a67_internal.alert t SET notified_at = greatest(t.notified_at, now()) WHERE t.alert_id = a.alert_id;
        PERFORM a67_internal._wake('notifier');
    END IF;
END
$$;

-- Queues a signed webhook, for a provider's restart hook. URL and secret (NULL: not signed) are kept, sealed, until it is
-- sent or dead. The payload must hold no secret: it is shown in a67.outbox. NULL while the vault is sealed: not queued.
CREATE OR REPLACE FUNCTION a67_internal._hook_send(owner_id uuid, subject_id uuid, url text, secret bytea, payload jsonb)
RETURNS uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    new_id uuid := gen_random_uuid();
BEGIN
    IF a67_internal._vault_is_sealed() THEN
        RETURN NULL;
    END IF;
    INSERT INTO a67_internal.outbox (outbox_id, owner_id, subject_id, kind, payload, target_sealed)
    VALUES (new_id, _hook_send.owner_id, _hook_send.subject_id, 'hook', _hook_send.payload,
            a67_internal._vault_seal(convert_to(jsonb_build_object('url', _hook_send.url,
                'secret', encode(_hook_send.secret, 'hex'))::text, 'UTF8'), 'outbox.target_sealed:' || new_id));
    PERFORM a67_internal._wake('notifier');
    RETURN new_id;
END
$$;

-- ---- what is sent -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67_internal._time_text(at timestamptz) RETURNS text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
$$;

-- The message in one line.
CREATE OR REPLACE FUNCTION a67_internal._outbox_headline(kind text, payload jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT left(regexp_replace(CASE kind
        WHEN 'test' THEN format('test message of channel "%s"', payload ->> 'channel')
        WHEN 'summary' THEN format('and %s more alert messages, %s of them about critical ones', payload ->> 'count', payload ->> 'critical')
        WHEN 'resolved' THEN format('[resolved] %s', payload #>> '{alert,message}')
        WHEN 'reminder' THEN format('[%s, not acknowledged] %s', payload #>> '{alert,severity}', payload #>> '{alert,message}')
        ELSE format('[%s] %s', payload #>> '{alert,severity}', payload #>> '{alert,message}') END, '[[:cntrl:][:space:]]+', ' ', 'g'), 500)
$$;

-- What else there is to say, one item a line; NULL if nothing.
CREATE OR REPLACE FUNCTION a67_internal._outbox_details(kind text, payload jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT string_agg(regexp_replace(d.line, '[[:cntrl:]]+', ' ', 'g'), E'\n' ORDER BY d.n)
    FROM (SELECT 1 AS n, 'raised ' || a67_internal._time_text((payload #>> '{alert,raised_at}')::timestamptz)
                 || CASE WHEN (payload #>> '{alert,count}')::integer > 1
                         THEN format(', %s times until %s', payload #>> '{alert,count}',
                                     a67_internal._time_text((payload #>> '{alert,last_at}')::timestamptz)) ELSE '' END AS line
          UNION ALL SELECT 2, 'resolved ' || a67_internal._time_text((payload #>> '{alert,resolved_at}')::timestamptz)
                 || CASE WHEN payload #>> '{alert,resolved_by}' IS NOT NULL THEN ' by hand' ELSE '' END
          UNION ALL SELECT 3, 'owner ' || (payload ->> 'owner')
          UNION ALL SELECT 4, 'alert ' || (payload #>> '{alert,id}')
          UNION ALL SELECT 4 + f.n, f.line FROM jsonb_array_elements_text(payload -> 'first') WITH ORDINALITY f (line, n)) d
    WHERE d.line IS NOT NULL
$$;

-- "X-A67-Signature: t=TIME,v1=HEX": HMAC-SHA-256 of "TIME.BODY", so that an old message cannot be sent again as a new one.
CREATE OR REPLACE FUNCTION a67_internal._webhook_signature(secret bytea, body text, now timestamptz) RETURNS text
LANGUAGE sql VOLATILE STRICT
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format('X-A67-Signature: t=%s,v1=%s', t.unix,
                  encode(a67_internal._hmac_sha256(secret, convert_to(t.unix || '.' || body, 'UTF8')), 'hex'))
    FROM (SELECT floor(extract(epoch FROM now))::bigint::text AS unix) t
$$;

CREATE OR REPLACE FUNCTION a67_internal._webhook_headers(o a67_internal.outbox, type text) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT ARRAY['Content-Type: application/json', 'User-Agent: a67/' || a67.version(), 'X-A67-Event: ' || type,
                 'X-A67-Id: ' || o.outbox_id, 'Idempotency-Key: ' || o.outbox_id]
$$;

-- The body of a Slack-compatible webhook.
CREATE OR REPLACE FUNCTION a67_internal._slack_body(o a67_internal.outbox) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('text', t.headline, 'attachments', CASE WHEN t.details IS NOT NULL THEN
        jsonb_build_array(jsonb_build_object('fallback', t.headline, 'text', t.details,
            'color', CASE WHEN o.kind = 'resolved' THEN 'good' WHEN o.payload #>> '{alert,severity}' = 'critical' THEN 'danger'
                          WHEN o.payload #>> '{alert,severity}' = 'info' THEN '#439fe0' ELSE 'warning' END,
            'ts', floor(extract(epoch FROM o.created_at))::bigint)) END))::text
    FROM (SELECT replace(replace(replace(s.headline, '&', '&amp;'), '<', '&lt;'), '>', '&gt;') AS headline,
                 replace(replace(replace(s.details, '&', '&amp;'), '<', '&lt;'), '>', '&gt;') AS details
          FROM (SELECT a67_internal._outbox_headline(o.kind, o.payload) AS headline,
                       a67_internal._outbox_details(o.kind, o.payload) AS details) s) t
$$;

-- A header's text as RFC 2047 has it: itself when it is ASCII, else encoded words of at most 75 characters, folded.
CREATE OR REPLACE FUNCTION a67_internal._mail_text(text text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    clean text := left(regexp_replace(_mail_text.text, '[[:cntrl:]]+', ' ', 'g'), 250);
    words text[] := '{}';
    word text := '';
    letter text;
BEGIN
    IF clean ~ '^[ -~]*$' AND clean !~ '=\?' THEN
        RETURN clean;
    END IF;
    FOREACH letter IN ARRAY string_to_array(clean, NULL) LOOP
        IF octet_length(convert_to(word || letter, 'UTF8')) > 39 THEN
            words := words || word;
            word := '';
        END IF;
        word := word || letter;
    END LOOP;
    RETURN (SELECT string_agg(format('=?UTF-8?B?%s?=', encode(convert_to(w, 'UTF8'), 'base64')), E'\r\n ' ORDER BY n)
            FROM unnest(words || word) WITH ORDINALITY u (w, n));
END
$$;

-- The whole mail. Its Message-ID is the message's id, so a mail that comes twice is known as one; what belongs to one
-- alert is one thread.
CREATE OR REPLACE FUNCTION a67_internal._mail_body(o a67_internal.outbox, config jsonb, now timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT concat_ws(E'\r\n',
        'From: ' || (config ->> 'from'),
        'To: ' || (SELECT string_agg(t.one, E',\r\n ' ORDER BY t.n)
                   FROM jsonb_array_elements_text(config -> 'to') WITH ORDINALITY t (one, n)),
        'Subject: ' || a67_internal._mail_text('[a67] ' || h.headline),
        'Date: ' || to_char(now AT TIME ZONE 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS') || ' +0000',
        'Message-ID: <' || o.outbox_id || '@' || h.domain || '>',
        'References: <alert.' || o.alert_id || '@' || h.domain || '>',
        'MIME-Version: 1.0', 'Content-Type: text/plain; charset=utf-8', 'Content-Transfer-Encoding: base64',
        'Auto-Submitted: auto-generated', 'X-A67-Id: ' || o.outbox_id, '',
        replace(encode(convert_to(replace(h.headline || E'\n\n' || coalesce(a67_internal._outbox_details(o.kind, o.payload), '')
            || E'\n', E'\n', E'\r\n'), 'UTF8'), 'base64'), E'\n', E'\r\n')) || E'\r\n'
    FROM (SELECT a67_internal._outbox_headline(o.kind, o.payload) AS headline, split_part(config ->> 'from', '@', 2) AS domain) h
$$;

-- What to send, and where to, for a message whose channel or hook has this configuration.
CREATE OR REPLACE FUNCTION a67_internal._outbox_request(o a67_internal.outbox, channel_kind text, config jsonb, now timestamptz,
    OUT method text, OUT url text, OUT body text, OUT headers text[])
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    type text := CASE o.kind WHEN 'test' THEN 'channel.test' WHEN 'hook' THEN coalesce(o.payload ->> 'type', 'hook')
                             ELSE 'alert.' || o.kind END;
    secret bytea;
BEGIN
    method := 'POST';
    url := config ->> 'url';
    IF channel_kind = 'smtp' THEN
        method := 'MAIL';
        url := format('%s://%s:%s', CASE config ->> 'tls' WHEN 'tls' THEN 'smtps' ELSE 'smtp' END, config ->> 'host', config ->> 'port');
        body := a67_internal._mail_body(o, config, now);
        headers := ARRAY['From: ' || (config ->> 'from')]
            || ARRAY(SELECT 'To: ' || t FROM jsonb_array_elements_text(config -> 'to') t)
            || CASE WHEN config ->> 'tls' = 'starttls' THEN '{"TLS: required"}'::text[] END
            || CASE WHEN config ? 'username'
                    THEN ARRAY['Username: ' || (config ->> 'username'), 'Password: ' || (config ->> 'password')] END;
        RETURN;
    END IF;
    headers := a67_internal._webhook_headers(o, type);
    IF channel_kind = 'slack' THEN
        body := a67_internal._slack_body(o);
        RETURN;
    END IF;
    body := (o.payload || jsonb_build_object('id', o.outbox_id, 'type', type, 'at', o.created_at)
             || CASE WHEN o.kind = 'hook' THEN '{}' ELSE jsonb_build_object('text', a67_internal._outbox_headline(o.kind, o.payload)) END)::text;
    secret := CASE WHEN o.kind = 'hook' THEN decode(config ->> 'secret', 'hex') ELSE convert_to(config ->> 'secret', 'UTF8') END;
    IF secret IS NOT NULL THEN
        headers := headers || a67_internal._webhook_signature(secret, body, now);
    END IF;
END
$$;

-- ---- outcomes ---------------------------------------------------------------------------------------------

-- Disables a channel and gives up what is on its way to it.
CREATE OR REPLACE FUNCTION a67_internal._channel_disable(channel_id uuid, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    UPDATE a67_internal.channel c SET enabled = false, updated_at = _channel_disable.now
    WHERE c.channel_id = _channel_disable.channel_id;
    UPDATE a67_internal.outbox o
    SET state = 'dead', done_at = _channel_disable.now, leased_until = NULL, leased_by = NULL, last_error = 'channel was disabled'
    WHERE o.channel_id = _channel_disable.channel_id AND o.state = 'pending' AND o.kind <> 'test';
END
$$;

-- A failed attempt: the next one after a pause, or none any more.
CREATE OR REPLACE FUNCTION a67_internal._outbox_fail(o a67_internal.outbox, now timestamptz, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    dead boolean := o.attempts >= a67_internal._outbox_tries();
    c a67_internal.channel;
BEGIN
    UPDATE a67_internal.outbox t
    SET state = CASE WHEN dead THEN 'dead' ELSE 'pending' END, done_at = CASE WHEN dead THEN _outbox_fail.now END,
        target_sealed = CASE WHEN NOT dead THEN t.target_sealed END, leased_until = NULL, leased_by = NULL,
        last_error = left(_outbox_fail.error, 200),
        next_attempt_at = _outbox_fail.now + make_interval(secs => a67_internal._backoff_ms(greatest(o.attempts, 1), 5000, 7200000,
            hashtextextended(o.outbox_id::text, o.attempts)) / 1000.0)
    WHERE t.outbox_id = o.outbox_id AND t.state = 'pending';
    IF NOT FOUND THEN
        RETURN; -- given up since, with its channel
    END IF;
    UPDATE a67_internal.channel t
    SET failures = t.failures + 1, dead_letters = t.dead_letters + dead::integer, last_error = left(_outbox_fail.error, 200),
        last_error_at = _outbox_fail.now
    WHERE t.channel_id = o.channel_id
    RETURNING * INTO c;
    IF c.enabled AND c.dead_letters >= a67_internal._channel_dead_letters() THEN
        PERFORM a67_internal._channel_disable(c.channel_id, _outbox_fail.now);
        PERFORM a67_internal._alert_raise(c.owner_id, 'warning', c.channel_id, 'channel-disabled:' || c.channel_id,
            format('channel "%s" was disabled: %s messages in a row could not be delivered (%s)', c.name, c.dead_letters, c.last_error));
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._notifier_record(now timestamptz, keys text[], statuses integer[], bodies text[],
    errors text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    answer record;
    recorded integer := 0;
BEGIN
    FOR answer IN
        SELECT o AS message, o.outbox_id, o.channel_id, r.status, r.error, c.kind
        FROM unnest(keys, statuses, errors) r (key, status, error)
        JOIN a67_internal.outbox o ON o.outbox_id = split_part(r.key, ' ', 1)::uuid
             AND o.epoch = split_part(r.key, ' ', 2)::bigint AND o.state = 'pending' AND o.leased_until IS NOT NULL
        LEFT JOIN a67_internal.channel c USING (channel_id)
        ORDER BY o.channel_id, o.place
        FOR UPDATE OF o
    LOOP
        recorded := recorded + 1;
        -- Bodies are not looked at: they are other people's texts.
        IF answer.status BETWEEN 200 AND 299 THEN
            UPDATE a67_internal.outbox o
            SET state = 'sent', done_at = _notifier_record.now, target_sealed = NULL, leased_until = NULL, leased_by = NULL,
                last_error = NULL
            WHERE o.outbox_id = answer.outbox_id;
            UPDATE a67_internal.channel c
            SET last_sent_at = _notifier_record.now, failures = 0, dead_letters = 0, last_error = NULL, last_error_at = NULL
            WHERE c.channel_id = answer.channel_id;
        ELSE
            PERFORM a67_internal._outbox_fail(answer.message, _notifier_record.now,
                CASE WHEN answer.status = 0 THEN coalesce(answer.error, 'no answer')
                     WHEN answer.kind = 'smtp' THEN format('mail server answered %s', answer.status)
                     ELSE format('receiver answered %s', answer.status) END);
        END IF;
    END LOOP;
    RETURN recorded;
END
$$;

-- ---- plan -------------------------------------------------------------------------------------------------

-- Keeps sent messages for 7 days and dead ones for 30; at most 1,000 rows a call.
CREATE OR REPLACE FUNCTION a67_internal._outbox_prune(now timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM a67_internal.outbox
        WHERE outbox_id IN (
            (SELECT o.outbox_id FROM a67_internal.outbox o
             WHERE o.state = 'sent' AND o.done_at < _outbox_prune.now - interval '7 days' ORDER BY o.done_at LIMIT 500)
            UNION ALL
            (SELECT o.outbox_id FROM a67_internal.outbox o
             WHERE o.state = 'dead' AND o.done_at < _outbox_prune.now - interval '30 days' ORDER BY o.done_at LIMIT 500))
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- How much of a channel's bucket there is.
CREATE OR REPLACE FUNCTION a67_internal._channel_tokens(c a67_internal.channel, now timestamptz) RETURNS real
LANGUAGE sql IMMUTABLE
RETURN least((c).rate_per_minute::float8, (c).tokens
             + greatest(extract(epoch FROM now - (c).tokens_at)::float8, 0) * (c).rate_per_minute / 60.0)::real;

-- Leases the messages that are due: oldest first, as many as each channel's bucket has, and at most 8 at a time to the
-- channels (and 8 to the hooks) of one owner, so that one whose receivers are slow does not hold up the others. What is told of one alert is
-- told in order.
CREATE OR REPLACE FUNCTION a67_internal._outbox_lease(now timestamptz) RETURNS SETOF a67_internal.outbox
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH busy AS (
        SELECT o.owner_id, o.kind = 'hook' AS hook, count(*) AS n FROM a67_internal.outbox o
        WHERE o.state = 'pending' AND o.leased_until IS NOT NULL GROUP BY 1, 2
    ), due AS (
        SELECT m.outbox_id, m.owner_id, false AS hook, m.place
        FROM (SELECT DISTINCT o.channel_id FROM a67_internal.outbox o
              WHERE o.state = 'pending' AND o.leased_until IS NULL AND o.next_attempt_at <= _outbox_lease.now) waiting
        JOIN a67_internal.channel c USING (channel_id)
        CROSS JOIN LATERAL (
            SELECT o.outbox_id, o.owner_id, o.place FROM a67_internal.outbox o
            WHERE o.channel_id = c.channel_id AND o.state = 'pending' AND o.leased_until IS NULL
              AND o.next_attempt_at <= _outbox_lease.now AND (c.enabled OR o.kind = 'test')
              AND NOT EXISTS (SELECT FROM a67_internal.outbox e WHERE e.alert_id = o.alert_id AND e.channel_id = o.channel_id
                                                                AND e.place < o.place AND e.state = 'pending')
            ORDER BY o.place LIMIT greatest(least(floor(a67_internal._channel_tokens(c, _outbox_lease.now)), 8), 0)) m
        UNION ALL
        (SELECT o.outbox_id, o.owner_id, true, o.place FROM a67_internal.outbox o
         WHERE o.state = 'pending' AND o.kind = 'hook' AND o.leased_until IS NULL AND o.next_attempt_at <= _outbox_lease.now
         ORDER BY o.next_attempt_at LIMIT 256)
    ), taken AS (
        SELECT d.outbox_id
        FROM (SELECT d.*, row_number() OVER (PARTITION BY d.owner_id, d.hook ORDER BY d.place) AS nth FROM due d) d
        LEFT JOIN busy b USING (owner_id, hook)
        WHERE d.nth + coalesce(b.n, 0) <= 8
        ORDER BY d.place LIMIT 256
    ), locked AS (
        -- A summary that is being added to is for the next time.
        SELECT o.outbox_id FROM a67_internal.outbox o JOIN taken t USING (outbox_id)
        WHERE o.state = 'pending' AND o.leased_until IS NULL
        FOR UPDATE OF o SKIP LOCKED
    ), leased AS (
        UPDATE a67_internal.outbox o
        SET epoch = o.epoch + 1, attempts = o.attempts + 1, leased_by = pg_backend_pid(),
            leased_until = _outbox_lease.now + current_setting('a67.outbound_timeout')::interval + interval '25 s',
            next_attempt_at = _outbox_lease.now + current_setting('a67.outbound_timeout')::interval + interval '25 s'
        FROM locked t WHERE o.outbox_id = t.outbox_id
        RETURNING o.*
    ), paid AS (
        UPDATE a67_internal.channel c
        SET tokens = a67_internal._channel_tokens(c, _outbox_lease.now) - l.n, tokens_at = _outbox_lease.now
        FROM (SELECT l.channel_id, count(*) AS n FROM leased l GROUP BY l.channel_id) l WHERE c.channel_id = l.channel_id)
    SELECT * FROM leased ORDER BY place
$$;

CREATE OR REPLACE FUNCTION a67_internal._notifier_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    o a67_internal.outbox;
    c a67_internal.channel;
    config jsonb;
    request record;
    wait_ms integer := extract(epoch FROM current_setting('a67.outbound_timeout')::interval) * 1000;
BEGIN
    PERFORM a67_internal._outbox_prune(_notifier_plan.now), a67_internal._alert_prune(_notifier_plan.now),
            a67_internal._alert_remind(_notifier_plan.now);
    IF a67_internal._vault_is_sealed() THEN
        RETURN;
    END IF;
    -- What an earlier process was sending may have arrived or not: it is sent again.
    UPDATE a67_internal.outbox t SET leased_until = NULL, leased_by = NULL, next_attempt_at = _notifier_plan.now
    WHERE t.state = 'pending' AND t.leased_until IS NOT NULL
      AND (t.leased_until <= _notifier_plan.now OR t.leased_by <> pg_backend_pid());
    IF NOT EXISTS (SELECT FROM a67_internal.outbox t WHERE t.state = 'pending' AND t.next_attempt_at <= _notifier_plan.now) THEN
        RETURN;
    END IF;
    FOR o IN SELECT * FROM a67_internal._outbox_lease(_notifier_plan.now) LOOP
        BEGIN
            c := NULL;
            SELECT t.* INTO c FROM a67_internal.channel t WHERE t.channel_id = o.channel_id;
            config := convert_from(CASE WHEN o.kind = 'hook'
                THEN a67_internal._vault_open(o.target_sealed, 'outbox.target_sealed:' || o.outbox_id)
                ELSE a67_internal._vault_open(c.config_sealed, 'channel.config_sealed:' || c.channel_id) END, 'UTF8')::jsonb;
            SELECT * INTO request FROM a67_internal._outbox_request(o, coalesce(c.kind, 'webhook'), config, _notifier_plan.now);
            RETURN QUERY SELECT o.outbox_id || ' ' || o.epoch, request.method, request.url, NULL, request.body, wait_ms,
                request.headers, NULL::text;
        EXCEPTION WHEN OTHERS THEN
            -- One message that cannot be made must not hold up the rest.
            PERFORM a67_internal._outbox_fail(o, _notifier_plan.now, format('could not make the message (SQLSTATE %s)', SQLSTATE));
        END;
    END LOOP;
END
$$;

-- ---- what owners do ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67.outbox_retry(message uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    o a67_internal.outbox;
BEGIN
    SELECT * INTO o FROM a67_internal.outbox t
    WHERE t.outbox_id = outbox_retry.message AND (t.owner_id = caller OR a67_internal._is_admin())
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'message "%" does not exist', outbox_retry.message USING ERRCODE = 'PT404';
    END IF;
    IF o.state <> 'dead' THEN
        RAISE EXCEPTION 'message "%" is not dead but %', o.outbox_id, o.state USING ERRCODE = 'PT409';
    END IF;
    IF o.kind = 'hook' THEN
        RAISE EXCEPTION 'message "%" cannot be sent again', o.outbox_id USING ERRCODE = 'PT409',
            DETAIL = 'The URL and the secret of a hook are not kept beyond its last attempt.';
    END IF;
    IF o.kind <> 'test' AND NOT (SELECT c.enabled FROM a67_internal.channel c WHERE c.channel_id = o.channel_id) THEN
        RAISE EXCEPTION 'the channel of message "%" is disabled', o.outbox_id USING ERRCODE = 'PT409',
            HINT = 'Enable it first with a67.channel_update().';
    END IF;
    UPDATE a67_internal.outbox t SET state = 'pending', done_at = NULL, attempts = 0, next_attempt_at = now()
    WHERE t.outbox_id = o.outbox_id;
    PERFORM a67_internal._wake('notifier');
    PERFORM set_config('response.status', '202', true);
END
$$;
COMMENT ON FUNCTION a67.outbox_retry(uuid) IS 'Sends a message again that was given up, with the channel''s configuration of now';
