-- Events (what happened, append-only, pruned by age) and alerts (what a person should look at).

CREATE TABLE a67_internal.event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    type text NOT NULL,
    subject_id uuid NOT NULL,
    payload jsonb NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
COMMENT ON TABLE a67_internal.event IS 'What happened to an owner''s nodes, deployments and replicas';
COMMENT ON COLUMN a67_internal.event.xid IS 'The transaction that wrote it: readers follow (xid, event_id), see sql/api/feed.sql';
CREATE INDEX event_xid_idx ON a67_internal.event (xid, event_id);
CREATE INDEX event_owner_id_idx ON a67_internal.event (owner_id, xid, event_id);

CREATE TABLE a67_internal.alert (
    alert_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    severity text NOT NULL,
    subject_id uuid NOT NULL,
    dedup_key text NOT NULL,
    message text NOT NULL,
    count integer NOT NULL DEFAULT 1,
    raised_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    notified_at timestamptz NOT NULL DEFAULT now(),
    acked_at timestamptz,
    acked_by uuid REFERENCES a67_internal."user",
    resolved_at timestamptz,
    resolved_by uuid REFERENCES a67_internal."user",
    CONSTRAINT alert_severity_check CHECK (severity IN ('info', 'warning', 'critical')),
    CONSTRAINT alert_acked_check CHECK ((acked_at IS NULL) = (acked_by IS NULL)),
    CONSTRAINT alert_resolved_check CHECK (resolved_by IS NULL OR resolved_at IS NOT NULL)
);
COMMENT ON TABLE a67_internal.alert IS 'Conditions that need a person; one open row per dedup_key';
COMMENT ON COLUMN a67_internal.alert.notified_at IS 'When channels were last told of it';
COMMENT ON COLUMN a67_internal.alert.acked_by IS 'Who said that he has seen it';
COMMENT ON COLUMN a67_internal.alert.resolved_by IS 'Who resolved it; NULL: the condition passed by itself';
CREATE UNIQUE INDEX alert_open_key ON a67_internal.alert (dedup_key) WHERE resolved_at IS NULL;
CREATE INDEX alert_owner_id_idx ON a67_internal.alert (owner_id, raised_at);
CREATE INDEX alert_resolved_at_idx ON a67_internal.alert (resolved_at) WHERE resolved_at IS NOT NULL;
CREATE INDEX alert_reminder_idx ON a67_internal.alert (notified_at)
    WHERE resolved_at IS NULL AND acked_at IS NULL AND severity = 'critical';

ALTER TABLE a67_internal.event ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.event FORCE ROW LEVEL SECURITY;
CREATE POLICY event_own ON a67_internal.event FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY event_admin ON a67_internal.event FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.alert ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.alert FORCE ROW LEVEL SECURITY;
CREATE POLICY alert_own ON a67_internal.alert FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY alert_admin ON a67_internal.alert FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.event, a67_internal.alert TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.event', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.event_event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.alert', '');
