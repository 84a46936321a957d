-- Virtual databases: create, look at, drop. A database has a row, a foreign server a67_NAME, a schema NAME that holds its virtual
-- tables and belongs to a role a67_NAME_owner, and roles for those who use it (database_role.sql). Its shards are databases that
-- existed before and stay when it is dropped. Connection strings are sealed, and never shown again.

-- ---- what is given ----

CREATE OR REPLACE FUNCTION a67_internal._database_fields(value jsonb, known text[], field text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    unknown text;
BEGIN
    IF jsonb_typeof(value) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION '% must be an object', field USING ERRCODE = '22023', DETAIL = format('Field: %s.', field);
    END IF;
    SELECT k INTO unknown FROM jsonb_object_keys(value) k WHERE k <> ALL (known) ORDER BY k LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'unknown field "%"', left(unknown, 64) USING ERRCODE = '22023',
            DETAIL = format('Field: %s.%s.', field, left(unknown, 64)), HINT = format('It has: %s.', array_to_string(known, ', '));
    END IF;
END
$$;
COMMENT ON FUNCTION a67_internal._database_fields(jsonb, text[], text) IS 'Raises unless the value is an object of known fields';

-- A text, or NULL when it is missing or null.
CREATE OR REPLACE FUNCTION a67_internal._database_text(value jsonb, key text, pattern text, field text, hint text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    found text := value ->> key;
BEGIN
    IF found IS NOT NULL AND (jsonb_typeof(value -> key) <> 'string' OR found !~ pattern) THEN
        RAISE EXCEPTION 'invalid %', key USING ERRCODE = '22023', DETAIL = format('Field: %s.%s.', field, key), HINT = hint;
    END IF;
    RETURN found;
END
$$;

-- A connection string. What is in it is judged when it is used (src/net/shard_address.c).
CREATE OR REPLACE FUNCTION a67_internal._database_connection(value jsonb, field text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(value) IS DISTINCT FROM 'string' OR octet_length(value #>> '{}') NOT BETWEEN 1 AND 2048
       OR value #>> '{}' ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'a shard needs a connection string of 1 to 2048 bytes' USING ERRCODE = '22023',
            DETAIL = format('Field: %s.', field),
            HINT = 'It is like "postgresql://user:password@host:5432/database?sslmode=require".';
    END IF;
    RETURN value #>> '{}';
END
$$;

-- One shard as it is given, with defaults filled in.
CREATE OR REPLACE FUNCTION a67_internal._database_shard_read(shard jsonb, place integer, OUT name text, OUT provider text,
    OUT weight double precision, OUT connection text, OUT replicas text[])
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    field text := format('shards[%s]', place - 1);
BEGIN
    PERFORM a67_internal._database_fields(shard, ARRAY['name', 'provider', 'connection', 'weight', 'replicas'], field);
    name := coalesce(a67_internal._database_text(shard, 'name', '^[a-z0-9][a-z0-9_-]{0,62}$', field,
        'Use 1 to 63 lower-case letters, digits, "-" and "_".'), 's' || place);
    provider := a67_internal._database_text(shard, 'provider', '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$', field,
        'Use 1 to 63 lower-case letters, digits and hyphens.');
    connection := a67_internal._database_connection(shard -> 'connection', field || '.connection');
    IF coalesce(jsonb_typeof(shard -> 'weight'), 'null') NOT IN ('number', 'null')
       OR (shard ->> 'weight')::numeric NOT BETWEEN 0.01 AND 1000 THEN
        RAISE EXCEPTION 'weight must be a number from 0.01 to 1000' USING ERRCODE = '22023', DETAIL = format('Field: %s.weight.', field);
    END IF;
    weight := coalesce((shard ->> 'weight')::double precision, 1);
    IF coalesce(jsonb_typeof(shard -> 'replicas'), 'null') NOT IN ('array', 'null')
       OR jsonb_typeof(shard -> 'replicas') = 'array' AND jsonb_array_length(shard -> 'replicas') > 8 THEN
        RAISE EXCEPTION 'replicas must be an array of at most 8 connection strings' USING ERRCODE = '22023',
            DETAIL = format('Field: %s.replicas.', field);
    END IF;
    SELECT coalesce(array_agg(a67_internal._database_connection(r.one, format('%s.replicas[%s]', field, r.n - 1)) ORDER BY r.n), '{}')
    INTO replicas
    FROM jsonb_array_elements(CASE jsonb_typeof(shard -> 'replicas') WHEN 'array' THEN shard -> 'replicas' ELSE '[]' END)
        WITH ORDINALITY r (one, n);
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._database_check(name text, shards jsonb, sharding jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    strategy text;
BEGIN
    IF name IS NULL OR name !~ '^[a-z][a-z0-9_]{0,39}$' OR name ~ '^(pg_|a67|information_schema$|public$|cron$)' THEN
        RAISE EXCEPTION 'invalid name of a database' USING ERRCODE = '22023', DETAIL = 'Field: name.',
            HINT = 'Use 1 to 40 lower-case letters, digits and "_", a letter first; not "public", and not "pg_…" or "a67…".';
    END IF;
    IF jsonb_typeof(shards) IS DISTINCT FROM 'array' OR jsonb_array_length(shards) NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'shards must be an array of 1 to 64 shards' USING ERRCODE = '22023', DETAIL = 'Field: shards.';
    END IF;
    PERFORM a67_internal._database_fields(sharding, ARRAY['strategy', 'key', 'schema'], 'sharding');
    strategy := a67_internal._database_text(sharding, 'strategy', '^(hash|range|directory|reference|local)$', 'sharding',
        'Use hash, range, directory, reference or local.');
    IF a67_internal._database_text(sharding, 'key', '^.{1,63}$', 'sharding', 'It is the name of a column.') IS NOT NULL
       AND strategy IN ('reference', 'local') THEN
        RAISE EXCEPTION 'tables of strategy % have no key', strategy USING ERRCODE = '22023', DETAIL = 'Field: sharding.key.';
    END IF;
    PERFORM a67_internal._database_text(sharding, 'schema', '^(?!pg_|information_schema$)[a-z_][a-z0-9_]{0,62}$', 'sharding',
        'Use 1 to 63 lower-case letters, digits and "_", a letter or "_" first.');
END
$$;
COMMENT ON FUNCTION a67_internal._database_check(text, jsonb, jsonb) IS 'What can be said of a database that is to be created before its rows exist';

-- ---- what is there ----

-- The caller's own database, by name or id; an administrator's all. Locked, its definitions stay as they are until the end.
CREATE OR REPLACE FUNCTION a67_internal._database_find(database text, lock boolean DEFAULT false) RETURNS a67_internal.database
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    found_id uuid;
    d a67_internal.database;
BEGIN
    SELECT t.database_id INTO found_id FROM a67_internal.database t
    WHERE (t.name = _database_find.database OR t.database_id::text = lower(_database_find.database))
      AND (t.owner_id = caller OR a67_internal._is_admin());
    IF found_id IS NOT NULL AND lock THEN
        SELECT * INTO d FROM a67_internal.database t WHERE t.database_id = found_id FOR NO KEY UPDATE;
    ELSIF found_id IS NOT NULL THEN
        SELECT * INTO d FROM a67_internal.database t WHERE t.database_id = found_id;
    END IF;
    IF d.database_id IS NULL THEN
        RAISE EXCEPTION 'database "%" does not exist', coalesce(left(_database_find.database, 64), '')
            USING ERRCODE = 'PT404', HINT = 'a67.database_list() shows yours.';
    END IF;
    RETURN d;
END
$$;
COMMENT ON FUNCTION a67_internal._database_find(text, boolean) IS 'A database of the caller''s by name or id; other people''s do not exist';

CREATE OR REPLACE FUNCTION a67_internal._database_json(d a67_internal.database) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_build_object('id', d.database_id, 'name', d.name, 'schema', d.remote_schema,
        'sharding', jsonb_strip_nulls(jsonb_build_object('strategy', d.strategy, 'key', d.key)), 'created_at', d.created_at,
        'tables', (SELECT count(*) FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE s.srvname = 'a67_' || d.name),
        'shards', (SELECT jsonb_agg(jsonb_build_object('id', s.shard_id, 'name', s.name, 'provider', s.provider, 'weight', s.weight,
                                                       'share', round(r.share::numeric, 4), 'server_version', s.server_version,
                                                       'replicas', (SELECT count(*) FROM a67_internal.shard_replica p WHERE p.shard_id = s.shard_id),
                                                       'checked_at', s.checked_at) ORDER BY s.shard_id)
                   FROM a67_internal.database_shard s
                   JOIN (SELECT array_agg(t.name ORDER BY t.shard_id) AS names, array_agg(t.weight ORDER BY t.shard_id) AS weights
                         FROM a67_internal.database_shard t WHERE t.database_id = d.database_id) ring ON true
                   JOIN LATERAL a67.ring_shares(ring.names, ring.weights) r ON r.name = s.name
                   WHERE s.database_id = d.database_id))
$$;

CREATE OR REPLACE FUNCTION a67_internal._database_event(d a67_internal.database, change text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._event(coalesce(d.owner_id, a67_internal._operator_id()), 'database.changed', d.database_id,
                               jsonb_build_object('name', d.name, 'change', change))
$$;

-- ---- create ----

-- Asked of every shard within one transaction. The lock tells whether two shards are the same database: the second one does not
-- get it. Everything exists in PostgreSQL 10, so that an old server can say how old it is.
CREATE OR REPLACE FUNCTION a67_internal._shard_question(d a67_internal.database) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format($question$
        SELECT pg_catalog.jsonb_build_object(
            'version', pg_catalog.current_setting('server_version_num')::integer,
            'encoding', pg_catalog.pg_encoding_to_char(d.encoding),
            'collate', CASE WHEN p.provider <> 'c' THEN p.provider || ':' || p.locale ELSE d.datcollate END,
            'ctype', d.datctype,
            'collation_version', (SELECT max(pg_catalog.pg_collation_actual_version(c.oid)) FROM pg_catalog.pg_collation c
                                  WHERE c.collprovider = p.provider AND (p.provider <> 'c' OR
                                        pg_catalog.replace(pg_catalog.lower(c.collcollate), '-', '')
                                        = pg_catalog.replace(pg_catalog.lower(d.datcollate), '-', ''))),
            'recovering', pg_catalog.pg_is_in_recovery(),
            'system', (SELECT c.system_identifier::text || '/' || d.oid FROM pg_catalog.pg_control_system() c),
            'schema', n.oid IS NOT NULL,
            'allowed', CASE WHEN n.oid IS NULL THEN pg_catalog.has_database_privilege(d.oid, 'CREATE')
                            ELSE pg_catalog.has_schema_privilege(n.oid, 'CREATE') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') END,
            'only', pg_catalog.pg_try_advisory_xact_lock(%s))
        FROM pg_catalog.pg_database d
        CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(d)) j (row)
        CROSS JOIN LATERAL (SELECT coalesce(j.row ->> 'datlocprovider', 'c'),
                                   coalesce(j.row ->> 'datlocale', j.row ->> 'daticulocale')) p (provider, locale)
        LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = %L
        WHERE d.datname = pg_catalog.current_database()
    $question$, hashtextextended(d.database_id::text, 0), d.remote_schema)
$$;

-- What a shard answered, judged. Texts must mean the same on both sides of the wire, so encodings are equal.
CREATE OR REPLACE FUNCTION a67_internal._shard_judge(d a67_internal.database, shard text, answer jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    problem text := CASE
        WHEN (answer ->> 'version')::integer < 120000 THEN format('It runs PostgreSQL %s; 12 is the oldest that will do.',
                                                                  (answer ->> 'version')::integer / 10000)
        WHEN (answer ->> 'recovering')::boolean THEN 'It is a replica, which cannot be written to.'
        WHEN answer ->> 'encoding' <> getdatabaseencoding() THEN format('Its encoding is %s, not %s as here.',
                                                                        answer ->> 'encoding', getdatabaseencoding())
        WHEN NOT (answer ->> 'only')::boolean THEN 'It is the same database as another shard.'
        WHEN NOT (answer ->> 'allowed')::boolean AND (answer ->> 'schema')::boolean
            THEN format('Its user may not create tables in schema "%s".', d.remote_schema)
        WHEN NOT (answer ->> 'allowed')::boolean THEN format('It has no schema "%s", and its user may not create one.', d.remote_schema)
    END;
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'shard "%" cannot be used', shard USING ERRCODE = '22023', DETAIL = format('Field: shards. %s', problem);
    END IF;
END
$$;

-- Asks all shards at once, records what they are, and makes the schema where it is missing. Answers with what says of a replica whose
-- it is, by name of the shard.
CREATE OR REPLACE FUNCTION a67_internal._shards_check(d a67_internal.database) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    one record;
    systems jsonb := '{}';
BEGIN
    FOR one IN SELECT q.shard, q.answer::jsonb AS is
               FROM a67_internal._shard_ask('a67_' || d.name, a67_internal._shard_question(d), NULL) q ORDER BY q.shard LOOP
        PERFORM a67_internal._shard_judge(d, one.shard, one.is);
        UPDATE a67_internal.database_shard s
        SET server_version = (one.is ->> 'version')::integer, server_encoding = left(one.is ->> 'encoding', 64),
            lc_collate = left(one.is ->> 'collate', 128), lc_ctype = left(one.is ->> 'ctype', 128),
            collation_version = left(one.is ->> 'collation_version', 128), checked_at = now()
        WHERE s.database_id = d.database_id AND s.name = one.shard;
        systems := systems || jsonb_build_object(one.shard, one.is -> 'system');
        IF NOT (one.is ->> 'schema')::boolean THEN
            PERFORM a67_internal._shard_tell('a67_' || d.name, format('CREATE SCHEMA %I', d.remote_schema), one.shard);
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM a67_internal.database_shard s WHERE s.database_id = d.database_id AND s.checked_at IS NULL) THEN
        RAISE EXCEPTION 'could not ask all shards' USING ERRCODE = 'PT503';
    END IF;
    RETURN systems;
END
$$;

-- A replica answers for its shard when that is down: rows of another database would be wrong ones.
CREATE OR REPLACE FUNCTION a67_internal._replica_check(d a67_internal.database, shard text, connection text, system text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    question text := 'SELECT pg_catalog.pg_is_in_recovery() AND c.system_identifier::text || ''/'' || d.oid = %L
                      FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()';
BEGIN
    IF a67_internal._shard_try(connection, shard, format(question, system), d.owner_id IS NULL) IS DISTINCT FROM 't' THEN
        RAISE EXCEPTION 'a replica of shard "%" cannot be used', shard USING ERRCODE = '22023',
            DETAIL = 'Field: shards. It is not a streaming replica of the shard''s database.';
    END IF;
END
$$;

-- Everything that is sent to shards before there are tables. What does not work is what was given, not this server.
CREATE OR REPLACE FUNCTION a67_internal._database_reach(d a67_internal.database, shards jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    systems jsonb;
    message text;
    detail text;
BEGIN
    systems := a67_internal._shards_check(d);
    PERFORM a67_internal._replica_check(d, g.name, r.connection, systems ->> g.name)
    FROM jsonb_array_elements(shards) WITH ORDINALITY s (shard, place)
    CROSS JOIN LATERAL a67_internal._database_shard_read(s.shard, s.place::integer) g
    CROSS JOIN LATERAL unnest(g.replicas) r (connection);
EXCEPTION WHEN connection_exception OR invalid_authorization_specification OR invalid_catalog_name
          OR prohibited_sql_statement_attempted OR SQLSTATE 'PT503' OR SQLSTATE 'PT504' THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = message, DETAIL = rtrim(format('Field: shards. %s', detail));
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._database_shard_add(d a67_internal.database, shard jsonb, place integer) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    given record := a67_internal._database_shard_read(shard, place);
    new_id integer;
    replica text;
BEGIN
    INSERT INTO a67_internal.database_shard AS s (database_id, name, provider, weight)
    VALUES (d.database_id, given.name, given.provider, given.weight)
    ON CONFLICT ON CONSTRAINT database_shard_name_key DO NOTHING RETURNING s.shard_id INTO new_id;
    IF new_id IS NULL THEN
        RAISE EXCEPTION 'shard "%" is there twice', given.name USING ERRCODE = '22023', DETAIL = format('Field: shards[%s].name.', place - 1);
    END IF;
    UPDATE a67_internal.database_shard s
    SET connection_sealed = a67_internal._vault_seal(convert_to(given.connection, 'UTF8'), 'database_shard.connection:' || new_id)
    WHERE s.shard_id = new_id;
    FOREACH replica IN ARRAY given.replicas LOOP
        INSERT INTO a67_internal.shard_replica (shard_id) VALUES (new_id);
        UPDATE a67_internal.shard_replica r
        SET connection_sealed = a67_internal._vault_seal(convert_to(replica, 'UTF8'), 'shard_replica.connection:' || r.replica_id)
        WHERE r.shard_id = new_id AND r.connection_sealed IS NULL;
    END LOOP;
END
$$;

-- Server, owner, schema and roles, empty.
CREATE OR REPLACE FUNCTION a67_internal._database_build(d a67_internal.database) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner_name text := a67_internal._database_role_name(d, 'owner');
BEGIN
    PERFORM a67_internal._database_role_make(owner_name);
    EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER a67_fdw OPTIONS (database %L)', 'a67_' || d.name, d.name);
    EXECUTE format('GRANT USAGE ON FOREIGN SERVER %I TO %I', 'a67_' || d.name, owner_name);
    EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', d.name, owner_name);
    PERFORM a67_internal._database_frame_create(d);
END
$$;

CREATE OR REPLACE FUNCTION a67.database_create(name text, shards jsonb, sharding jsonb DEFAULT '{"strategy": "hash"}') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller uuid;
    rule jsonb := coalesce(database_create.sharding, '{}');
    d a67_internal.database;
BEGIN
    -- The operator's connection strings may say anything; who comes through the API is never the operator.
    IF a67_internal._claims_user_id() IS NOT NULL OR NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = session_user) THEN
        caller := a67_internal._user_id();
    END IF;
    PERFORM a67_internal._vault_require(), a67_internal._database_check(database_create.name, database_create.shards, rule);
    -- One at a time, so that the count holds.
    PERFORM FROM a67_internal."user" u WHERE u.user_id = caller FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM a67_internal.database t WHERE t.owner_id = caller) >= 20 THEN
        RAISE EXCEPTION 'you have 20 databases already' USING ERRCODE = 'PT409', HINT = 'Drop one that is not needed.';
    END IF;
    INSERT INTO a67_internal.database AS t (owner_id, name, remote_schema, strategy, key)
    VALUES (caller, database_create.name, coalesce(rule ->> 'schema', 'public'), coalesce(rule ->> 'strategy', 'hash'), rule ->> 'key')
    ON CONFLICT ON CONSTRAINT database_name_key DO NOTHING RETURNING t.* INTO d;
    IF d.database_id IS NULL OR to_regnamespace(database_create.name) IS NOT NULL THEN
        RAISE EXCEPTION 'database "%" already exists', database_create.name USING ERRCODE = '23505', DETAIL = 'Field: name.';
    END IF;
    PERFORM a67_internal._database_shard_add(d, s.shard, s.place::integer)
    FROM jsonb_array_elements(database_create.shards) WITH ORDINALITY s (shard, place);
    PERFORM a67_internal._database_build(d);
    PERFORM a67_internal._database_reach(d, database_create.shards);
    PERFORM a67_internal._database_event(d, 'created'), a67_internal._audit('database.create', 'ok', d.name);
    PERFORM set_config('response.status', '201', true);
    RETURN a67_internal._database_json(d);
END
$$;
COMMENT ON FUNCTION a67.database_create(text, jsonb, jsonb) IS
    'Makes one virtual database of many: shards [{connection, name, provider, weight, replicas}], sharding {strategy, key, schema} (docs/router.md)';

-- ---- drop ----

CREATE OR REPLACE FUNCTION a67.database_drop(database text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database, true);
    owner_name text := a67_internal._database_role_name(d, 'owner');
BEGIN
    EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', d.name);
    EXECUTE format('DROP SERVER IF EXISTS %I CASCADE', 'a67_' || d.name);
    PERFORM a67_internal._database_frame_drop(d);
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = owner_name) THEN
        PERFORM a67_internal._database_role_remove(owner_name);
    END IF;
    DELETE FROM a67_internal.database t WHERE t.database_id = d.database_id;
    PERFORM a67_internal._database_event(d, 'dropped'), a67_internal._audit('database.drop', 'ok', d.name);
    PERFORM set_config('response.status', '204', true);
END
$$;
COMMENT ON FUNCTION a67.database_drop(text) IS
    'Forgets a virtual database (name or id) with its schema and roles; its shards, with all rows, stay as they are';

-- ---- look at ----

CREATE OR REPLACE FUNCTION a67.database_list("limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(a67_internal._database_json(c.found) ORDER BY c.name), '[]')
    FROM (SELECT t AS found, t.name FROM a67_internal.database t
          WHERE t.owner_id = (SELECT a67_internal._claims_user_id()) OR (SELECT a67_internal._is_admin())
          ORDER BY t.name LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) c
$$;
COMMENT ON FUNCTION a67.database_list(integer, integer) IS 'Your virtual databases with their shards; an administrator sees all';

CREATE OR REPLACE FUNCTION a67.database_get(database text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._database_json(a67_internal._database_find(database))
$$;
COMMENT ON FUNCTION a67.database_get(text) IS 'One of your virtual databases, by name or id';

CREATE OR REPLACE VIEW a67.database WITH (security_invoker = true) AS
SELECT d.database_id, d.name, d.remote_schema, d.strategy, d.key, d.created_at,
       (SELECT count(*) FROM a67_internal.database_shard s WHERE s.database_id = d.database_id) AS shards, d.owner_id
FROM a67_internal.database d;
COMMENT ON VIEW a67.database IS 'Your virtual databases';

CREATE OR REPLACE VIEW a67.database_shard WITH (security_invoker = true) AS
SELECT s.shard_id, d.name AS database, s.name, s.provider, s.weight, s.server_version, s.server_encoding, s.lc_collate,
       (SELECT count(*) FROM a67_internal.shard_replica r WHERE r.shard_id = s.shard_id) AS replicas, s.checked_at
FROM a67_internal.database_shard s JOIN a67_internal.database d USING (database_id);
COMMENT ON VIEW a67.database_shard IS 'The shards of your virtual databases, without how to connect to them';
