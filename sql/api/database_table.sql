-- Virtual tables: create, import, ranges and directories, the registry of schemas.
-- Which ranges or keys are on which shard is said of a mapping, by name; tables of one mapping are colocated. A mapping lives as
-- long as a table has it. What is said of a single table lies in the options of its foreign table.

CREATE OR REPLACE FUNCTION a67_internal._virtual_tables(database text)
RETURNS TABLE (relation regclass, name text, strategy text, key text, mapping text, shard text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT c.oid::regclass, c.relname::text, o.options ->> 'strategy', o.options ->> 'key', o.options ->> 'mapping', o.options ->> 'shard'
    FROM pg_foreign_server s JOIN pg_foreign_table f ON f.ftserver = s.oid JOIN pg_class c ON c.oid = f.ftrelid
        CROSS JOIN LATERAL (SELECT coalesce(jsonb_object_agg(x.option_name, x.option_value), '{}')
                            FROM pg_options_to_table(f.ftoptions) x) o (options)
    WHERE s.srvname = 'a67_' || _virtual_tables.database
$$;
COMMENT ON FUNCTION a67_internal._virtual_tables(text) IS 'Virtual tables of a database as their options say';

CREATE OR REPLACE FUNCTION a67_internal._mapping_tidy(d a67_internal.database) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    DELETE FROM a67_internal.shard_range r WHERE r.database_id = d.database_id
        AND NOT EXISTS (SELECT FROM a67_internal._virtual_tables(d.name) t WHERE t.mapping = r.mapping);
    DELETE FROM a67_internal.shard_directory r WHERE r.database_id = d.database_id
        AND NOT EXISTS (SELECT FROM a67_internal._virtual_tables(d.name) t WHERE t.mapping = r.mapping);
END
$$;
COMMENT ON FUNCTION a67_internal._mapping_tidy(a67_internal.database) IS 'Forgets mappings that no table has any more';

CREATE OR REPLACE FUNCTION a67_internal._table_key(relation regclass, key text) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_table_key' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION a67_internal._table_key(regclass, text) IS 'Canonical text of a key of the table, from what its type reads';

CREATE OR REPLACE FUNCTION a67_internal._range_check(relation regclass, lower text, upper text) RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_range_check' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._range_check(regclass, text, text) IS
    'Raises unless the canonical texts (NULL: no bound) are those of a range that overlaps none of the table';

CREATE OR REPLACE FUNCTION a67_internal._table_census(relation regclass, OUT shard text, OUT held bigint, OUT strays bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'a67_sql_table_census' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._table_census(regclass) IS 'Rows on each shard, and how many of them belong on another one by their key';

CREATE OR REPLACE FUNCTION a67_internal._table_lock(relation regclass) RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_table_lock' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._table_lock(regclass) IS
    'Nobody writes the virtual table until the transaction ends: LOCK TABLE does not take foreign tables';

CREATE OR REPLACE FUNCTION a67_internal._shard_find(d a67_internal.database, shard text, field text) RETURNS integer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    id integer;
BEGIN
    SELECT s.shard_id INTO id FROM a67_internal.database_shard s
    WHERE s.database_id = d.database_id AND s.name = _shard_find.shard;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'database "%" has no shard "%"', d.name, coalesce(left(_shard_find.shard, 63), '')
            USING ERRCODE = '22023', DETAIL = format('Field: %s.', field);
    END IF;
    RETURN id;
END
$$;

-- A table of the mapping, for the type of its keys.
CREATE OR REPLACE FUNCTION a67_internal._mapping_find(d a67_internal.database, mapping text, strategy text) RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    relation regclass;
BEGIN
    SELECT t.relation INTO relation FROM a67_internal._virtual_tables(d.name) t
    WHERE t.mapping = _mapping_find.mapping AND t.strategy = _mapping_find.strategy ORDER BY t.name LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'database "%" has no table of strategy % with mapping "%"', d.name, strategy, coalesce(left(mapping, 63), '')
            USING ERRCODE = '22023', DETAIL = 'Field: mapping.',
            HINT = 'a67.database_schema shows the mappings of tables; one that is not named is named as the key.';
    END IF;
    RETURN relation;
END
$$;

-- Keys from the lower bound up to, but without, the upper one; NULL: no bound.
CREATE OR REPLACE FUNCTION a67_internal._range_add(d a67_internal.database, relation regclass, mapping text, lower_bound text,
    upper_bound text, shard text, field text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    shard_id integer := a67_internal._shard_find(d, shard, field || 'shard');
BEGIN
    lower_bound := a67_internal._table_key(relation, lower_bound);
    upper_bound := a67_internal._table_key(relation, upper_bound);
    PERFORM a67_internal._range_check(relation, lower_bound, upper_bound);
    INSERT INTO a67_internal.shard_range (database_id, mapping, lower_bound, upper_bound, shard_id)
    VALUES (d.database_id, _range_add.mapping, _range_add.lower_bound, _range_add.upper_bound, shard_id);
END
$$;

-- ranges: [{"from": bound or null, "to": bound or null, "shard": name}]
CREATE OR REPLACE FUNCTION a67_internal._ranges_add(d a67_internal.database, relation regclass, mapping text, ranges jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
    unknown text;
BEGIN
    IF jsonb_typeof(ranges) <> 'array' OR jsonb_array_length(ranges) NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'ranges must be an array of 1 to 10000 ranges' USING ERRCODE = '22023', DETAIL = 'Field: ranges.',
            HINT = 'A range is like {"from": "2024-01-01", "to": "2025-01-01", "shard": "s1"}; null is no bound.';
    END IF;
    IF EXISTS (SELECT FROM a67_internal.shard_range r WHERE r.database_id = d.database_id AND r.mapping = _ranges_add.mapping) THEN
        RAISE EXCEPTION 'mapping "%" has ranges already', mapping USING ERRCODE = '22023', DETAIL = 'Field: ranges.',
            HINT = 'Leave ranges out to share them, or name another mapping.';
    END IF;
    FOR item IN SELECT r.range, format('ranges[%s].', r.n - 1) AS field FROM jsonb_array_elements(ranges) WITH ORDINALITY r (range, n) LOOP
        IF jsonb_typeof(item.range) <> 'object' THEN
            RAISE EXCEPTION 'a range must be an object' USING ERRCODE = '22023', DETAIL = format('Field: %s.', rtrim(item.field, '.'));
        END IF;
        SELECT k INTO unknown FROM jsonb_object_keys(item.range) k WHERE k NOT IN ('from', 'to', 'shard') LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'unknown field "%"', left(unknown, 63) USING ERRCODE = '22023',
                DETAIL = format('Field: %s%s.', item.field, left(unknown, 63)), HINT = 'A range has from, to and shard.';
        END IF;
        PERFORM a67_internal._range_add(d, relation, mapping, item.range ->> 'from', item.range ->> 'to', item.range ->> 'shard', item.field);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._table_check(d a67_internal.database, strategy text, mapping text, ranges jsonb, shard text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF strategy NOT IN ('hash', 'range', 'directory', 'reference', 'local') THEN
        RAISE EXCEPTION 'invalid strategy "%"', left(strategy, 63) USING ERRCODE = '22023', DETAIL = 'Field: strategy.',
            HINT = 'Use hash, range, directory, reference or local.';
    END IF;
    IF mapping !~ '^[a-z_][a-z0-9_]{0,62}$' THEN
        RAISE EXCEPTION 'invalid name of a mapping' USING ERRCODE = '22023', DETAIL = 'Field: mapping.',
            HINT = 'Use 1 to 63 lower-case letters, digits and underscores.';
    END IF;
    IF ranges IS NOT NULL AND coalesce(strategy, d.strategy) <> 'range' THEN
        RAISE EXCEPTION 'a table of strategy % has no ranges', coalesce(strategy, d.strategy)
            USING ERRCODE = '22023', DETAIL = 'Field: ranges.';
    END IF;
    IF shard IS NOT NULL THEN
        PERFORM a67_internal._shard_find(d, shard, 'shard');
    END IF;
END
$$;

-- Makes the table, here and (mode create) on the shards; answers what it became.
CREATE OR REPLACE FUNCTION a67_internal._table_define(d a67_internal.database, definition text, mode text, strategy text, key text,
    mapping text, ranges jsonb, shard text) RETURNS regclass
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    before oid[] := ARRAY(SELECT t.relation::oid FROM a67_internal._virtual_tables(d.name) t);
    made record;
BEGIN
    PERFORM a67_internal._ddl_run('a67_' || d.name, definition, mode, strategy, key, mapping, shard, d.strategy, d.key);
    SELECT t.* INTO made FROM a67_internal._virtual_tables(d.name) t WHERE t.relation <> ALL (before);
    IF ranges IS NOT NULL AND made.relation IS NOT NULL THEN
        PERFORM a67_internal._ranges_add(d, made.relation, made.mapping, ranges);
    END IF;
    RETURN made.relation;
END
$$;

CREATE OR REPLACE FUNCTION a67.table_create(database text, definition text, strategy text DEFAULT NULL, key text DEFAULT NULL,
    mapping text DEFAULT NULL, ranges jsonb DEFAULT NULL, shard text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(table_create.database, true);
BEGIN
    ranges := nullif(ranges, 'null');
    PERFORM a67_internal._table_check(d, strategy, mapping, ranges, shard);
    IF definition IS NULL OR octet_length(definition) > 1048576 THEN
        RAISE EXCEPTION 'invalid definition' USING ERRCODE = '22023', DETAIL = 'Field: definition.',
            HINT = 'It must be CREATE TABLE, of at most 1048576 bytes.';
    END IF;
    PERFORM a67_internal._table_define(d, definition, 'create', strategy, key, mapping, ranges, shard),
        a67_internal._database_event(d, 'schema');
END
$$;
COMMENT ON FUNCTION a67.table_create(text, text, text, text, text, jsonb, text) IS
    'Creates a virtual table by CREATE TABLE; strategy hash, range, directory, reference or local, and key: as the database says unless given';

CREATE OR REPLACE FUNCTION a67.database_range_assign(database text, mapping text, shard text, lower_bound text DEFAULT NULL,
    upper_bound text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database_range_assign.database, true);
    relation regclass := a67_internal._mapping_find(d, mapping, 'range');
BEGIN
    PERFORM a67_internal._range_add(d, relation, mapping, lower_bound, upper_bound, shard, '');
END
$$;
COMMENT ON FUNCTION a67.database_range_assign(text, text, text, text, text) IS
    'Puts keys from the lower bound up to, but without, the upper one on a shard, where no range of the mapping has been yet';

CREATE OR REPLACE FUNCTION a67.database_key_assign(database text, mapping text, key text, shard text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database_key_assign.database, true);
    canonical text := a67_internal._table_key(a67_internal._mapping_find(d, mapping, 'directory'), key);
    target integer := a67_internal._shard_find(d, shard, 'shard');
    old text;
BEGIN
    IF key IS NULL THEN
        RAISE EXCEPTION 'key must not be null' USING ERRCODE = '22023', DETAIL = 'Field: key.';
    END IF;
    SELECT s.name INTO old FROM a67_internal.shard_directory r JOIN a67_internal.database_shard s USING (shard_id)
    WHERE r.database_id = d.database_id AND r.mapping = database_key_assign.mapping AND r.key = canonical;
    IF old IS NOT DISTINCT FROM shard THEN
        RETURN;
    END IF;
    IF old IS NOT NULL THEN
        PERFORM a67_internal._key_leave(d, mapping, key, old);
    END IF;
    INSERT INTO a67_internal.shard_directory AS r (database_id, mapping, key, shard_id)
    VALUES (d.database_id, database_key_assign.mapping, canonical, target)
    ON CONFLICT ON CONSTRAINT shard_directory_pkey DO UPDATE SET shard_id = excluded.shard_id;
END
$$;
COMMENT ON FUNCTION a67.database_key_assign(text, text, text, text) IS
    'Puts a key of a directory on a shard; another shard than before only while no row has the key';

-- Nobody writes the tables until the transaction ends; raises when one has rows with the key there.
CREATE OR REPLACE FUNCTION a67_internal._key_leave(d a67_internal.database, mapping text, key text, shard text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT * FROM a67_internal._virtual_tables(d.name) v WHERE v.mapping = _key_leave.mapping AND v.strategy = 'directory' ORDER BY 2 LOOP
        PERFORM a67_internal._table_lock(t.relation);
        PERFORM a67_internal._shard_ask('a67_' || d.name, format('SELECT 1 FROM %I WHERE %I = %L LIMIT 1', t.name, t.key, _key_leave.key), shard);
        IF FOUND THEN
            RAISE EXCEPTION 'table "%" has rows with this key on shard "%"', t.name, shard
                USING ERRCODE = '55000', DETAIL = 'Field: key.', HINT = 'Delete them first, and insert them again afterwards.';
        END IF;
    END LOOP;
END
$$;

-- ---- what there is ----

-- A type as the users of the schema name it.
CREATE OR REPLACE FUNCTION a67_internal._schema_type(schema_name text, type oid, modifier integer) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT CASE WHEN starts_with(f.name, quote_ident(schema_name) || '.') THEN substr(f.name, length(quote_ident(schema_name)) + 2) ELSE f.name END
    FROM format_type(type, modifier) f (name)
$$;

CREATE OR REPLACE FUNCTION a67_internal._schema_columns(schema_name text, relation oid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', a.attname,
            'type', a67_internal._schema_type(schema_name, a.atttypid, a.atttypmod), 'not_null', a.attnotnull,
            'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
            'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
            'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
            'comment', col_description(a.attrelid, a.attnum))) ORDER BY a.attnum), '[]')
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$$;

-- Where keys are: ranges one by one; of a directory how many keys each shard has, as there may be millions.
CREATE OR REPLACE FUNCTION a67_internal._schema_mappings(d a67_internal.database) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(m.mapping ORDER BY m.mapping ->> 'name'), '[]') FROM (
        SELECT jsonb_build_object('name', r.mapping, 'ranges',
            jsonb_agg(jsonb_build_object('from', r.lower_bound, 'to', r.upper_bound, 'shard', s.name) ORDER BY r.lower_bound NULLS FIRST))
        FROM a67_internal.shard_range r JOIN a67_internal.database_shard s USING (shard_id)
        WHERE r.database_id = d.database_id GROUP BY r.mapping
        UNION ALL
        SELECT jsonb_build_object('name', c.mapping, 'keys', jsonb_object_agg(c.name, c.keys))
        FROM (SELECT r.mapping, s.name, count(*) AS keys FROM a67_internal.shard_directory r JOIN a67_internal.database_shard s USING (shard_id)
              WHERE r.database_id = d.database_id GROUP BY r.mapping, s.name) c GROUP BY c.mapping) m (mapping)
$$;

CREATE OR REPLACE FUNCTION a67.database_schema(database text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database_schema.database);
BEGIN
    RETURN jsonb_build_object('database', d.name,
        'tables', (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', t.name, 'strategy', t.strategy, 'key', t.key,
                              'mapping', t.mapping, 'shard', t.shard, 'comment', obj_description(t.relation, 'pg_class'),
                              'columns', a67_internal._schema_columns(d.name, t.relation))) ORDER BY t.name), '[]')
                   FROM a67_internal._virtual_tables(d.name) t),
        'views', (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', c.relname,
                             'comment', obj_description(c.oid, 'pg_class'), 'columns', a67_internal._schema_columns(d.name, c.oid),
                             'definition', pg_get_viewdef(c.oid))) ORDER BY c.relname), '[]')
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = d.name AND c.relkind = 'v'),
        'types', (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', t.typname,
                             'kind', CASE t.typtype WHEN 'e' THEN 'enum' ELSE 'domain' END,
                             'base', CASE WHEN t.typtype = 'd' THEN a67_internal._schema_type(d.name, t.typbasetype, t.typtypmod) END,
                             'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)))
                         ORDER BY t.typname), '[]')
                  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = d.name AND t.typtype IN ('e', 'd')),
        'mappings', a67_internal._schema_mappings(d));
END
$$;
COMMENT ON FUNCTION a67.database_schema(text) IS
    'Tables of a virtual database with columns, strategy and key; its views, enums and domains; where ranges and keys of mappings are';
