-- Selection: where replicas would go, what is promised on each node, and how both reach the live node table.
-- Three tables tell what a node is (node), how it is (node_observed) and what is promised on it (node_reserved); triggers
-- publish their changes to shared memory when they are committed, and selections scan that.

CREATE OR REPLACE FUNCTION a67.node_select(count integer DEFAULT 1, memory_bytes bigint DEFAULT 0, cpu float8 DEFAULT 0,
    disk_bytes bigint DEFAULT 0, strategy text DEFAULT 'composite', service text DEFAULT NULL, labels jsonb DEFAULT NULL,
    client_latitude float8 DEFAULT NULL, client_longitude float8 DEFAULT NULL, seed bigint DEFAULT NULL)
RETURNS TABLE (ordinal integer, node_id uuid, name text, region text, provider text, score float8, parts jsonb)
AS 'MODULE_PATHNAME', 'a67_sql_node_select' LANGUAGE C VOLATILE ROWS 1;
COMMENT ON FUNCTION a67.node_select(integer, bigint, float8, bigint, text, text, jsonb, float8, float8, bigint) IS
    'Where count replicas of the given size would go now, with the score of each node and its parts; promises nothing';

CREATE OR REPLACE FUNCTION a67_internal._place(owner_id uuid, count integer, memory_bytes bigint, cpu float8, disk_bytes bigint,
    held uuid[], avoided uuid[], excluded uuid[], barred uuid[], now timestamptz, seed bigint)
RETURNS TABLE (ordinal integer, node_id uuid, shortage text, score float8)
AS 'MODULE_PATHNAME', 'a67_sql_place' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._place(uuid, integer, bigint, float8, bigint, uuid[], uuid[], uuid[], uuid[], timestamptz, bigint) IS
    'Nodes for replicas of an app: a row for each, then one that says what was short, if anything. held: a node for each replica there is';

CREATE OR REPLACE FUNCTION a67_internal._capacity_check(owner_id uuid, replicas integer, memory_bytes bigint, cpu float8,
    disk_bytes bigint, barred uuid[], note text) RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_capacity_check' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._capacity_check(uuid, integer, bigint, float8, bigint, uuid[], text) IS
    'Refuses what cannot run at all; what fits in part is placed in part, the rest when there is room. note: for the detail';

CREATE OR REPLACE FUNCTION a67_internal._live_rebuild() RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_live_rebuild' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._live_rebuild() IS
    'Reads the live node table anew from the tables; false where it is not in use (another database, a standby)';

CREATE OR REPLACE FUNCTION a67_internal._live_observe(node_id uuid, requests float8, failures float8, latency_ms float8,
    active integer DEFAULT NULL) RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_live_observe' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._live_observe(uuid, float8, float8, float8, integer) IS
    'Adds to the fading history of a node: requests and failures since the last call, their mean latency; with active, how many are under way, what heartbeats say of requests counts no more. Whether the node is known';

CREATE OR REPLACE FUNCTION a67_internal._live_publish() RETURNS trigger
AS 'MODULE_PATHNAME', 'a67_sql_live_publish' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._live_publish() IS 'Brings the changed row to the live node table when the transaction commits';

CREATE OR REPLACE FUNCTION a67_internal._version_trigger() RETURNS trigger
AS 'MODULE_PATHNAME', 'a67_sql_version_trigger' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._version_trigger() IS 'Adds one to the column named by the argument';

-- ---- publishing ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE TRIGGER node_version BEFORE UPDATE ON a67_internal.node
FOR EACH ROW EXECUTE FUNCTION a67_internal._version_trigger('facts_version');
CREATE OR REPLACE TRIGGER node_observed_version BEFORE UPDATE OF status, near_quota ON a67_internal.node_observed
FOR EACH ROW WHEN (NEW.epoch <= OLD.epoch AND (OLD.status <> NEW.status OR OLD.near_quota <> NEW.near_quota))
EXECUTE FUNCTION a67_internal._version_trigger('epoch');
CREATE OR REPLACE TRIGGER node_reserved_version BEFORE UPDATE ON a67_internal.node_reserved
FOR EACH ROW EXECUTE FUNCTION a67_internal._version_trigger('version');

