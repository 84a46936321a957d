-- Channels that carry alerts out, and the outbox of what is on its way.

CREATE TABLE a67_internal.channel (
    channel_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    name text NOT NULL,
    kind text NOT NULL,
    config_sealed bytea NOT NULL,
    target text NOT NULL,
    min_severity text NOT NULL DEFAULT 'warning',
    scope text NOT NULL DEFAULT 'own',
    enabled boolean NOT NULL DEFAULT true,
    rate_per_minute integer NOT NULL DEFAULT 30,
    tokens real NOT NULL DEFAULT 30,
    tokens_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_sent_at timestamptz,
    last_error text,
    last_error_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    dead_letters integer NOT NULL DEFAULT 0,
    CONSTRAINT channel_owner_name_key UNIQUE (owner_id, name),
    CONSTRAINT channel_name_check CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    CONSTRAINT channel_kind_check CHECK (kind IN ('webhook', 'slack', 'smtp')),
    CONSTRAINT channel_min_severity_check CHECK (min_severity IN ('info', 'warning', 'critical')),
    CONSTRAINT channel_scope_check CHECK (scope IN ('own', 'all')),
    CONSTRAINT channel_rate_per_minute_check CHECK (rate_per_minute BETWEEN 1 AND 600)
);
COMMENT ON TABLE a67_internal.channel IS 'Where alerts are sent: webhooks, Slack-compatible webhooks, mail';
COMMENT ON COLUMN a67_internal.channel.config_sealed IS
    'All of its configuration, which a webhook''s URL makes secret; sealed with the label channel.config_sealed:CHANNEL_ID';
COMMENT ON COLUMN a67_internal.channel.target IS 'What may be shown of it: host and port';
COMMENT ON COLUMN a67_internal.channel.scope IS 'own: alerts of its owner; all: of everybody, while its owner is an administrator';
COMMENT ON COLUMN a67_internal.channel.tokens IS 'Bucket of rate_per_minute, filled to tokens_at';
COMMENT ON COLUMN a67_internal.channel.failures IS 'Failed attempts since the last success';
COMMENT ON COLUMN a67_internal.channel.dead_letters IS 'Messages given up since the last success; five of them disable it';
-- The id of the master key that the config is sealed under: rotation looks for old ones.
CREATE INDEX channel_config_key_idx ON a67_internal.channel (substring(config_sealed FROM 2 FOR 8));
CREATE INDEX channel_scope_all_idx ON a67_internal.channel (channel_id) WHERE scope = 'all' AND enabled;

CREATE TABLE a67_internal.outbox (
    outbox_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    channel_id uuid REFERENCES a67_internal.channel ON DELETE CASCADE,
    alert_id uuid REFERENCES a67_internal.alert ON DELETE SET NULL,
    subject_id uuid,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    target_sealed bytea,
    state text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    leased_until timestamptz,
    leased_by integer,
    epoch bigint NOT NULL DEFAULT 0,
    place bigint GENERATED ALWAYS AS IDENTITY,
    created_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    last_error text,
    CONSTRAINT outbox_kind_check CHECK (kind IN ('raised', 'resolved', 'reminder', 'summary', 'test', 'hook')),
    CONSTRAINT outbox_state_check CHECK (state IN ('pending', 'sent', 'dead')),
    CONSTRAINT outbox_channel_check CHECK ((channel_id IS NULL) = (kind = 'hook')),
    CONSTRAINT outbox_target_check CHECK (target_sealed IS NULL OR kind = 'hook' AND state = 'pending'),
    CONSTRAINT outbox_done_check CHECK ((done_at IS NULL) = (state = 'pending'))
);
COMMENT ON TABLE a67_internal.outbox IS 'Messages on their way out, each to one channel or hook; written with what they tell';
COMMENT ON COLUMN a67_internal.outbox.payload IS 'What is told, without secrets; the message is made of it when it is sent';
COMMENT ON COLUMN a67_internal.outbox.target_sealed IS
    'URL and secret of a hook, sealed with the label outbox.target_sealed:OUTBOX_ID; gone when it is sent or dead';
COMMENT ON COLUMN a67_internal.outbox.leased_by IS 'The process that is sending it: a lease of another one is void';
COMMENT ON COLUMN a67_internal.outbox.epoch IS 'Counts attempts: an answer to an earlier one is dropped';
CREATE INDEX outbox_target_key_idx ON a67_internal.outbox (substring(target_sealed FROM 2 FOR 8)) WHERE target_sealed IS NOT NULL;
CREATE INDEX outbox_due_idx ON a67_internal.outbox (next_attempt_at) WHERE state = 'pending';
CREATE INDEX outbox_channel_idx ON a67_internal.outbox (channel_id, place) WHERE state = 'pending';
CREATE INDEX outbox_alert_idx ON a67_internal.outbox (alert_id, channel_id, place);
CREATE INDEX outbox_owner_idx ON a67_internal.outbox (owner_id, place);
CREATE INDEX outbox_leased_idx ON a67_internal.outbox (owner_id) WHERE leased_until IS NOT NULL;
CREATE INDEX outbox_sent_idx ON a67_internal.outbox (done_at) WHERE state = 'sent';
CREATE INDEX outbox_dead_idx ON a67_internal.outbox (done_at) WHERE state = 'dead';
CREATE INDEX outbox_summary_idx ON a67_internal.outbox (channel_id, place) WHERE kind = 'summary' AND state = 'pending';

ALTER TABLE a67_internal.channel ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.channel FORCE ROW LEVEL SECURITY;
CREATE POLICY channel_own ON a67_internal.channel FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY channel_admin ON a67_internal.channel FOR SELECT TO a67_admin USING (true);
GRANT SELECT (channel_id, owner_id, name, kind, target, min_severity, scope, enabled, rate_per_minute, created_at, updated_at,
    last_sent_at, last_error, last_error_at, failures, dead_letters) ON a67_internal.channel TO a67_user, a67_admin;
ALTER TABLE a67_internal.outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY outbox_own ON a67_internal.outbox FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY outbox_admin ON a67_internal.outbox FOR SELECT TO a67_admin USING (true);
GRANT SELECT (outbox_id, owner_id, channel_id, alert_id, subject_id, kind, payload, state, attempts, next_attempt_at, place,
    created_at, done_at, last_error) ON a67_internal.outbox TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.channel', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.outbox_place_seq', '');
