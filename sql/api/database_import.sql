-- Import: virtual tables over tables that are on the shards already. Shards are asked what they have; all must have the same, and
-- rows must be where the table's key says. What shards answer is no more trusted than what users write: it becomes the text of one
-- CREATE TABLE, which runs as every other does.

-- What a shard says of a table of the remote schema, as JSON; NULL: there is none.
CREATE OR REPLACE FUNCTION a67_internal._import_query(remote_schema text, name text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format($q$
        SELECT pg_catalog.jsonb_build_object('kind', c.relkind, 'inherits', EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)),
            'columns', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', a.attname,
                    'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                    'collation', CASE WHEN a.attcollation <> t.typcollation THEN (SELECT l.collname FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation) END,
                    'not_null', a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated <> '',
                    'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                    'enum', CASE WHEN e.typtype = 'e' THEN e.typname END,
                    'labels', (SELECT pg_catalog.jsonb_agg(b.enumlabel ORDER BY b.enumsortorder) FROM pg_catalog.pg_enum b WHERE b.enumtypid = e.oid))
                ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typlen = -1 AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
                LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
            'unique', (SELECT pg_catalog.jsonb_object_agg(x.relname, (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.n)
                    FROM pg_catalog.unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k (attnum, n)
                    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0))
                FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisunique),
            'primary', (SELECT x.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                WHERE i.indrelid = c.oid AND i.indisprimary))
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %L AND c.relname = %L AND c.relkind NOT IN ('i', 'I', 'S', 'c', 't')$q$, remote_schema, name)
$$;

