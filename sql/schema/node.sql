-- Nodes: what was registered (node), what is seen of them (node_observed), and the tokens that let them in.

CREATE TABLE a67_internal.node (
    node_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    name text NOT NULL,
    provider text NOT NULL DEFAULT 'generic',
    region text,
    endpoint text NOT NULL,
    version text,
    public_key text NOT NULL,
    cpu_cores real NOT NULL,
    memory_bytes bigint NOT NULL,
    disk_bytes bigint NOT NULL,
    network_bandwidth_mbps real,
    max_concurrent_requests integer NOT NULL,
    desired_state text NOT NULL DEFAULT 'active',
    registered_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT node_name_check CHECK (name ~ '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$'),
    CONSTRAINT node_endpoint_check CHECK (endpoint ~ '^https?://' AND length(endpoint) <= 255),
    CONSTRAINT node_desired_state_check CHECK (desired_state IN ('active', 'removed'))
);
COMMENT ON TABLE a67_internal.node IS 'Registered nodes; written by registration and by their owner''s commands';
-- A removed node stays as a tombstone, so that its agent is told so; its name and key are free again.
CREATE UNIQUE INDEX node_owner_name_key ON a67_internal.node (owner_id, name) WHERE desired_state <> 'removed';
CREATE UNIQUE INDEX node_public_key_key ON a67_internal.node (public_key) WHERE desired_state <> 'removed';

CREATE TABLE a67_internal.node_observed (
    node_id uuid PRIMARY KEY REFERENCES a67_internal.node ON DELETE CASCADE,
    status text NOT NULL DEFAULT 'initializing',
    status_reason text,
    status_at timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,
    goods integer NOT NULL DEFAULT 0,
    epoch bigint NOT NULL DEFAULT 0,
    judged_heartbeat_at timestamptz,
    next_probe_at timestamptz NOT NULL DEFAULT '-infinity',
    last_heartbeat_at timestamptz,
    boot_id text,
    state_version bigint,
    cpu_percent real,
    memory_percent real,
    memory_free_bytes bigint,
    disk_percent real,
    load1 real,
    active_requests integer,
    metrics_at timestamptz,
    stray_replicas uuid[] NOT NULL DEFAULT '{}',
    stray_lease_until timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT node_observed_status_check CHECK (status IN ('initializing', 'ready', 'busy', 'degraded',
        'suspect', 'failed', 'offline', 'maintenance', 'removed'))
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.node_observed IS 'What the controller sees of each node; written by heartbeats and the monitor';
COMMENT ON COLUMN a67_internal.node_observed.epoch IS 'Grows at every judgement; a probe result of an older epoch is dropped';
COMMENT ON COLUMN a67_internal.node_observed.judged_heartbeat_at IS 'The heartbeat that the health state machine saw last';
COMMENT ON COLUMN a67_internal.node_observed.stray_replicas IS 'Replicas that the node runs and the controller does not know; to be removed';

CREATE TABLE a67_internal.join_token (
    token_hash bytea PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    provider text,
    region text,
    name text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    node_id uuid REFERENCES a67_internal.node ON DELETE SET NULL
);
COMMENT ON TABLE a67_internal.join_token IS 'Single-use tokens that admit a node; only their SHA-256 is kept';
CREATE INDEX join_token_expires_at_idx ON a67_internal.join_token (expires_at);
CREATE INDEX join_token_node_id_idx ON a67_internal.join_token (node_id);

ALTER TABLE a67_internal.node ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.node FORCE ROW LEVEL SECURITY;
CREATE POLICY node_own ON a67_internal.node FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY node_admin ON a67_internal.node FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.node_observed ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.node_observed FORCE ROW LEVEL SECURITY;
CREATE POLICY node_observed_own ON a67_internal.node_observed FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.node n WHERE n.node_id = node_observed.node_id
                   AND n.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY node_observed_admin ON a67_internal.node_observed FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.join_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.join_token FORCE ROW LEVEL SECURITY;
CREATE POLICY join_token_own ON a67_internal.join_token FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY join_token_admin ON a67_internal.join_token FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.node, a67_internal.node_observed TO a67_user, a67_admin;
GRANT SELECT (owner_id, provider, region, name, created_at, expires_at, used_at, node_id)
    ON a67_internal.join_token TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.node', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.node_observed', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.join_token', '');
