-- Nodes: what was registered (node), what is seen of them (node_observed), and the tokens that let them in.

CREATE TABLE a67_internal.node (
    node_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    name text NOT NULL,
    provider text NOT NULL DEFAULT 'generic',
    region text,
    tier text,
    services text[] NOT NULL DEFAULT '{compute}',
    labels jsonb NOT NULL DEFAULT '{}',
    endpoint text NOT NULL,
    version text,
    public_key text NOT NULL,
    cpu_cores real NOT NULL,
    memory_bytes bigint NOT NULL,
    disk_bytes bigint NOT NULL,
    network_bandwidth_mbps real,
    max_concurrent_requests integer NOT NULL,
    runners text[] NOT NULL DEFAULT '{process}',
    desired_state text NOT NULL DEFAULT 'active',
    facts_version bigint NOT NULL DEFAULT 1,
    registered_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT node_name_check CHECK (name ~ '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$'),
    CONSTRAINT node_endpoint_check CHECK (endpoint ~ '^https?://' AND length(endpoint) <= 255),
    CONSTRAINT node_services_check CHECK (services <@ '{compute,database,storage,cache}' AND cardinality(services) > 0),
    CONSTRAINT node_runners_check CHECK (runners <@ '{process,container}' AND cardinality(runners) > 0),
    CONSTRAINT node_labels_check CHECK (jsonb_typeof(labels) = 'object'),
    CONSTRAINT node_desired_state_check CHECK (desired_state IN ('active', 'draining', 'maintenance', 'removed'))
);
COMMENT ON TABLE a67_internal.node IS 'Registered nodes; written by registration and by their owner''s commands';
COMMENT ON COLUMN a67_internal.node.facts_version IS 'Grows with every change of the row: the live node table takes no older facts';
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
    latency_ms real,
    flaps real NOT NULL DEFAULT 0,
    flaps_at timestamptz,
    pinged_at timestamptz,
    near_quota boolean NOT NULL DEFAULT false,
    up_seconds float8 NOT NULL DEFAULT 0,
    network_bytes bigint,
    traffic_bytes bigint NOT NULL DEFAULT 0,
    recent_requests float8,
    recent_failures float8,
    drained_at timestamptz,
    restart_due_at timestamptz,
    restart_not_before timestamptz NOT NULL DEFAULT '-infinity',
    restarts integer NOT NULL DEFAULT 0,
    metric_at timestamptz,
    metric float8[],
    CONSTRAINT node_observed_status_check CHECK (status IN ('initializing', 'ready', 'busy', 'degraded',
        'suspect', 'failed', 'offline', 'maintenance', 'removed'))
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.node_observed IS 'What the controller sees of each node; written by heartbeats and the monitor';
COMMENT ON COLUMN a67_internal.node_observed.epoch IS 'Grows at every judgement; a probe result of an older epoch is dropped';
COMMENT ON COLUMN a67_internal.node_observed.judged_heartbeat_at IS 'The heartbeat that the health state machine saw last';
COMMENT ON COLUMN a67_internal.node_observed.flaps IS 'Falls from a good status, fading with a half-life; recovery is slower above a limit';
COMMENT ON COLUMN a67_internal.node_observed.pinged_at IS 'The last request that kept the node from being put to sleep by its provider';
COMMENT ON COLUMN a67_internal.node_observed.near_quota IS 'Whether 90 % of a quota of its provider are used: selection avoids it';
COMMENT ON COLUMN a67_internal.node_observed.up_seconds IS
    'Time between heartbeats since registration, gaps longer than two intervals left out; never falls';
COMMENT ON COLUMN a67_internal.node_observed.network_bytes IS 'The agent''s counter at the last heartbeat; falls when the machine boots';
COMMENT ON COLUMN a67_internal.node_observed.traffic_bytes IS 'The rises of that counter since registration; never falls';
COMMENT ON COLUMN a67_internal.node_observed.recent_requests IS
    'Requests that its apps served lately, fading; recent_failures of these failed. NULL: nobody counts them';