-- Where two descriptions differ, as a sentence.
CREATE OR REPLACE FUNCTION a67_internal._import_difference(one jsonb, other jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(
        (SELECT CASE WHEN b.col IS NULL THEN format('Column "%s" is missing there.', a.col ->> 'name')
                     WHEN a.col IS NULL THEN format('Column "%s" is there only.', b.col ->> 'name')
                     ELSE format('Column "%s" has another %s.', a.col ->> 'name',
                         (SELECT replace(k.key, '_', ' ') FROM jsonb_each(a.col) k WHERE k.value IS DISTINCT FROM b.col -> k.key ORDER BY k.key DESC LIMIT 1)) END
         FROM jsonb_array_elements(one -> 'columns') WITH ORDINALITY a (col, n)
         FULL JOIN jsonb_array_elements(other -> 'columns') WITH ORDINALITY b (col, n) ON a.col ->> 'name' = b.col ->> 'name'
         WHERE a.col IS DISTINCT FROM b.col ORDER BY coalesce(a.n, b.n) LIMIT 1),
        CASE WHEN one -> 'unique' IS DISTINCT FROM other -> 'unique' OR one -> 'primary' IS DISTINCT FROM other -> 'primary'
             THEN 'Its unique indexes are others.'
             WHEN one -> 'columns' IS DISTINCT FROM other -> 'columns' THEN 'The order of its columns is another.' END)
$$;

-- The one description that all shards (or `shard` alone) give.
CREATE OR REPLACE FUNCTION a67_internal._import_describe(d a67_internal.database, name text, only_shard text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    answer record;
    first record;
    difference text;
BEGIN
    FOR answer IN
        SELECT s.name AS shard, q.answer::jsonb AS described FROM a67_internal.database_shard s
        LEFT JOIN a67_internal._shard_ask('a67_' || d.name, a67_internal._import_query(d.remote_schema, _import_describe.name), only_shard) q ON q.shard = s.name
        WHERE s.database_id = d.database_id AND s.name = coalesce(only_shard, s.name) ORDER BY s.shard_id
    LOOP
        IF answer.described IS NULL THEN
            RAISE EXCEPTION 'table "%" does not exist on shard "%"', name, answer.shard
                USING ERRCODE = '42P01', DETAIL = 'Field: name.';
        END IF;
        IF answer.described ->> 'kind' <> 'r' OR answer.described -> 'inherits' = 'true' THEN
            RAISE EXCEPTION '"%" cannot be imported from shard "%"', name, answer.shard USING ERRCODE = '0A000',
                DETAIL = 'Field: name.', HINT = 'Only ordinary tables can be, without partitions and inheritance.';
        END IF;
        IF first IS NULL THEN
            first := answer;
        END IF;
        difference := a67_internal._import_difference(first.described, answer.described);
        IF difference IS NOT NULL THEN
            RAISE EXCEPTION 'table "%" is not the same on shards "%" and "%"', name, first.shard, answer.shard
                USING ERRCODE = '42P16', DETAIL = difference, HINT = 'Make them equal, then import it again.';
        END IF;
    END LOOP;
    IF first.described -> 'columns' = 'null' THEN
        RAISE EXCEPTION 'table "%" has no columns', name USING ERRCODE = '42P16', DETAIL = 'Field: name.';
    END IF;
    RETURN first.described;
END
$$;

-- Enums of the remote schema that its columns have.
CREATE OR REPLACE FUNCTION a67_internal._import_enums(d a67_internal.database, described jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    e record;
    here text[];
BEGIN
    FOR e IN
        SELECT DISTINCT ON (c.col ->> 'enum') c.col ->> 'enum' AS name, ARRAY(SELECT jsonb_array_elements_text(c.col -> 'labels')) AS labels
        FROM jsonb_array_elements(described -> 'columns') c (col) WHERE c.col ->> 'enum' IS NOT NULL
    LOOP
        SELECT array_agg(l.enumlabel::text ORDER BY l.enumsortorder) INTO here
        FROM pg_type t JOIN pg_enum l ON l.enumtypid = t.oid WHERE t.typname = e.name AND t.typnamespace = d.name::regnamespace;
        IF here IS NULL THEN
            EXECUTE format('CREATE TYPE %I.%I AS ENUM (%s)', d.name, e.name, (SELECT string_agg(quote_literal(l), ', ') FROM unnest(e.labels) l));
            EXECUTE format('ALTER TYPE %I.%I OWNER TO %I', d.name, e.name,
                (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = d.name));
        ELSIF here <> e.labels THEN
            RAISE EXCEPTION 'type "%" has other labels on the shards than in the database', e.name USING ERRCODE = '42P16';
        END IF;
    END LOOP;
END
$$;

-- CREATE TABLE as the controller is to have it. Columns that draw from sequences of the shards get one sequence here.
CREATE OR REPLACE FUNCTION a67_internal._import_definition(name text, described jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format('CREATE TABLE %I (%s%s)', name,
        (SELECT string_agg(concat_ws(' ', quote_ident(c.col ->> 'name'), c.col ->> 'type',
                'COLLATE ' || quote_ident(c.col ->> 'collation'),
                CASE WHEN (c.col -> 'not_null')::boolean THEN 'NOT NULL' END,
                CASE WHEN a67_internal._import_draws(c.col) THEN 'GENERATED BY DEFAULT AS IDENTITY'
                     WHEN (c.col -> 'generated')::boolean THEN format('GENERATED ALWAYS AS (%s) STORED', c.col ->> 'default')
                     ELSE 'DEFAULT ' || (c.col ->> 'default') END), ', ' ORDER BY c.n)
         FROM jsonb_array_elements(described -> 'columns') WITH ORDINALITY c (col, n)),
        (SELECT format(', PRIMARY KEY (%s)', string_agg(quote_ident(k), ', '))
         FROM jsonb_array_elements_text(described -> 'unique' -> (described ->> 'primary')) k HAVING count(*) > 0))
$$;

CREATE OR REPLACE FUNCTION a67_internal._import_draws(col jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT col ->> 'identity' <> '' OR coalesce(col ->> 'default' LIKE 'nextval(%', false)
$$;

-- The sequence here goes on behind all values on shards; a shard's identity no longer insists on its own.
CREATE OR REPLACE FUNCTION a67_internal._import_sequences(d a67_internal.database, name text, described jsonb, shard text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c record;
    most bigint;
BEGIN
    FOR c IN SELECT x.col ->> 'name' AS name, x.col ->> 'identity' AS identity FROM jsonb_array_elements(described -> 'columns') x (col)
             WHERE a67_internal._import_draws(x.col) LOOP
        IF c.identity = 'a' THEN
            PERFORM a67_internal._shard_tell('a67_' || d.name,
                format('ALTER TABLE %I ALTER COLUMN %I SET GENERATED BY DEFAULT', _import_sequences.name, c.name), shard);
        END IF;
        SELECT max(q.answer::bigint) INTO most
        FROM a67_internal._shard_ask('a67_' || d.name, format('SELECT pg_catalog.max(%I)::pg_catalog.text FROM %I', c.name, _import_sequences.name),
            _import_sequences.shard) q;
        IF most >= 1 THEN
            PERFORM setval(pg_get_serial_sequence(format('%I.%I', d.name, name), c.name), most);
        END IF;
    END LOOP;
END
$$;

-- Every unique index of a table with a key must include it, or it would not be one any more.
CREATE OR REPLACE FUNCTION a67_internal._import_check_unique(name text, key text, described jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    index_name text;
BEGIN
    IF NOT (SELECT (c.col -> 'not_null')::boolean FROM jsonb_array_elements(described -> 'columns') c (col) WHERE c.col ->> 'name' = key) THEN
        RAISE EXCEPTION 'shard key "%" of table "%" must be NOT NULL', key, name USING ERRCODE = '42P16',
            DETAIL = 'Field: key.', HINT = 'Use ALTER TABLE … ALTER COLUMN … SET NOT NULL on all shards.';
    END IF;
    SELECT u.key INTO index_name FROM jsonb_each(nullif(described -> 'unique', 'null')) u
    WHERE NOT u.value @> jsonb_build_array(_import_check_unique.key) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'unique index "%" on table "%" must include the shard key', index_name, name USING ERRCODE = '0A000',
            DETAIL = 'Shards cannot see whether another one has an equal value.',
            HINT = format('Add column "%s" to it, drop it, or choose another key.', key);
    END IF;
END
$$;

-- Rows are where their keys say; copies are equal.
CREATE OR REPLACE FUNCTION a67_internal._import_check_rows(d a67_internal.database, relation regclass, name text, strategy text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    IF strategy = 'reference' THEN
        SELECT string_agg(format('%s: %s rows', q.shard, split_part(q.answer, ' ', 1)), ', ' ORDER BY q.shard) INTO problem
        FROM a67_internal._shard_ask('a67_' || d.name, format(
            'SELECT pg_catalog.concat_ws('' '', pg_catalog.count(*), pg_catalog.sum((''x'' || pg_catalog.left(pg_catalog.md5(t::pg_catalog.text), 15))::pg_catalog.bit(60)::pg_catalog.int8)) FROM %I t',
            name), NULL) q
        HAVING count(DISTINCT q.answer) > 1;
        IF problem IS NOT NULL THEN
            RAISE EXCEPTION 'copies of table "%" are not equal', name USING ERRCODE = '55000', DETAIL = problem || '.',
                HINT = 'Make them equal, or choose another strategy.';
        END IF;
        RETURN;
    END IF;
    SELECT string_agg(format('%s: %s of %s', c.shard, c.strays, c.held), ', ' ORDER BY c.shard) INTO problem
    FROM a67_internal._table_census(relation) c WHERE c.strays > 0;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'rows of table "%" are not where their keys say', name USING ERRCODE = '55000',
            DETAIL = format('Rows that belong on another shard: %s.', problem),
            HINT = 'Import it with strategy directory, which takes keys where they are, or create another table and copy the rows.';
    END IF;
END
$$;

-- A directory takes each key from the shard that has it.
CREATE OR REPLACE FUNCTION a67_internal._import_directory(d a67_internal.database, relation regclass, name text, key text, mapping text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    INSERT INTO a67_internal.shard_directory AS r (database_id, mapping, key, shard_id)
    SELECT d.database_id, _import_directory.mapping, a67_internal._table_key(relation, q.answer), min(s.shard_id)
    FROM a67_internal._shard_ask('a67_' || d.name, format('SELECT DISTINCT %I::pg_catalog.text FROM %I', key, name), NULL) q
    JOIN a67_internal.database_shard s ON s.database_id = d.database_id AND s.name = q.shard
    GROUP BY 3
    ON CONFLICT DO NOTHING;
END
$$;

CREATE OR REPLACE FUNCTION a67.table_import(database text, name text, strategy text DEFAULT NULL, key text DEFAULT NULL,
    mapping text DEFAULT NULL, ranges jsonb DEFAULT NULL, shard text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(table_import.database, true);
    described jsonb;
    made_relation regclass;
    made record;
BEGIN
    ranges := nullif(ranges, 'null');
    PERFORM a67_internal._table_check(d, strategy, mapping, ranges, shard);
    IF name IS NULL OR octet_length(name) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'invalid name of a table' USING ERRCODE = '22023', DETAIL = 'Field: name.';
    END IF;
    IF coalesce(strategy, d.strategy) = 'local' THEN
        shard := coalesce(shard, (SELECT s.name FROM a67_internal.database_shard s WHERE s.database_id = d.database_id ORDER BY s.shard_id LIMIT 1));
    END IF;
    described := a67_internal._import_describe(d, name, shard);
    PERFORM a67_internal._shard_tell('a67_' || d.name, format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', name), shard);
    PERFORM a67_internal._import_enums(d, described);
    made_relation := a67_internal._table_define(d, a67_internal._import_definition(name, described), 'adopt', strategy, key, mapping,
        ranges, shard);
    SELECT t.* INTO made FROM a67_internal._virtual_tables(d.name) t WHERE t.relation = made_relation;
    PERFORM a67_internal._import_sequences(d, name, described, shard);
    IF made.key IS NOT NULL THEN
        PERFORM a67_internal._import_check_unique(name, made.key, described);
    END IF;
    IF made.strategy = 'directory' THEN
        PERFORM a67_internal._import_directory(d, made.relation, name, made.key, made.mapping);
    END IF;
    IF made.strategy <> 'local' THEN
        PERFORM a67_internal._import_check_rows(d, made.relation, name, made.strategy);
    END IF;
    PERFORM a67_internal._database_event(d, 'schema');
END
$$;
COMMENT ON FUNCTION a67.table_import(text, text, text, text, text, jsonb, text) IS
    'Makes a virtual table of tables that the shards have already; all must be equal, and rows where their keys say';
