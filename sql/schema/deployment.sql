-- Packages, deployments, their releases and replicas.

CREATE TABLE a67_internal.package (
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    digest text NOT NULL,
    size_bytes bigint NOT NULL,
    unpacked_bytes bigint NOT NULL,
    files integer NOT NULL,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, digest),
    CONSTRAINT package_digest_check CHECK (digest ~ '^[0-9a-f]{64}$')
);
-- Uncompressed out of line: a slice is read without the rest (the content is a gzip file anyway).
ALTER TABLE a67_internal.package ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE a67_internal.package IS 'Application packages (tar.gz) by SHA-256; each user''s are his own';
COMMENT ON COLUMN a67_internal.package.unpacked_bytes IS 'Of all files in it together';
COMMENT ON COLUMN a67_internal.package.used_at IS
    'When it was stored or named last, or the last release that named it went; it stays for a day after that';

CREATE TABLE a67_internal.deployment (
    deployment_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    name text NOT NULL,
    app_type text NOT NULL DEFAULT 'backend',
    -- desired: written by the owner's commands only
    release integer NOT NULL DEFAULT 1,
    replicas integer NOT NULL,
    desired_state text NOT NULL DEFAULT 'running',
    generation bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- observed: written by the reconciler only
    status text NOT NULL DEFAULT 'pending',
    status_reason text,
    status_at timestamptz NOT NULL DEFAULT now(),
    settled_generation bigint NOT NULL DEFAULT 0,
    seen_generation bigint NOT NULL DEFAULT 0,
    place_failures integer NOT NULL DEFAULT 0,
    next_place_at timestamptz NOT NULL DEFAULT '-infinity',
    avoid_nodes uuid[] NOT NULL DEFAULT '{}',
    secrets_version text,
    CONSTRAINT deployment_owner_name_key UNIQUE (owner_id, name),
    CONSTRAINT deployment_app_type_check CHECK (app_type IN ('backend', 'worker', 'cron')),
    CONSTRAINT deployment_replicas_check CHECK (replicas BETWEEN 0 AND 1000),
    CONSTRAINT deployment_desired_state_check CHECK (desired_state IN ('running', 'stopped', 'removed')),
    CONSTRAINT deployment_status_check CHECK (status IN ('pending', 'deploying', 'running', 'scaling', 'failing',
        'failed', 'stopping', 'stopped'))
);
COMMENT ON TABLE a67_internal.deployment IS 'What its owner wants to run, and how far that is true';
COMMENT ON COLUMN a67_internal.deployment.app_type IS 'The same in every release; a cron app has no replicas but its runs';
COMMENT ON COLUMN a67_internal.deployment.generation IS 'Grows with every command of the owner';
COMMENT ON COLUMN a67_internal.deployment.settled_generation IS 'The last generation that was fully reached';
COMMENT ON COLUMN a67_internal.deployment.seen_generation IS 'The generation for which failures are being counted';
COMMENT ON COLUMN a67_internal.deployment.place_failures IS 'Replicas that failed since the last success; bounds the tries';
COMMENT ON COLUMN a67_internal.deployment.avoid_nodes IS 'Nodes on which a replica failed lately; chosen last';
COMMENT ON COLUMN a67_internal.deployment.secrets_version IS
    'Which versions of the secrets it names were there when the reconciler looked last; NULL when it names none';

CREATE TABLE a67_internal.release (
    deployment_id uuid NOT NULL REFERENCES a67_internal.deployment ON DELETE CASCADE,
    number integer NOT NULL,
    manifest jsonb NOT NULL,
    package_digest text NOT NULL,
    env_sealed bytea,
    secrets text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deployment_id, number)
);
COMMENT ON TABLE a67_internal.release IS 'Checked and normalised manifests of a deployment, numbered from 1';
COMMENT ON COLUMN a67_internal.release.manifest IS 'With the names of env variables, their values null';
COMMENT ON COLUMN a67_internal.release.env_sealed IS
    'The env object with its values, sealed with the label release.env_sealed:DEPLOYMENT_ID/NUMBER; NULL when it is empty';
COMMENT ON COLUMN a67_internal.release.secrets IS 'Names of the secrets in the manifest';
CREATE INDEX release_package_digest_idx ON a67_internal.release (package_digest);
CREATE INDEX release_env_sealed_idx ON a67_internal.release (substring(env_sealed FROM 2 FOR 8));
CREATE INDEX release_secrets_idx ON a67_internal.release (deployment_id, number) WHERE secrets <> '{}';

