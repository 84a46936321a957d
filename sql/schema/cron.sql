-- Cron apps: which schedules are in force, and one row for each time that one came due.

CREATE TABLE a67_internal.cron_app (
    deployment_id uuid PRIMARY KEY REFERENCES a67_internal.deployment ON DELETE CASCADE,
    schedule text NOT NULL,
    next_at timestamptz NOT NULL,
    job_id bigint,
    failures integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.cron_app IS 'A schedule in force: that of a cron app which is not stopped';
COMMENT ON COLUMN a67_internal.cron_app.next_at IS 'When it is due next: every due minute before it has its row in cron_run';
COMMENT ON COLUMN a67_internal.cron_app.job_id IS 'Its job in pg_cron; NULL: the reconciler is its only timer';
COMMENT ON COLUMN a67_internal.cron_app.failures IS 'Runs that failed since the last that succeeded';

CREATE INDEX cron_app_next_at_idx ON a67_internal.cron_app (next_at);

CREATE TABLE a67_internal.cron_run (
    cron_run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id uuid NOT NULL REFERENCES a67_internal.deployment ON DELETE CASCADE,
    release integer NOT NULL,
    scheduled_at timestamptz NOT NULL,
    by_hand boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'pending',
    created_at timestamptz NOT NULL DEFAULT now(),
    node_id uuid REFERENCES a67_internal.node ON DELETE SET NULL,
    replica_id uuid,
    tried_nodes uuid[] NOT NULL DEFAULT '{}',
    next_place_at timestamptz NOT NULL DEFAULT '-infinity',
    started_at timestamptz,
    finished_at timestamptz,
    exit_code integer,
    duration_ms bigint,
    error text,
    log_tail text,
    -- The fence: whoever comes due twice finds the row there.
    CONSTRAINT cron_run_deployment_id_scheduled_at_key UNIQUE (deployment_id, scheduled_at),
    CONSTRAINT cron_run_state_check CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'stopped', 'skipped', 'replaced',
        'missed')),
    CONSTRAINT cron_run_finished_check CHECK ((finished_at IS NULL) = (state IN ('pending', 'running')))
);
COMMENT ON TABLE a67_internal.cron_run IS 'Every run of a cron app, also those that were skipped or missed; the last ones of each are kept';
COMMENT ON COLUMN a67_internal.cron_run.scheduled_at IS 'The minute for which it was due, or the moment of the command';
COMMENT ON COLUMN a67_internal.cron_run.tried_nodes IS 'Nodes on which it could not be started; chosen last';
CREATE INDEX cron_run_open_idx ON a67_internal.cron_run (deployment_id) WHERE finished_at IS NULL;

ALTER TABLE a67_internal.cron_app ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.cron_app FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.cron_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.cron_run FORCE ROW LEVEL SECURITY;
CREATE POLICY cron_run_own ON a67_internal.cron_run FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.deployment d WHERE d.deployment_id = cron_run.deployment_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY cron_run_admin ON a67_internal.cron_run FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.cron_run TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.cron_app', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.cron_run', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.cron_run_cron_run_id_seq', '');