CREATE OR REPLACE TRIGGER node_publish AFTER INSERT OR UPDATE OR DELETE ON a67_internal.node
FOR EACH ROW EXECUTE FUNCTION a67_internal._live_publish();
CREATE OR REPLACE TRIGGER node_observed_publish AFTER INSERT ON a67_internal.node_observed
FOR EACH ROW EXECUTE FUNCTION a67_internal._live_publish();
CREATE OR REPLACE TRIGGER node_observed_republish AFTER UPDATE OF status, near_quota ON a67_internal.node_observed
FOR EACH ROW WHEN (OLD.status <> NEW.status OR OLD.near_quota <> NEW.near_quota)
EXECUTE FUNCTION a67_internal._live_publish();
CREATE OR REPLACE TRIGGER node_reserved_publish AFTER INSERT OR UPDATE ON a67_internal.node_reserved
FOR EACH ROW EXECUTE FUNCTION a67_internal._live_publish();
CREATE OR REPLACE TRIGGER node_truncate AFTER TRUNCATE ON a67_internal.node
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._live_publish();
CREATE OR REPLACE TRIGGER node_observed_truncate AFTER TRUNCATE ON a67_internal.node_observed
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._live_publish();
CREATE OR REPLACE TRIGGER node_reserved_truncate AFTER TRUNCATE ON a67_internal.node_reserved
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._live_publish();

-- ---- promises -----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67_internal._node_reserve_begin() RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    INSERT INTO a67_internal.node_reserved (node_id) SELECT a.node_id FROM added a ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION a67_internal._node_reserve_begin() IS 'A new node has promised nothing';

CREATE OR REPLACE TRIGGER node_reserve AFTER INSERT ON a67_internal.node REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._node_reserve_begin();

-- Promises what new replicas need, or gives back what removed ones needed, in the transaction that adds or removes them. The
-- row of each node is locked, in one order, so that concurrent placements wait for each other and see what is left. A new replica
-- (epoch 0: never handed out) must fit; one that was there before, in a dump that is restored, counts whatever its node has
-- become: a node that shrinks keeps what it has.
CREATE OR REPLACE FUNCTION a67_internal._replica_reserve() RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    sums record;
    taken uuid[];
BEGIN
    -- Arrays, so that what follows finds its few nodes by their key however many there are.
    SELECT array_agg(s.node_id) AS node_ids, array_agg(s.memory_bytes) AS memory, array_agg(s.cpu) AS cpu, array_agg(s.disk_bytes) AS disk,
           array_agg(s.new) AS new INTO sums
    FROM (SELECT c.node_id, sum(c.memory_bytes)::bigint AS memory_bytes, sum(c.cpu) AS cpu, sum(c.disk_bytes)::bigint AS disk_bytes,
                 bool_or(c.epoch = 0) AS new
          FROM changed c GROUP BY c.node_id) s;
    PERFORM FROM a67_internal.node_reserved r WHERE r.node_id = ANY (sums.node_ids) ORDER BY r.node_id FOR UPDATE;
    WITH reserved AS (
        UPDATE a67_internal.node_reserved r
        SET memory_bytes = greatest(0, r.memory_bytes + sign * s.memory_bytes),
            cpu = greatest(0, round((r.cpu + sign * s.cpu)::numeric, 6)),
            disk_bytes = greatest(0, r.disk_bytes + sign * s.disk_bytes)
        FROM unnest(sums.node_ids, sums.memory, sums.cpu, sums.disk, sums.new) s (node_id, memory_bytes, cpu, disk_bytes, new)
        JOIN a67_internal.node n USING (node_id)
        WHERE r.node_id = s.node_id
          AND (sign < 0 OR NOT s.new
               OR r.memory_bytes + s.memory_bytes <= n.memory_bytes AND r.cpu + s.cpu <= n.cpu_cores + 1e-5
                  AND r.disk_bytes + s.disk_bytes <= n.disk_bytes)
        RETURNING r.node_id)
    SELECT array_agg(v.node_id) INTO taken FROM reserved v;
    IF sign > 0 AND cardinality(sums.node_ids) > coalesce(cardinality(taken), 0) THEN
        RAISE EXCEPTION 'insufficient capacity for % replicas', (SELECT count(*) FROM changed)
            USING ERRCODE = '53000', DETAIL = (
                SELECT format('No longer free to promise on node %s.', string_agg(format('"%s"', n.name), ', ' ORDER BY n.name))
                FROM a67_internal.node n WHERE n.node_id = ANY (sums.node_ids) AND n.node_id <> ALL (coalesce(taken, '{}'))),
                HINT = 'Others were placed there at the same moment: choose again.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION a67_internal._replica_reserve() IS 'Keeps node_reserved: promises for new replicas, or refuses them (53000)';

