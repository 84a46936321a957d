-- Output of applications, as their agents ship it.
--
-- None of it is in a dump: it is large, short-lived, and the nodes still have the latest of it.

CREATE TABLE a67_internal.deployment_log (
    deployment_id uuid PRIMARY KEY REFERENCES a67_internal.deployment ON DELETE CASCADE,
    owner_id uuid NOT NULL,
    next_seq bigint NOT NULL DEFAULT 1,
    bytes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.deployment_log IS 'The kept output of a deployment; whoever adds to it or takes from it locks this row';
COMMENT ON COLUMN a67_internal.deployment_log.next_seq IS
    'Of the next chunk: given out under the lock, so that a reader who has seen a number has seen all before it';
CREATE INDEX deployment_log_owner_id_idx ON a67_internal.deployment_log (owner_id);

CREATE TABLE a67_internal.replica_log (
    -- No foreign key to replica: the last words of one that is gone are wanted most.
    replica_id uuid PRIMARY KEY,
    deployment_id uuid NOT NULL REFERENCES a67_internal.deployment_log ON DELETE CASCADE,
    node_id uuid NOT NULL,
    node text NOT NULL,
    next_offset bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    missing_bytes bigint NOT NULL DEFAULT 0,
    pruned_bytes bigint NOT NULL DEFAULT 0,
    last_at timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT replica_log_next_offset_check CHECK (next_offset >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.replica_log IS 'How far the output of a replica has come, and what became of it';
COMMENT ON COLUMN a67_internal.replica_log.next_offset IS 'Everything before it has come, or was given up by the node';
COMMENT ON COLUMN a67_internal.replica_log.missing_bytes IS 'Given up by the node before it could ship them';
COMMENT ON COLUMN a67_internal.replica_log.pruned_bytes IS 'Taken away here, for their age or their number';
CREATE INDEX replica_log_deployment_id_idx ON a67_internal.replica_log (deployment_id);

CREATE TABLE a67_internal.log_chunk (
    deployment_id uuid NOT NULL REFERENCES a67_internal.deployment_log ON DELETE CASCADE,
    seq bigint NOT NULL,
    replica_id uuid NOT NULL,
    at timestamptz NOT NULL,
    missing bigint NOT NULL,
    lines integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (deployment_id, seq)
);
COMMENT ON TABLE a67_internal.log_chunk IS 'Pieces of output, up to 32 kB each, in the order in which they came';
COMMENT ON COLUMN a67_internal.log_chunk.at IS 'When the node first saw it, never before the piece in front of it';
COMMENT ON COLUMN a67_internal.log_chunk.missing IS 'Bytes of the same replica that are missing in front of it';
CREATE INDEX log_chunk_at_idx ON a67_internal.log_chunk (deployment_id, at, seq);
CREATE INDEX log_chunk_replica_id_idx ON a67_internal.log_chunk (replica_id, seq);

ALTER TABLE a67_internal.deployment_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.deployment_log FORCE ROW LEVEL SECURITY;
CREATE POLICY deployment_log_own ON a67_internal.deployment_log FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY deployment_log_admin ON a67_internal.deployment_log FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.replica_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.replica_log FORCE ROW LEVEL SECURITY;
CREATE POLICY replica_log_own ON a67_internal.replica_log FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.deployment_log d WHERE d.deployment_id = replica_log.deployment_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY replica_log_admin ON a67_internal.replica_log FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.log_chunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.log_chunk FORCE ROW LEVEL SECURITY;
CREATE POLICY log_chunk_own ON a67_internal.log_chunk FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.deployment_log d WHERE d.deployment_id = log_chunk.deployment_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY log_chunk_admin ON a67_internal.log_chunk FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.deployment_log, a67_internal.replica_log TO a67_user, a67_admin;
