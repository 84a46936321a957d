-- Output of applications: taken from agents, read by owners.
--
-- Agents ship it at least once, by offsets; here it is kept once. Two batches that touch the same deployment wait for each
-- other on its row of deployment_log, which makes `seq` an order without holes: readers that follow need nothing but the
-- last number they have seen.

CREATE OR REPLACE FUNCTION a67_internal._log_text(data bytea) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_log_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._log_text(bytea) IS 'Output as text: what is not UTF-8, and NUL, becomes U+FFFD';

CREATE OR REPLACE FUNCTION a67_internal._log_lines(data bytea) RETURNS integer
AS 'MODULE_PATHNAME', 'a67_sql_log_lines' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._log_lines(bytea) IS 'How many lines there are, an unfinished last one among them';

-- ---- taking ------------------------------------------------------------------------------------------------

-- One field of a chunk as a number.
CREATE OR REPLACE FUNCTION a67_internal._log_number(chunk jsonb, name text, place bigint, otherwise bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value jsonb := chunk -> name;
BEGIN
    IF value IS NULL AND otherwise IS NOT NULL THEN
        RETURN otherwise;
    END IF;
    IF jsonb_typeof(value) = 'number' AND value::numeric BETWEEN 0 AND 1000000000000000000 AND value::numeric = trunc(value::numeric) THEN
        RETURN value::numeric::bigint;
    END IF;
    RAISE EXCEPTION 'field "%" must be a whole number from 0', name
        USING ERRCODE = '22023', DETAIL = format('Field: chunks[%s].%s.', place - 1, name);
END
$$;

-- A batch as rows, all of it checked.
CREATE OR REPLACE FUNCTION a67_internal._log_chunks(chunks jsonb)
RETURNS TABLE (place bigint, replica_id uuid, "offset" bigint, missing bigint, at timestamptz, data bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    one record;
    field text;
BEGIN
    IF chunks IS NULL OR jsonb_typeof(chunks) <> 'array' OR jsonb_array_length(chunks) > 1000 THEN
        RAISE EXCEPTION 'chunks must be an array of at most 1000' USING ERRCODE = '22023', DETAIL = 'Field: chunks.';
    END IF;
    FOR one IN SELECT c.value, c.ordinality FROM jsonb_array_elements(chunks) WITH ORDINALITY c LOOP
        place := one.ordinality;
        IF jsonb_typeof(one.value) <> 'object' THEN
            RAISE EXCEPTION 'a chunk must be an object' USING ERRCODE = '22023', DETAIL = format('Field: chunks[%s].', place - 1);
        END IF;
        SELECT k INTO field FROM jsonb_object_keys(one.value) k WHERE k NOT IN ('replica', 'offset', 'missing', 'at', 'data') LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'unknown field "%"', field USING ERRCODE = '22023', DETAIL = format('Field: chunks[%s].%s.', place - 1, field);
        END IF;
        "offset" := a67_internal._log_number(one.value, 'offset', place);
        missing := a67_internal._log_number(one.value, 'missing', place, 0);
        BEGIN
            field := 'replica';
            replica_id := (one.value ->> 'replica')::uuid;
            field := 'at';
            at := (one.value ->> 'at')::timestamptz;
            field := 'data';
            data := decode(one.value ->> 'data', 'base64');
        EXCEPTION WHEN data_exception THEN
            RAISE EXCEPTION 'field "%" is malformed', field USING ERRCODE = '22023', DETAIL = format('Field: chunks[%s].%s.', place - 1, field);
        END;
        IF replica_id IS NULL OR at IS NULL OR data IS NULL OR length(data) = 0 OR length(data) > 32768 OR missing > "offset" THEN
            RAISE EXCEPTION 'a chunk needs replica, offset, at and 1 to 32768 bytes of data'
                USING ERRCODE = '22023', DETAIL = format('Field: chunks[%s].', place - 1);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Takes the oldest chunks of a replica away until at most `keep` bytes are left. Its deployment's row is locked.
CREATE OR REPLACE FUNCTION a67_internal._log_shorten(replica_id uuid, keep bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    freed bigint;
BEGIN
    WITH excess AS (
        SELECT l.bytes - keep AS bytes FROM a67_internal.replica_log l WHERE l.replica_id = _log_shorten.replica_id
    ), running AS (
        SELECT c.deployment_id, c.seq, length(c.data) AS bytes, sum(length(c.data)) OVER (ORDER BY c.seq) - length(c.data) AS before
        FROM (SELECT * FROM a67_internal.log_chunk c WHERE c.replica_id = _log_shorten.replica_id ORDER BY c.seq LIMIT 1000) c
    ), gone AS (
        DELETE FROM a67_internal.log_chunk c USING running r, excess e
        WHERE c.deployment_id = r.deployment_id AND c.seq = r.seq AND r.before < e.bytes
        RETURNING c.deployment_id, r.bytes
    ), counted AS (
        UPDATE a67_internal.replica_log l SET bytes = l.bytes - g.bytes, pruned_bytes = l.pruned_bytes + g.bytes
        FROM (SELECT sum(g.bytes) AS bytes FROM gone g) g
        WHERE l.replica_id = _log_shorten.replica_id AND g.bytes IS NOT NULL RETURNING g.bytes, l.deployment_id
    ), book AS (
        UPDATE a67_internal.deployment_log d SET bytes = d.bytes - c.bytes FROM counted c WHERE d.deployment_id = c.deployment_id
    )
    SELECT coalesce(sum(c.bytes), 0) INTO freed FROM counted c;
    RETURN freed;
END
$$;

-- The chunks of one replica in a batch; its deployment's row is locked. Returns the offset that is wanted next.
CREATE OR REPLACE FUNCTION a67_internal._log_add(replica_id uuid, batch jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    log a67_internal.replica_log;
    one record;
    piece bytea;
    gap bigint;
    count integer := 0;
    added bigint := 0;
    cap bigint := pg_size_bytes(current_setting('a67.log_size')) / 16;
    first_seq bigint;
BEGIN
    SELECT l.* INTO log FROM a67_internal.replica_log l WHERE l.replica_id = _log_add.replica_id FOR UPDATE;
    SELECT d.next_seq INTO first_seq FROM a67_internal.deployment_log d WHERE d.deployment_id = log.deployment_id;
    FOR one IN SELECT c.* FROM a67_internal._log_chunks(batch) c ORDER BY c.place LOOP
        -- A hole that the node does not own up to: it still has what is missing, and sends it when it is told.
        EXIT WHEN one."offset" - one.missing > log.next_offset;
        CONTINUE WHEN one."offset" + length(one.data) <= log.next_offset;
        gap := greatest(one."offset" - log.next_offset, 0);
        piece := substr(one.data, (greatest(log.next_offset - one."offset", 0) + 1)::integer);
        log.next_offset := one."offset" + length(one.data);
        log.last_at := greatest(log.last_at, least(one.at, now()));
        log.missing_bytes := log.missing_bytes + gap;
        INSERT INTO a67_internal.log_chunk (deployment_id, seq, replica_id, at, missing, lines, data)
        VALUES (log.deployment_id, first_seq + count, log.replica_id, log.last_at, gap, a67_internal._log_lines(piece), piece);
        count := count + 1;
        added := added + length(piece);
    END LOOP;
    IF count > 0 THEN
        UPDATE a67_internal.replica_log l SET next_offset = log.next_offset, last_at = log.last_at, missing_bytes = log.missing_bytes,
            bytes = l.bytes + added WHERE l.replica_id = log.replica_id;
        UPDATE a67_internal.deployment_log d SET next_seq = first_seq + count, bytes = d.bytes + added
        WHERE d.deployment_id = log.deployment_id;
        IF log.bytes + added > cap THEN
            PERFORM a67_internal._log_shorten(log.replica_id, cap * 7 / 8);
        END IF;
    END IF;
    RETURN log.next_offset;
END
$$;

CREATE OR REPLACE FUNCTION a67.log_put(chunks jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller uuid := a67_internal._node_id();
    rate bigint := CASE WHEN current_setting('a67.log_retention')::interval > '0' THEN pg_size_bytes(current_setting('a67.log_rate')) ELSE 0 END;
    names uuid[];
    mine uuid[];
    answer jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM a67_internal.node n WHERE n.node_id = caller AND n.desired_state <> 'removed') THEN
        RAISE EXCEPTION 'node was removed' USING ERRCODE = 'PT410';
    END IF;
    SELECT coalesce(array_agg(DISTINCT c.replica_id), '{}') INTO names FROM a67_internal._log_chunks(chunks) c;
    IF rate = 0 THEN
        RETURN '{"rate": 0, "next": {}, "unknown": []}';
    END IF;
    -- What is new here, and belongs to this node.
    INSERT INTO a67_internal.deployment_log (deployment_id, owner_id)
    SELECT DISTINCT d.deployment_id, d.owner_id
    FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id)
    WHERE r.replica_id = ANY (names) AND r.node_id = caller
      AND NOT EXISTS (SELECT FROM a67_internal.deployment_log l WHERE l.deployment_id = d.deployment_id)
    ORDER BY d.deployment_id
    ON CONFLICT DO NOTHING;
    INSERT INTO a67_internal.replica_log (replica_id, deployment_id, node_id, node)
    SELECT r.replica_id, r.deployment_id, caller, n.name
    FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
    WHERE r.replica_id = ANY (names) AND r.node_id = caller
      AND NOT EXISTS (SELECT FROM a67_internal.replica_log l WHERE l.replica_id = r.replica_id)
    ORDER BY r.replica_id
    ON CONFLICT DO NOTHING;
    SELECT coalesce(array_agg(l.replica_id), '{}') INTO mine FROM a67_internal.replica_log l
    WHERE l.replica_id = ANY (names) AND l.node_id = caller;
    -- In the order in which everybody locks them.
    PERFORM FROM a67_internal.deployment_log d
    WHERE d.deployment_id IN (SELECT l.deployment_id FROM a67_internal.replica_log l WHERE l.replica_id = ANY (mine))
    ORDER BY d.deployment_id FOR UPDATE;
    SELECT jsonb_build_object('rate', rate,
        'next', coalesce((SELECT jsonb_object_agg(m.id, a67_internal._log_add(m.id, m.chunks))
                          FROM (SELECT u AS id, jsonb_agg(c.value ORDER BY c.ordinality) AS chunks
                                FROM jsonb_array_elements(chunks) WITH ORDINALITY c, unnest(mine) u
                                WHERE (c.value ->> 'replica')::uuid = u GROUP BY u) m), '{}'),
        'unknown', to_jsonb(ARRAY(SELECT u FROM unnest(names) u WHERE u <> ALL (mine)))) INTO answer;
    IF mine <> '{}' THEN
        PERFORM a67_internal._wake('listener');
    END IF;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION a67.log_put(jsonb) IS
    'Takes output of the calling node''s replicas, once, by offsets; answers how far it has each, and how many bytes a second it takes';

-- ---- pruning -----------------------------------------------------------------------------------------------

-- Takes away what is too old, and from the largest logs of owners who keep too much; a bounded part of it in each call.
CREATE OR REPLACE FUNCTION a67_internal._log_prune(now timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    oldest timestamptz := _log_prune.now - current_setting('a67.log_retention')::interval;
    most bigint := pg_size_bytes(current_setting('a67.log_size'));
    one record;
    freed bigint := 0;
BEGIN
    FOR one IN
        SELECT d.deployment_id FROM a67_internal.deployment_log d
        WHERE (SELECT c.at FROM a67_internal.log_chunk c WHERE c.deployment_id = d.deployment_id ORDER BY c.seq LIMIT 1) < oldest
        ORDER BY d.deployment_id FOR UPDATE SKIP LOCKED LIMIT 50
    LOOP
        WITH gone AS (
            DELETE FROM a67_internal.log_chunk c
            WHERE c.deployment_id = one.deployment_id AND c.at < oldest
              AND c.seq IN (SELECT o.seq FROM a67_internal.log_chunk o WHERE o.deployment_id = one.deployment_id ORDER BY o.seq LIMIT 1000)
            RETURNING c.replica_id, length(c.data) AS bytes
        ), counted AS (
            UPDATE a67_internal.replica_log l SET bytes = l.bytes - g.bytes, pruned_bytes = l.pruned_bytes + g.bytes
            FROM (SELECT g.replica_id, sum(g.bytes) AS bytes FROM gone g GROUP BY 1) g
            WHERE l.replica_id = g.replica_id
        ), book AS (
            UPDATE a67_internal.deployment_log d SET bytes = d.bytes - (SELECT coalesce(sum(g.bytes), 0) FROM gone g)
            WHERE d.deployment_id = one.deployment_id
        )
        SELECT freed + coalesce(sum(g.bytes), 0) INTO freed FROM gone g;
    END LOOP;
    -- A replica that is gone, and of which nothing is left.
    DELETE FROM a67_internal.replica_log l
    WHERE l.replica_id IN (SELECT o.replica_id FROM a67_internal.replica_log o
                           WHERE o.bytes = 0 AND o.last_at < oldest
                             AND NOT EXISTS (SELECT FROM a67_internal.replica r WHERE r.replica_id = o.replica_id) LIMIT 1000);
    FOR one IN
        SELECT d.owner_id, sum(d.bytes) - most AS excess FROM a67_internal.deployment_log d GROUP BY 1 HAVING sum(d.bytes) > most
    LOOP
        FOR i IN 1 .. 20 LOOP
            EXIT WHEN one.excess <= 0;
            DECLARE
                largest record;
                got bigint;
            BEGIN
                SELECT l.replica_id, l.deployment_id, l.bytes INTO largest
                FROM a67_internal.replica_log l JOIN a67_internal.deployment_log d USING (deployment_id)
                WHERE d.owner_id = one.owner_id ORDER BY l.bytes DESC LIMIT 1;
                -- Never waits: whoever adds output may wait for one that is locked above.
                PERFORM FROM a67_internal.deployment_log d WHERE d.deployment_id = largest.deployment_id FOR UPDATE SKIP LOCKED;
                EXIT WHEN NOT FOUND;
                got := a67_internal._log_shorten(largest.replica_id, greatest(largest.bytes - greatest(one.excess, most / 64), largest.bytes / 2));
                EXIT WHEN got = 0;
                one.excess := one.excess - got;
                freed := freed + got;
            END;
        END LOOP;
    END LOOP;
    RETURN freed;
END
$$;

-- ---- reading -----------------------------------------------------------------------------------------------

-- A chunk line by line, with a line in the place of what is missing in front of it.
CREATE OR REPLACE FUNCTION a67_internal._log_unfold(missing bigint, data bytea) RETURNS TABLE (line text, place bigint)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format('-- a67: %s bytes of output are missing here', missing), 0 WHERE missing > 0
    UNION ALL
    -- Behind the last line break is nothing, unless that is an unfinished line.
    SELECT l.line, l.place FROM string_to_table(a67_internal._log_text(data), E'\n') WITH ORDINALITY l (line, place)
    WHERE l.place <= a67_internal._log_lines(data)
$$;

-- The deployment as its owner or an administrator names it; nothing is locked.
CREATE OR REPLACE FUNCTION a67_internal._log_deployment(deployment text) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    id uuid;
BEGIN
    SELECT d.deployment_id INTO id FROM a67_internal.deployment d
    WHERE (d.name = _log_deployment.deployment AND d.owner_id = caller
           OR d.deployment_id::text = lower(_log_deployment.deployment) AND (d.owner_id = caller OR a67_internal._is_admin()));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'deployment "%" does not exist', _log_deployment.deployment USING ERRCODE = 'PT404';
    END IF;
    RETURN id;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._log_tail_check(tail integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF tail IS NULL OR tail NOT BETWEEN 0 AND 100000 THEN
        RAISE EXCEPTION 'tail must be from 0 to 100000' USING ERRCODE = '22023', DETAIL = 'Field: tail.';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67.deployment_logs(deployment text, tail integer DEFAULT 100, since timestamptz DEFAULT NULL,
    replica uuid DEFAULT NULL)
RETURNS TABLE (at timestamptz, node text, replica_id uuid, line text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    id uuid := a67_internal._log_deployment(deployment);
BEGIN
    PERFORM a67_internal._log_tail_check(tail);
    RETURN QUERY
    WITH chunk AS (
        SELECT c.seq, c.at, c.replica_id,
               sum(c.lines + (c.missing > 0)::integer) OVER (ORDER BY c.at DESC, c.seq DESC) - c.lines - (c.missing > 0)::integer AS behind
        -- Every chunk has a line, so that no more of them than lines can be wanted.
        FROM (SELECT t.* FROM a67_internal.log_chunk t
              WHERE t.deployment_id = id AND (since IS NULL OR t.at >= since) AND (replica IS NULL OR t.replica_id = replica)
              ORDER BY t.at DESC, t.seq DESC LIMIT tail) c
    ), unfolded AS (
        SELECT k.at, k.seq, l.node, k.replica_id, u.line, u.place
        FROM chunk k JOIN a67_internal.log_chunk c ON c.deployment_id = id AND c.seq = k.seq
        JOIN a67_internal.replica_log l ON l.replica_id = k.replica_id,
        LATERAL a67_internal._log_unfold(c.missing, c.data) u
        WHERE k.behind < tail
        ORDER BY k.at DESC, k.seq DESC, u.place DESC LIMIT tail
    )
    SELECT u.at, u.node, u.replica_id, u.line FROM unfolded u ORDER BY u.at, u.seq, u.place;
END
$$;
COMMENT ON FUNCTION a67.deployment_logs(text, integer, timestamptz, uuid) IS
    'The last lines that your deployment''s replicas have written, in the order of time; at is when the node saw them';

-- A line as it is shown beside those of other replicas.
CREATE OR REPLACE FUNCTION a67_internal._log_line(at timestamptz, node text, replica_id uuid, line text) RETURNS text
LANGUAGE sql STABLE
RETURN pg_catalog.to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' ' || node || '/' || pg_catalog.left(replica_id::text, 8)
    || ' ' || line;

CREATE OR REPLACE FUNCTION a67.deployment_log_text(deployment text, tail integer DEFAULT 100, since timestamptz DEFAULT NULL,
    replica uuid DEFAULT NULL, follow boolean DEFAULT false) RETURNS bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    text text;
BEGIN
    IF follow THEN
        RAISE EXCEPTION 'only the listener can follow' USING ERRCODE = '22023', DETAIL = 'Field: follow.',
            HINT = 'Use GET /api/v1/deployments/{deployment}/logs?follow=true.';
    END IF;
    SELECT string_agg(a67_internal._log_line(l.at, l.node, l.replica_id, l.line) || E'\n', '') INTO text
    FROM a67.deployment_logs(deployment, tail, since, replica) l;
    PERFORM set_config('response.headers', '[{"Content-Type": "text/plain; charset=utf-8"}, {"Cache-Control": "no-store"}]', true);
    RETURN convert_to(coalesce(text, ''), 'UTF8');
END
$$;
COMMENT ON FUNCTION a67.deployment_log_text(text, integer, timestamptz, uuid, boolean) IS
    'The same as lines of text, each with its time, node and replica';

-- What a follower gets next: chunks behind `after` as messages, at most about 256 kB. after NULL: begins with the tail.
-- Asked by the listener on the follower's behalf, each time by the follower's own rights.
CREATE OR REPLACE FUNCTION a67.deployment_log_feed(deployment text, after bigint DEFAULT NULL, tail integer DEFAULT 100,
    since timestamptz DEFAULT NULL, replica uuid DEFAULT NULL) RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    id uuid := a67_internal._log_deployment(deployment);
    head bigint;
    first text := '';
BEGIN
    PERFORM a67_internal._log_tail_check(tail);
    SELECT d.next_seq - 1 INTO head FROM a67_internal.deployment_log d WHERE d.deployment_id = id;
    head := coalesce(head, 0);
    IF after IS NULL OR after > head THEN
        SELECT coalesce(string_agg(l.line, '' ORDER BY l.place), '') INTO first
        FROM (SELECT l.*, sum(octet_length(l.line)) OVER (ORDER BY l.place DESC) AS behind
              FROM (SELECT a67_internal._log_line(l.at, l.node, l.replica_id, l.line) || E'\n' AS line, row_number() OVER () AS place
                    FROM a67.deployment_logs(deployment, least(tail, 10000), since, replica) l) l) l
        WHERE l.behind <= 262144;
        RETURN json_build_object('deployment', id, 'reached', head, 'more', false, 'text', first);
    END IF;
    RETURN (
    WITH page AS MATERIALIZED (
        SELECT c.seq, c.at, c.replica_id, c.missing, c.data, sum(length(c.data) + 50 * c.lines) OVER (ORDER BY c.seq) AS bytes
        FROM (SELECT * FROM a67_internal.log_chunk c WHERE c.deployment_id = id AND c.seq > after ORDER BY c.seq LIMIT 200) c
    ), taken AS MATERIALIZED (SELECT * FROM page p WHERE p.bytes <= 262144 OR p.seq = (SELECT min(f.seq) FROM page f))
    SELECT json_build_object('deployment', id,
        'reached', CASE WHEN (SELECT count(*) FROM page) < 200 AND (SELECT count(*) FROM page) = (SELECT count(*) FROM taken) THEN head
                        ELSE (SELECT max(t.seq) FROM taken t) END,
        'more', NOT ((SELECT count(*) FROM page) < 200 AND (SELECT count(*) FROM page) = (SELECT count(*) FROM taken)),
        'text', coalesce((SELECT string_agg(a67_internal._log_line(t.at, l.node, t.replica_id, u.line) || E'\n', '' ORDER BY t.seq, u.place)
                          FROM taken t JOIN a67_internal.replica_log l USING (replica_id),
                          LATERAL a67_internal._log_unfold(t.missing, t.data) u
                          WHERE replica IS NULL OR t.replica_id = replica), '')));
END
$$;
COMMENT ON FUNCTION a67.deployment_log_feed(text, bigint, integer, timestamptz, uuid) IS
    'Output behind a position, and the position reached; what GET /api/v1/deployments/{deployment}/logs?follow=true is made of';

-- How far each of these deployments has got; 0: nothing is kept of it.
CREATE OR REPLACE FUNCTION a67_internal._log_heads(deployments uuid[]) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT json_agg(CASE WHEN d.deployment_id IS NULL THEN -1 ELSE coalesce(l.next_seq - 1, 0) END ORDER BY g.ordinality)
    FROM unnest(deployments) WITH ORDINALITY g (id, ordinality)
    LEFT JOIN a67_internal.deployment d ON d.deployment_id = g.id
    LEFT JOIN a67_internal.deployment_log l ON l.deployment_id = g.id
$$;

CREATE OR REPLACE VIEW a67.replica_log WITH (security_invoker = true) AS
SELECT l.replica_id, d.name AS deployment, l.node, l.bytes, l.missing_bytes, l.pruned_bytes, nullif(l.last_at, '-infinity') AS last_at
FROM a67_internal.replica_log l JOIN a67_internal.deployment d USING (deployment_id);
COMMENT ON VIEW a67.replica_log IS
    'The kept output of your replicas: bytes here, bytes that the node gave up before it could ship them, bytes taken away since';