CREATE OR REPLACE TRIGGER replica_reserve AFTER INSERT ON a67_internal.replica REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._replica_reserve();
CREATE OR REPLACE TRIGGER replica_give_back AFTER DELETE ON a67_internal.replica REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._replica_reserve();

CREATE OR REPLACE FUNCTION a67_internal._replica_stays() RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE a67_internal.node_reserved SET memory_bytes = 0, cpu = 0, disk_bytes = 0;
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'cannot change the node or the needs of a replica' USING ERRCODE = '0A000',
        HINT = 'Add a replica elsewhere and remove this one.';
END
$$;
COMMENT ON FUNCTION a67_internal._replica_stays() IS 'What is promised for a replica is settled when it is added';

CREATE OR REPLACE TRIGGER replica_stays BEFORE UPDATE OF node_id, memory_bytes, cpu, disk_bytes ON a67_internal.replica
FOR EACH ROW WHEN ((OLD.node_id, OLD.memory_bytes, OLD.cpu, OLD.disk_bytes)
                   IS DISTINCT FROM (NEW.node_id, NEW.memory_bytes, NEW.cpu, NEW.disk_bytes))
EXECUTE FUNCTION a67_internal._replica_stays();
CREATE OR REPLACE TRIGGER replica_truncate AFTER TRUNCATE ON a67_internal.replica
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._replica_stays();

-- Also where triggers are off, as while a logical subscription or a restore writes.
DO $always$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT g.tgname, c.oid::regclass AS of FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
             WHERE NOT g.tgisinternal AND c.relnamespace = 'a67_internal'::regnamespace
               AND g.tgfoid IN ('a67_internal._live_publish()'::regprocedure, 'a67_internal._version_trigger()'::regprocedure,
                                'a67_internal._node_reserve_begin()'::regprocedure,
                                'a67_internal._replica_reserve()'::regprocedure, 'a67_internal._replica_stays()'::regprocedure)
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.of, t.tgname);
    END LOOP;
END
$always$;

-- Makes node_reserved what the replicas say, should rows have come without their triggers. The launcher calls it before it builds
-- the live node table. Who has promised something has committed when the lock is there, and whoever has not yet adds to what is
-- written here. Returns how many rows were wrong.
CREATE OR REPLACE FUNCTION a67_internal._reserved_repair() RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    repaired integer;
BEGIN
    LOCK TABLE a67_internal.node_reserved IN EXCLUSIVE MODE;
    INSERT INTO a67_internal.node_reserved AS r (node_id, memory_bytes, cpu, disk_bytes)
    SELECT n.node_id, coalesce(sum(p.memory_bytes), 0), coalesce(round(sum(p.cpu)::numeric, 6), 0), coalesce(sum(p.disk_bytes), 0)
    FROM a67_internal.node n LEFT JOIN a67_internal.replica p USING (node_id)
    GROUP BY n.node_id
    ON CONFLICT (node_id) DO UPDATE
    SET memory_bytes = excluded.memory_bytes, cpu = excluded.cpu, disk_bytes = excluded.disk_bytes
    WHERE (r.memory_bytes, r.disk_bytes) IS DISTINCT FROM (excluded.memory_bytes, excluded.disk_bytes)
       OR abs(r.cpu - excluded.cpu) > 1e-5;
    GET DIAGNOSTICS repaired = ROW_COUNT;
    RETURN repaired;
