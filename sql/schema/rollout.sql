-- Rollouts: the way from one release of a deployment to another, as a persisted state machine; and how replicas failed.

CREATE TABLE a67_internal.rollout (
    rollout_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    deployment_id uuid NOT NULL REFERENCES a67_internal.deployment ON DELETE CASCADE,
    from_release integer NOT NULL,
    to_release integer NOT NULL,
    replicas integer,
    strategy jsonb NOT NULL,
    -- the state machine: written by the reconciler and by the owner's commands, each with the deployment's row locked
    state text NOT NULL DEFAULT 'running',
    phase text NOT NULL DEFAULT 'start',
    step integer NOT NULL DEFAULT 0,
    weight integer NOT NULL DEFAULT 0,
    old_target integer NOT NULL,
    new_target integer NOT NULL DEFAULT 0,
    promoted boolean NOT NULL DEFAULT false,
    aborted boolean NOT NULL DEFAULT false,
    epoch bigint NOT NULL DEFAULT 0,
    phase_at timestamptz NOT NULL DEFAULT now(),
    baseline jsonb NOT NULL DEFAULT '{}',
    progress integer NOT NULL DEFAULT 0,
    progress_at timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,
    next_place_at timestamptz NOT NULL DEFAULT '-infinity',
    -- the smoke test
    tested uuid[] NOT NULL DEFAULT '{}',
    test_failures integer NOT NULL DEFAULT 0,
    test_error text,
    next_test_at timestamptz NOT NULL DEFAULT '-infinity',
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    FOREIGN KEY (deployment_id, to_release) REFERENCES a67_internal.release ON DELETE CASCADE,
    CONSTRAINT rollout_state_check CHECK (state IN ('running', 'paused', 'rolling_back', 'succeeded', 'rolled_back',
        'aborted', 'failed')),
    CONSTRAINT rollout_phase_check CHECK (phase IN ('start', 'replace', 'drain', 'fill', 'test', 'observe', 'restore', 'done')),
    CONSTRAINT rollout_weight_check CHECK (weight BETWEEN 0 AND 100),
    CONSTRAINT rollout_finished_check CHECK ((finished_at IS NULL) = (state IN ('running', 'paused', 'rolling_back')))
);
COMMENT ON TABLE a67_internal.rollout IS 'Every change of release of a deployment, and how far it came';
COMMENT ON COLUMN a67_internal.rollout.replicas IS
    'What the deployment is to have when it has succeeded; NULL: as many as before. One that goes back leaves that number alone';
COMMENT ON COLUMN a67_internal.rollout.strategy IS 'The strategy block of the new release''s manifest, normalised';
COMMENT ON COLUMN a67_internal.rollout.weight IS
    'Percentage of the requests that the replicas of to_release get; of rolling and recreate: their share when all get alike';
COMMENT ON COLUMN a67_internal.rollout.old_target IS
    'Replicas wanted of all other releases than to_release; of from_release alone while it goes back';
COMMENT ON COLUMN a67_internal.rollout.new_target IS 'Replicas wanted of the others';
COMMENT ON COLUMN a67_internal.rollout.promoted IS 'Its owner wants it done: no test, no observation, no verdict by requests';
COMMENT ON COLUMN a67_internal.rollout.epoch IS 'Grows with every step; a result of an earlier one is dropped';
COMMENT ON COLUMN a67_internal.rollout.baseline IS
    'What the counters said when the phase began: failures of the rollout, and of each replica [requests, failures, ms, restarts]';
COMMENT ON COLUMN a67_internal.rollout.progress IS 'How far the phase has come, and progress_at when it last came further';
COMMENT ON COLUMN a67_internal.rollout.failures IS 'New replicas that failed since it began or was resumed';
COMMENT ON COLUMN a67_internal.rollout.tested IS 'New replicas that passed the smoke test';
-- One at a time: this is the lock of a deployment.
CREATE UNIQUE INDEX rollout_active_key ON a67_internal.rollout (deployment_id) WHERE finished_at IS NULL;
CREATE INDEX rollout_deployment_id_idx ON a67_internal.rollout (deployment_id, created_at);

CREATE TABLE a67_internal.replica_failure (
    replica_failure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id uuid NOT NULL REFERENCES a67_internal.deployment ON DELETE CASCADE,
    replica_id uuid NOT NULL,
    release integer NOT NULL,
    node text NOT NULL,
    at timestamptz NOT NULL,
    error text,
    log_tail text
);
COMMENT ON TABLE a67_internal.replica_failure IS 'The last 20 failures of replicas of each deployment: the replicas themselves are gone soon';
CREATE INDEX replica_failure_deployment_id_idx ON a67_internal.replica_failure (deployment_id, replica_failure_id);

ALTER TABLE a67_internal.rollout ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.rollout FORCE ROW LEVEL SECURITY;
CREATE POLICY rollout_own ON a67_internal.rollout FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.deployment d WHERE d.deployment_id = rollout.deployment_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY rollout_admin ON a67_internal.rollout FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.replica_failure ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.replica_failure FORCE ROW LEVEL SECURITY;
CREATE POLICY replica_failure_own ON a67_internal.replica_failure FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.deployment d WHERE d.deployment_id = replica_failure.deployment_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY replica_failure_admin ON a67_internal.replica_failure FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.rollout, a67_internal.replica_failure TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.rollout', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.replica_failure', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.replica_failure_replica_failure_id_seq', '');
