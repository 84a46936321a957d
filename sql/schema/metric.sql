-- Metrics over time, of nodes and of the whole. A node's running minute is in node_observed.metric.

CREATE TABLE a67_internal.node_metric (
    -- No foreign key: it would cost more than the row, and rows go by their age anyway.
    node_id uuid,
    bucket_at timestamptz,
    samples integer NOT NULL,
    cpu_percent real,
    cpu_percent_max real,
    memory_percent real,
    memory_percent_max real,
    disk_percent real,
    disk_percent_max real,
    load1 real,
    load1_max real,
    latency_ms real,
    latency_ms_max real,
    requests bigint NOT NULL,
    failures bigint NOT NULL,
    network_bytes bigint NOT NULL,
    PRIMARY KEY (node_id, bucket_at)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE a67_internal.node_metric IS 'Means and maxima of each node in each minute that has ended; written by _heartbeat_record';
-- Finds the rows whose time is over; it grows at one end only, which costs next to nothing.
CREATE INDEX node_metric_bucket_at_idx ON a67_internal.node_metric (bucket_at);

CREATE TABLE a67_internal.system_metric (
    at timestamptz PRIMARY KEY,
    nodes integer NOT NULL,
    nodes_by_status jsonb NOT NULL,
    cpu_cores float8 NOT NULL,
    cpu_cores_used float8 NOT NULL,
    memory_bytes bigint NOT NULL,
    memory_bytes_used bigint NOT NULL,
    active_requests bigint NOT NULL,
    error_rate float8,
    latency_ms float8,
    latency_ms_p50 float8,
    latency_ms_p95 float8,
    latency_ms_p99 float8,
    replicas_wanted integer NOT NULL,
    replicas_running integer NOT NULL
);
COMMENT ON TABLE a67_internal.system_metric IS 'Totals of all nodes, one row a round of the monitor; written by _metric_tick';

ALTER TABLE a67_internal.node_metric ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.node_metric FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.system_metric ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.system_metric FORCE ROW LEVEL SECURITY;
CREATE POLICY system_metric_admin ON a67_internal.system_metric FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.system_metric TO a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.node_metric', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.system_metric', '');