END
$$;

-- ---- placement ----------------------------------------------------------------------------------------------------------

-- Of the nodes chosen for replicas (one entry each), those that have room indeed, in the order of the choice, and those that have
-- not. Their promises stay locked, so what fits now fits until the transaction ends. Nodes that somebody else is placing on count as
-- full: waiting for one while holding another is how deadlocks are made.
CREATE OR REPLACE FUNCTION a67_internal._place_confirm(chosen uuid[], memory_bytes bigint, cpu float8, disk_bytes bigint,
    OUT fitting uuid[], OUT full_nodes uuid[]) RETURNS record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    locked uuid[];
BEGIN
    SELECT array_agg(l.node_id) INTO locked
    FROM (SELECT r.node_id FROM a67_internal.node_reserved r WHERE r.node_id = ANY (chosen) FOR UPDATE SKIP LOCKED) l;
    WITH room AS (
        SELECT n.node_id, least(
                   CASE WHEN _place_confirm.memory_bytes > 0 THEN (n.memory_bytes - r.memory_bytes) / _place_confirm.memory_bytes END,
                   CASE WHEN _place_confirm.cpu > 0 THEN floor((n.cpu_cores + 1e-5 - r.cpu) / _place_confirm.cpu) END,
                   CASE WHEN _place_confirm.disk_bytes > 0 THEN (n.disk_bytes - r.disk_bytes) / _place_confirm.disk_bytes END) AS most
        FROM a67_internal.node_reserved r JOIN a67_internal.node n USING (node_id)
        WHERE r.node_id = ANY (locked) AND n.desired_state = 'active'
    ), asked AS (
        SELECT c.node_id, c.ordinal, row_number() OVER (PARTITION BY c.node_id ORDER BY c.ordinal) AS nth
        FROM unnest(chosen) WITH ORDINALITY c (node_id, ordinal)
    ), answered AS (
        SELECT a.node_id, a.ordinal, m.node_id IS NOT NULL AND a.nth <= coalesce(m.most, a.nth) AS fits
        FROM asked a LEFT JOIN room m USING (node_id))
    SELECT coalesce(array_agg(v.node_id ORDER BY v.ordinal) FILTER (WHERE v.fits), '{}'),
           coalesce(array_agg(DISTINCT v.node_id) FILTER (WHERE NOT v.fits), '{}')
    INTO fitting, full_nodes FROM answered v;
END
$$;

-- The nodes of this owner that a normalised manifest does not allow, by its runner and affinity, and a sentence about them (NULL when
-- there are none).
CREATE OR REPLACE FUNCTION a67_internal._place_barred(owner_id uuid, manifest jsonb, OUT barred uuid[], OUT note text) RETURNS record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    runner text := coalesce(manifest ->> 'runner', 'process');
    affinity jsonb := coalesce(manifest -> 'affinity', '{}');
    wanted jsonb := coalesce(affinity -> 'labels', '{}');
    regions jsonb := nullif(affinity -> 'regions', '[]');
    providers jsonb := nullif(affinity -> 'providers', '[]');
    tiers jsonb := nullif(affinity -> 'tiers', '[]');
    nodes jsonb := nullif(affinity -> 'nodes', '[]');
BEGIN
    barred := '{}';
    IF runner = 'process' AND wanted = '{}' AND coalesce(regions, providers, tiers, nodes) IS NULL THEN
        RETURN;
    END IF;
    WITH judged AS (
        SELECT n.node_id, CASE
            WHEN NOT nodes ? n.name AND NOT nodes ? n.node_id::text THEN 1
            WHEN NOT coalesce(regions ? n.region, regions IS NULL) THEN 2
            WHEN NOT providers ? n.provider THEN 3
            WHEN NOT coalesce(tiers ? n.tier, tiers IS NULL) THEN 4
            WHEN NOT n.labels @> wanted THEN 5
            WHEN runner <> ALL (n.runners) THEN 6 END AS reason
        FROM a67_internal.node n WHERE n.owner_id = _place_barred.owner_id AND n.desired_state <> 'removed'
    ), counted AS (
        SELECT j.reason, count(*) AS nodes, array_agg(j.node_id) AS ids FROM judged j WHERE j.reason IS NOT NULL GROUP BY j.reason)
    SELECT coalesce((SELECT array_agg(id) FROM counted c, unnest(c.ids) id), '{}'),
           'Ruled out: ' || string_agg(c.nodes || ' ' || (ARRAY['by name', 'by region', 'by provider', 'by tier', 'by labels',
               format('without the runner "%s"', runner)])[c.reason], ', ' ORDER BY c.reason) || '.'
    INTO barred, note FROM counted c;
