-- Traffic: by which hosts and paths deployments are reached, and what the ingress (HAProxy) has counted for each replica.

CREATE TABLE a67_internal.route (
    below_domain boolean NOT NULL,
    host text NOT NULL,
    path text NOT NULL,
    deployment_id uuid NOT NULL REFERENCES a67_internal.deployment ON DELETE CASCADE,
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    claimed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (host, below_domain, path),
    CONSTRAINT route_host_check CHECK (host ~ '^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$' AND length(host) <= 190
                                       AND (position('.' IN host) = 0) = below_domain),
    CONSTRAINT route_path_check CHECK (path ~ '^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$' AND length(path) <= 255)
);
COMMENT ON TABLE a67_internal.route IS 'Hosts and paths that lead to deployments; a host belongs to one user as long as any route of his names it';
COMMENT ON COLUMN a67_internal.route.below_domain IS 'Whether host is one label, to be completed with the setting a67.ingress_domain';
COMMENT ON COLUMN a67_internal.route.path IS 'The path itself and everything below it; never ends with a slash but when it is one';
CREATE INDEX route_deployment_id_idx ON a67_internal.route (deployment_id);

-- The counters of HAProxy begin anew with each of its processes, of which several may be alive. What was last seen of
-- each is kept (processes, seen), so that no request is counted twice or lost, whichever process dies.
CREATE TABLE a67_internal.replica_traffic (
    replica_id uuid PRIMARY KEY REFERENCES a67_internal.replica ON DELETE CASCADE,
    requests bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    latency_sum_ms float8 NOT NULL DEFAULT 0,
    sessions integer NOT NULL DEFAULT 0,
    queued integer NOT NULL DEFAULT 0,
    at timestamptz NOT NULL DEFAULT now(),
    processes text[] NOT NULL DEFAULT '{}',
    seen_requests bigint[] NOT NULL DEFAULT '{}',
    seen_failures bigint[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.replica_traffic IS 'Requests that HAProxy sent to each replica; written by the ingress worker';
COMMENT ON COLUMN a67_internal.replica_traffic.requests IS 'Since the replica began; never falls, whatever becomes of HAProxy';
COMMENT ON COLUMN a67_internal.replica_traffic.failures IS 'Of these, answered with 5xx or not at all';
COMMENT ON COLUMN a67_internal.replica_traffic.latency_sum_ms IS 'Time to the answer, of all of them together';
COMMENT ON COLUMN a67_internal.replica_traffic.sessions IS 'Under way at the last look; likewise queued';
COMMENT ON COLUMN a67_internal.replica_traffic.processes IS
    'Processes of HAProxy that knew the replica at the last look; seen_requests and seen_failures are what each had counted';

-- What each deployment has been refused or has waiting, beyond what its replicas count.
CREATE TABLE a67_internal.deployment_traffic (
    deployment_id uuid PRIMARY KEY REFERENCES a67_internal.deployment ON DELETE CASCADE,
    refused bigint NOT NULL DEFAULT 0,
    queued integer NOT NULL DEFAULT 0,
    at timestamptz NOT NULL DEFAULT now(),
    processes text[] NOT NULL DEFAULT '{}',
    seen_refused bigint[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.deployment_traffic IS 'Requests that no replica got; written by the ingress worker';
COMMENT ON COLUMN a67_internal.deployment_traffic.refused IS 'Answered with 503 because the queue was full; never falls';
COMMENT ON COLUMN a67_internal.deployment_traffic.queued IS 'Waiting for any replica at the last look';

ALTER TABLE a67_internal.route ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.route FORCE ROW LEVEL SECURITY;
CREATE POLICY route_own ON a67_internal.route FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY route_admin ON a67_internal.route FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.replica_traffic ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.replica_traffic FORCE ROW LEVEL SECURITY;
CREATE POLICY replica_traffic_own ON a67_internal.replica_traffic FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id)
                   WHERE r.replica_id = replica_traffic.replica_id AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY replica_traffic_admin ON a67_internal.replica_traffic FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.deployment_traffic ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.deployment_traffic FORCE ROW LEVEL SECURITY;
CREATE POLICY deployment_traffic_own ON a67_internal.deployment_traffic FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.deployment d WHERE d.deployment_id = deployment_traffic.deployment_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY deployment_traffic_admin ON a67_internal.deployment_traffic FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.route, a67_internal.replica_traffic, a67_internal.deployment_traffic TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.route', '');

-- ---- DNS: what PowerDNS may read, and nothing else -------------------------------------------------------

CREATE SCHEMA a67_dns;
COMMENT ON SCHEMA a67_dns IS 'Automator67: the zone of the ingress domain, as PowerDNS''s gpgsql backend reads it';
DO $role$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'a67_dns') THEN
        CREATE ROLE a67_dns NOLOGIN;
    END IF;
END
$role$;
GRANT USAGE ON SCHEMA a67_dns TO a67_dns;

CREATE TABLE a67_internal.dns_zone (
    digest text NOT NULL,
    serial bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dns_zone_serial_check CHECK (serial BETWEEN 0 AND 4294967295)
);
COMMENT ON TABLE a67_internal.dns_zone IS 'The serial number of the zone, one row; written by the ingress worker when the records have changed';
CREATE UNIQUE INDEX dns_zone_one_key ON a67_internal.dns_zone ((true));
INSERT INTO a67_internal.dns_zone (digest, serial) VALUES ('', 1);
ALTER TABLE a67_internal.dns_zone ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.dns_zone FORCE ROW LEVEL SECURITY;