CREATE TABLE a67_internal.replica (
    replica_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    deployment_id uuid NOT NULL,
    release integer NOT NULL,
    node_id uuid NOT NULL REFERENCES a67_internal.node,
    memory_bytes bigint NOT NULL,
    cpu float8 NOT NULL,
    disk_bytes bigint NOT NULL DEFAULT 0,
    desired_state text NOT NULL DEFAULT 'running',
    generation bigint NOT NULL DEFAULT 1,
    epoch bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'pending',
    port integer,
    pid integer,
    restarts integer NOT NULL DEFAULT 0,
    error text,
    log_tail text,
    state_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    deadline_at timestamptz,
    pushed_generation bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    next_push_at timestamptz NOT NULL DEFAULT '-infinity',
    secrets_version text,
    observed_generation bigint NOT NULL DEFAULT 0,
    routed text NOT NULL DEFAULT 'out',
    drain_until timestamptz NOT NULL DEFAULT '-infinity',
    cron_run_id bigint,
    rollout_id uuid,
    placed_score real,
    handed integer NOT NULL DEFAULT 0,
    started_at timestamptz,
    exit_code integer,
    duration_ms bigint,
    FOREIGN KEY (deployment_id, release) REFERENCES a67_internal.release,
    CONSTRAINT replica_desired_state_check CHECK (desired_state IN ('running', 'stopped')),
    CONSTRAINT replica_state_check CHECK (state IN ('pending', 'fetching', 'starting', 'running', 'unhealthy', 'failed',
        'finished', 'stopping', 'stopped', 'lost')),
    CONSTRAINT replica_routed_check CHECK (routed IN ('out', 'joining', 'in', 'draining'))
) WITH (fillfactor = 70);
COMMENT ON TABLE a67_internal.replica IS 'One copy of an app on one node; kept until the node has confirmed that it is gone';
COMMENT ON COLUMN a67_internal.replica.generation IS 'Of the desired state as the agent is told it; grows when that changes';
COMMENT ON COLUMN a67_internal.replica.epoch IS 'Grows with every command handed out; an answer to an older one is dropped';
COMMENT ON COLUMN a67_internal.replica.deadline_at IS 'Must have run once by then; NULL afterwards';
COMMENT ON COLUMN a67_internal.replica.next_push_at IS 'Not sent again before; also the lease of a command under way';
COMMENT ON COLUMN a67_internal.replica.secrets_version IS
    'Which versions of its secrets were handed out under this generation: others need a new generation';
COMMENT ON COLUMN a67_internal.replica.routed IS
    'Whether the ingress sends it requests: in, about to or none lately (joining), no new ones (draining), none (out); written by the ingress worker only';
COMMENT ON COLUMN a67_internal.replica.drain_until IS
    'A replica that is to stop is told so not before: the ingress takes it out first, and moves this forward when it is drained';
COMMENT ON COLUMN a67_internal.replica.cron_run_id IS 'The run of a cron app that it is; such a replica is in no release''s count';
COMMENT ON COLUMN a67_internal.replica.rollout_id IS 'The rollout whose smoke test it runs; likewise in no count';
COMMENT ON COLUMN a67_internal.replica.handed IS
    'Commands to start it that may have reached its node: while there is none, a run has certainly not begun';
COMMENT ON COLUMN a67_internal.replica.started_at IS 'When a run began, as its node says';
COMMENT ON COLUMN a67_internal.replica.placed_score IS 'What selection thought of its node when it was chosen';
COMMENT ON COLUMN a67_internal.replica.exit_code IS 'Of a finished run; 128 + number for a signal';
COMMENT ON COLUMN a67_internal.replica.observed_generation IS 'The generation of which the node has reported the state';
CREATE INDEX replica_deployment_id_idx ON a67_internal.replica (deployment_id, release);
CREATE INDEX replica_node_id_idx ON a67_internal.replica (node_id);
CREATE INDEX replica_push_idx ON a67_internal.replica (next_push_at)
    WHERE pushed_generation <> generation OR desired_state = 'stopped';

ALTER TABLE a67_internal.package ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.package FORCE ROW LEVEL SECURITY;
CREATE POLICY package_own ON a67_internal.package FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY package_admin ON a67_internal.package FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.deployment ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.deployment FORCE ROW LEVEL SECURITY;
CREATE POLICY deployment_own ON a67_internal.deployment FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY deployment_admin ON a67_internal.deployment FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.release ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.release FORCE ROW LEVEL SECURITY;
CREATE POLICY release_own ON a67_internal.release FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.deployment d WHERE d.deployment_id = release.deployment_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY release_admin ON a67_internal.release FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.replica ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.replica FORCE ROW LEVEL SECURITY;
CREATE POLICY replica_own ON a67_internal.replica FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.deployment d WHERE d.deployment_id = replica.deployment_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY replica_admin ON a67_internal.replica FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.package, a67_internal.deployment, a67_internal.replica TO a67_user, a67_admin;
GRANT SELECT (deployment_id, number, manifest, package_digest, secrets, created_at) ON a67_internal.release
    TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.package', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.deployment', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.release', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.replica', '');