END
$$;

-- Creates missing replicas of one release, or the one of a run. Returns what was short, NULL when nothing was. Nodes that others fill at
-- this moment are passed over and the rest is chosen again; what found no other node is the next round's affair.
CREATE OR REPLACE FUNCTION a67_internal._deployment_place(d a67_internal.deployment, release integer, missing integer, now timestamptz,
    cron_run_id bigint DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    need record;
    rule record;
    held uuid[];
    chosen uuid[];
    scores float8[];
    confirmed record;
    excluded uuid[] := '{}';
    wanted integer := missing;
    shortage text;
    placed uuid[];
BEGIN
    SELECT (r.manifest #>> '{resources,memory_bytes}')::bigint AS memory_bytes,
           (r.manifest #>> '{resources,cpu}')::float8 AS cpu,
           coalesce((r.manifest #>> '{resources,disk_bytes}')::bigint, 0) AS disk_bytes, r.manifest INTO need
    FROM a67_internal.release r WHERE r.deployment_id = d.deployment_id AND r.number = _deployment_place.release;
    rule := a67_internal._place_barred(d.owner_id, need.manifest);
    FOR try IN 1..5 LOOP
        held := ARRAY(SELECT r.node_id FROM a67_internal.replica r WHERE r.deployment_id = d.deployment_id);
        SELECT array_agg(p.node_id ORDER BY p.ordinal) FILTER (WHERE p.node_id IS NOT NULL), max(p.shortage),
               array_agg(p.score ORDER BY p.ordinal) INTO chosen, shortage, scores
        FROM a67_internal._place(d.owner_id, wanted, need.memory_bytes, need.cpu, need.disk_bytes, held, d.avoid_nodes, excluded,
            rule.barred, _deployment_place.now, (random() * 9e15)::bigint) p;
        EXIT WHEN chosen IS NULL;
        SELECT * INTO confirmed FROM a67_internal._place_confirm(chosen, need.memory_bytes, need.cpu, need.disk_bytes);
        WITH added AS (
            INSERT INTO a67_internal.replica (deployment_id, release, node_id, memory_bytes, cpu, disk_bytes, deadline_at, state_at,
                created_at, cron_run_id, placed_score)
            SELECT d.deployment_id, _deployment_place.release, f.node_id, need.memory_bytes, need.cpu, need.disk_bytes,
                   _deployment_place.now + current_setting('a67.deploy_timeout')::interval, _deployment_place.now, _deployment_place.now,
                   _deployment_place.cron_run_id, c.score
            FROM unnest(confirmed.fitting) f (node_id)
            LEFT JOIN (SELECT u.node_id, max(u.score) AS score FROM unnest(chosen, scores) u (node_id, score) GROUP BY 1) c USING (node_id)
            RETURNING replica_id)
        SELECT array_agg(a.replica_id) INTO placed FROM added a;
        PERFORM a67_internal._replica_events(placed);
        wanted := wanted - cardinality(confirmed.fitting);
        excluded := excluded || confirmed.full_nodes;
        EXIT WHEN wanted = 0 OR cardinality(confirmed.full_nodes) = 0;
    END LOOP;
    IF wanted > 0 THEN
        RETURN format('insufficient capacity for %s: %s',
                      CASE WHEN _deployment_place.cron_run_id IS NULL THEN format('%s of %s replicas', wanted, greatest(d.replicas, missing))
                           ELSE 'a run' END,
                      concat_ws(' ', coalesce(shortage, 'Nodes filled up while they were chosen.'), rule.note));
    END IF;
    RETURN NULL;
END
$$;
