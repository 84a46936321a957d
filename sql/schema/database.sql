-- Virtual databases: which physical databases one is made of, and where rows are. Its tables are foreign tables of wrapper a67_fdw
-- in a schema of the same name; what is said of a single table (strategy, key) lies in the table's options.

CREATE TABLE a67_internal.database (
    database_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid REFERENCES a67_internal."user",
    name text NOT NULL,
    remote_schema text NOT NULL DEFAULT 'public',
    strategy text NOT NULL DEFAULT 'hash',
    key text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT database_name_key UNIQUE (name),
    CONSTRAINT database_name_check CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$' AND name !~ '^(pg_|a67|information_schema$|public$|cron$)'),
    CONSTRAINT database_remote_schema_check CHECK (remote_schema ~ '^[a-z_][a-z0-9_]{0,62}$' AND remote_schema !~ '^(pg_|information_schema$)'),
    CONSTRAINT database_strategy_check CHECK (strategy IN ('hash', 'range', 'directory', 'reference', 'local'))
);
COMMENT ON TABLE a67_internal.database IS 'Many databases that are queried as one';
COMMENT ON COLUMN a67_internal.database.owner_id IS 'NULL: made by the operator in psql';
COMMENT ON COLUMN a67_internal.database.name IS 'Also the name of the local schema that its virtual tables are in';
COMMENT ON COLUMN a67_internal.database.remote_schema IS 'The schema of its tables on every shard';
COMMENT ON COLUMN a67_internal.database.strategy IS 'Of tables that are created without one, as is the key';

CREATE TABLE a67_internal.database_shard (
    shard_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    database_id uuid NOT NULL REFERENCES a67_internal.database ON DELETE CASCADE,
    name text NOT NULL,
    provider text,
    weight double precision NOT NULL DEFAULT 1,
    connection_sealed bytea,
    server_version integer,
    server_encoding text,
    lc_collate text,
    lc_ctype text,
    collation_version text,
    checked_at timestamptz,
    CONSTRAINT database_shard_name_key UNIQUE (database_id, name),
    CONSTRAINT database_shard_name_check CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    CONSTRAINT database_shard_weight_check CHECK (weight > 0 AND weight <= 1000)
);
COMMENT ON TABLE a67_internal.database_shard IS 'A physical database that holds a part of a virtual one';
COMMENT ON COLUMN a67_internal.database_shard.name IS 'Its place on the ring depends on name and weight alone';
COMMENT ON COLUMN a67_internal.database_shard.connection_sealed IS 'libpq connection string, sealed; its associated text is database_shard.connection:SHARD_ID';
COMMENT ON COLUMN a67_internal.database_shard.server_version IS 'server_version_num when it was last checked, as are the following';
COMMENT ON COLUMN a67_internal.database_shard.collation_version IS 'Of the library that sorts there; NULL: none or not known';
CREATE INDEX database_shard_connection_key_idx ON a67_internal.database_shard (substring(connection_sealed FROM 2 FOR 8));

CREATE TABLE a67_internal.shard_replica (
    replica_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard_id integer NOT NULL REFERENCES a67_internal.database_shard ON DELETE CASCADE,
    connection_sealed bytea
);
COMMENT ON TABLE a67_internal.shard_replica IS 'A copy of a shard that reads fall back to; kept by the provider or by the operator';
COMMENT ON COLUMN a67_internal.shard_replica.connection_sealed IS 'As of a shard; its associated text is shard_replica.connection:REPLICA_ID';
CREATE INDEX shard_replica_shard_id_idx ON a67_internal.shard_replica (shard_id);
CREATE INDEX shard_replica_connection_key_idx ON a67_internal.shard_replica (substring(connection_sealed FROM 2 FOR 8));

CREATE TABLE a67_internal.shard_range (
    database_id uuid NOT NULL REFERENCES a67_internal.database ON DELETE CASCADE,
    mapping text NOT NULL,
    lower_bound text,
    upper_bound text,
    shard_id integer NOT NULL REFERENCES a67_internal.database_shard ON DELETE CASCADE,
    CONSTRAINT shard_range_key UNIQUE NULLS NOT DISTINCT (database_id, mapping, lower_bound)
);
COMMENT ON TABLE a67_internal.shard_range IS 'Range strategy: keys from the lower bound up to, but without, the upper one are on the shard';
COMMENT ON COLUMN a67_internal.shard_range.mapping IS 'Tables that share a mapping are colocated';
COMMENT ON COLUMN a67_internal.shard_range.lower_bound IS 'Canonical text of a key; NULL: no bound';
CREATE INDEX shard_range_shard_id_idx ON a67_internal.shard_range (shard_id);

CREATE TABLE a67_internal.shard_directory (
    database_id uuid NOT NULL REFERENCES a67_internal.database ON DELETE CASCADE,
    mapping text NOT NULL,
    key text NOT NULL,
    shard_id integer NOT NULL REFERENCES a67_internal.database_shard ON DELETE CASCADE,
    PRIMARY KEY (database_id, mapping, key)
);
COMMENT ON TABLE a67_internal.shard_directory IS 'Directory strategy: the shard of each key, one by one';
COMMENT ON COLUMN a67_internal.shard_directory.key IS 'Canonical text of the key';
CREATE INDEX shard_directory_shard_id_idx ON a67_internal.shard_directory (shard_id);

ALTER TABLE a67_internal.database ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.database FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.database_shard ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.database_shard FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.shard_replica ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.shard_replica FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.shard_range ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.shard_range FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.shard_directory ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.shard_directory FORCE ROW LEVEL SECURITY;
CREATE POLICY database_own ON a67_internal.database FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY database_admin ON a67_internal.database FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal.database TO a67_user, a67_admin;
CREATE POLICY database_shard_own ON a67_internal.database_shard FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.database d WHERE d.database_id = database_shard.database_id
                   AND d.owner_id = (SELECT a67_internal._claims_user_id())));
CREATE POLICY database_shard_admin ON a67_internal.database_shard FOR SELECT TO a67_admin USING (true);
GRANT SELECT (shard_id, database_id, name, provider, weight, server_version, server_encoding, lc_collate, lc_ctype, collation_version,
    checked_at) ON a67_internal.database_shard TO a67_user, a67_admin;
CREATE POLICY shard_replica_own ON a67_internal.shard_replica FOR SELECT TO a67_user
    USING (EXISTS (SELECT FROM a67_internal.database_shard s WHERE s.shard_id = shard_replica.shard_id));
CREATE POLICY shard_replica_admin ON a67_internal.shard_replica FOR SELECT TO a67_admin USING (true);
GRANT SELECT (replica_id, shard_id) ON a67_internal.shard_replica TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.database', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.database_shard', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.shard_replica', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.shard_range', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.shard_directory', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.database_shard_shard_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.shard_replica_replica_id_seq', '');