COMMENT ON COLUMN a67_internal.node_observed.drained_at IS 'When a node that is taken out was found empty';
COMMENT ON COLUMN a67_internal.node_observed.restart_due_at IS 'Failed then, and its provider is still to be asked for a restart';
COMMENT ON COLUMN a67_internal.node_observed.restarts IS 'Restarts asked for, until a day without; the next one waits for restart_not_before';
COMMENT ON COLUMN a67_internal.node_observed.metric_at IS 'The minute that metric is about; it goes to node_metric when another one begins';
COMMENT ON COLUMN a67_internal.node_observed.metric IS 'What heartbeats of that minute said, added up (_bucket_add)';
COMMENT ON COLUMN a67_internal.node_observed.stray_replicas IS 'Replicas that the node runs and the controller does not know; to be removed';

-- Neither is touched by a heartbeat.
CREATE INDEX node_observed_restart_idx ON a67_internal.node_observed (restart_due_at) WHERE restart_due_at IS NOT NULL;
CREATE INDEX node_leaving_idx ON a67_internal.node (node_id) WHERE desired_state IN ('draining', 'maintenance');

CREATE TABLE a67_internal.node_reserved (
    node_id uuid PRIMARY KEY REFERENCES a67_internal.node ON DELETE CASCADE,
    memory_bytes bigint NOT NULL DEFAULT 0,
    cpu float8 NOT NULL DEFAULT 0,
    disk_bytes bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.node_reserved IS
    'What is promised to replicas on each node; kept by a trigger of replica, whose row locks order concurrent placements';

-- The counters of node_observed only grow, so a month's use is a difference: nothing is written while a month goes on.
CREATE TABLE a67_internal.node_usage (
    node_id uuid REFERENCES a67_internal.node ON DELETE CASCADE,
    month date NOT NULL,
    up_seconds_before float8 NOT NULL,
    traffic_bytes_before bigint NOT NULL,
    up_seconds float8,
    traffic_bytes bigint,
    disk_bytes bigint,
    warned jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (node_id, month),
    CONSTRAINT node_usage_month_check CHECK (extract(day FROM month) = 1)
);
COMMENT ON TABLE a67_internal.node_usage IS 'What each node has used of its provider, by calendar month (UTC); a node''s last row is its open month';
COMMENT ON COLUMN a67_internal.node_usage.up_seconds_before IS 'The counter of node_observed when the month was opened; likewise traffic_bytes_before';
COMMENT ON COLUMN a67_internal.node_usage.up_seconds IS 'Used in the month, set when the next one is opened; likewise traffic_bytes and disk_bytes';
CREATE UNIQUE INDEX node_usage_open_key ON a67_internal.node_usage (node_id) INCLUDE (month) WHERE up_seconds IS NULL;
CREATE INDEX node_near_quota_idx ON a67_internal.node_observed (node_id) WHERE near_quota;
COMMENT ON COLUMN a67_internal.node_usage.warned IS 'Kind of quota → the quota that was nearly used up when its owner was warned';

CREATE TABLE a67_internal.join_token (
    token_hash bytea PRIMARY KEY,
    join_token_id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
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
ALTER TABLE a67_internal.node_reserved ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.node_reserved FORCE ROW LEVEL SECURITY;
CREATE POLICY node_reserved_own ON a67_internal.node_reserved FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.node n WHERE n.node_id = node_reserved.node_id
                   AND n.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY node_reserved_admin ON a67_internal.node_reserved FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.node_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.node_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY node_usage_own ON a67_internal.node_usage FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.node n WHERE n.node_id = node_usage.node_id
                   AND n.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY node_usage_admin ON a67_internal.node_usage FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.join_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.join_token FORCE ROW LEVEL SECURITY;
CREATE POLICY join_token_own ON a67_internal.join_token FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY join_token_admin ON a67_internal.join_token FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.node, a67_internal.node_observed, a67_internal.node_reserved, a67_internal.node_usage TO a67_user, a67_admin;
GRANT SELECT (join_token_id, owner_id, provider, region, name, created_at, expires_at, used_at, node_id)
    ON a67_internal.join_token TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.node', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.node_observed', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.node_usage', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.join_token', '');
