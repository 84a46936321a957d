-- The registry: finding and changing nodes. Joining, leaving and heartbeats are in node.sql.

-- Changes in the manner of a JSON merge patch (RFC 7396): what is not named stays, null removes. The row is locked.
CREATE OR REPLACE FUNCTION a67_internal._node_patch(INOUT n a67_internal.node, changes jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._changes_check(changes, 'changes',
        ARRAY['name', 'provider', 'region', 'tier', 'labels', 'services', 'capabilities', 'endpoint']);
    IF changes ? 'name' THEN
        n.name := coalesce(a67_internal._text_field(changes, 'name', 63), '');
        PERFORM a67_internal._node_name_check(n.name);
    END IF;
    IF changes ? 'provider' THEN
        n.provider := coalesce(a67_internal._word_check(a67_internal._text_field(changes, 'provider', 63), 'provider'), 'generic');
    END IF;
    IF changes ? 'region' THEN
        n.region := a67_internal._word_check(a67_internal._text_field(changes, 'region', 63), 'region');
    END IF;
    IF changes ? 'tier' THEN
        n.tier := a67_internal._word_check(a67_internal._text_field(changes, 'tier', 63), 'tier');
    END IF;
    IF changes ? 'labels' THEN
        n.labels := CASE WHEN changes -> 'labels' = 'null' THEN '{}'
                         ELSE a67_internal._labels_check(jsonb_strip_nulls(n.labels || (changes -> 'labels'))) END;
    END IF;
    IF changes ? 'services' THEN
        IF jsonb_typeof(changes -> 'services') <> 'array' THEN
            RAISE EXCEPTION 'services must be an array' USING ERRCODE = '22023', DETAIL = 'Field: services.';
        END IF;
        n.services := a67_internal._services_check(ARRAY(SELECT jsonb_array_elements_text(changes -> 'services')));
    END IF;
    IF changes ? 'capabilities' THEN
        IF changes -> 'capabilities' ? 'runners' THEN
            RAISE EXCEPTION 'runners are told by the node itself'
                USING ERRCODE = '22023', DETAIL = 'Field: capabilities.runners.';
        END IF;
        n := a67_internal._capabilities_take(n, changes -> 'capabilities');
    END IF;
    IF changes ? 'endpoint' THEN
        n.endpoint := a67_internal._endpoint_check(a67_internal._text_field(changes, 'endpoint', 255));
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67.node_update(node text, changes jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    was a67_internal.node := a67_internal._node_find(node);
    n a67_internal.node := a67_internal._node_patch(was, changes);
    changed jsonb;
BEGIN
    SELECT jsonb_agg(f.key ORDER BY f.key) INTO changed
    FROM jsonb_each(to_jsonb(n)) f WHERE f.value <> to_jsonb(was) -> f.key;
    IF changed IS NOT NULL THEN
        PERFORM a67_internal._node_name_conflict(n);
        BEGIN
            UPDATE a67_internal.node t
            SET name = n.name, provider = n.provider, region = n.region, tier = n.tier, labels = n.labels, services = n.services,
                endpoint = n.endpoint, cpu_cores = n.cpu_cores, memory_bytes = n.memory_bytes, disk_bytes = n.disk_bytes,
                network_bandwidth_mbps = n.network_bandwidth_mbps, max_concurrent_requests = n.max_concurrent_requests
            WHERE t.node_id = n.node_id;
        EXCEPTION WHEN unique_violation THEN
            -- Another node took the name at the same moment. Unless that has gone again, it is found now.
            PERFORM a67_internal._node_name_conflict(n);
            RAISE EXCEPTION 'node "%" was named twice at the same moment', n.name USING ERRCODE = '40001';
        END;
        PERFORM a67_internal._audit('node.update', 'ok', n.node_id::text);
        PERFORM a67_internal._event(n.owner_id, 'node.updated', n.node_id, jsonb_build_object('node', n.name, 'changed', changed));
        PERFORM a67_internal._wake('reconciler');
    END IF;
    RETURN a67.node_get(n.node_id::text);
END
$$;
COMMENT ON FUNCTION a67.node_update(text, jsonb) IS
    'Changes name, provider, region, tier, labels, services, capabilities or endpoint of a node (name or id); null removes a value or label';

-- One text, or an array of up to 100, as an array; NULL if there is none.
CREATE OR REPLACE FUNCTION a67_internal._criterion(criteria jsonb, field text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value jsonb := criteria -> field;
BEGIN
    IF jsonb_typeof(value) = 'string' THEN
        value := jsonb_build_array(value);
    END IF;
    IF jsonb_typeof(value) <> 'array' OR jsonb_array_length(value) NOT BETWEEN 1 AND 100
       OR jsonb_path_exists(value, 'strict $[*] ? (@.type() != "string")') THEN
        RAISE EXCEPTION '% must be a text or an array of 1 to 100 texts', field
            USING ERRCODE = '22023', DETAIL = format('Field: %s.', field);
    END IF;
    RETURN CASE WHEN value IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(value)) END;
END
$$;

-- A number of an object from 0 up; `otherwise` if there is none.
CREATE OR REPLACE FUNCTION a67_internal._number_from_zero(object jsonb, field text, path text, otherwise float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value jsonb := object -> field;
BEGIN
    IF jsonb_typeof(value) <> 'number' OR value::numeric NOT BETWEEN 0 AND 1e18 THEN
        RAISE EXCEPTION '% must be a number from 0 to 1e18', path || field
            USING ERRCODE = '22023', DETAIL = format('Field: %s%s.', path, field);
    END IF;
    RETURN coalesce(value::float8, otherwise);
END
$$;

-- The criteria of node_find, each checked. With the owner's rights, since callers may not call the checks.
CREATE OR REPLACE FUNCTION a67_internal._node_criteria(criteria jsonb, OUT names text[], OUT statuses text[], OUT providers text[],
    OUT regions text[], OUT tiers text[], OUT services text[], OUT labels jsonb, OUT memory_bytes float8, OUT cpu float8,
    OUT disk_bytes float8, OUT max_rows bigint, OUT skipped bigint)
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    free jsonb := coalesce(criteria -> 'free', '{}');
    unknown text;
BEGIN
    PERFORM a67_internal._changes_check(criteria, 'criteria',
        ARRAY['name', 'status', 'provider', 'region', 'tier', 'services', 'labels', 'free', 'limit', 'offset']);
    names := a67_internal._criterion(criteria, 'name');
    statuses := a67_internal._criterion(criteria, 'status');
    SELECT s INTO unknown FROM unnest(statuses) s
    WHERE s NOT IN ('initializing', 'ready', 'busy', 'degraded', 'suspect', 'failed', 'offline', 'maintenance') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'unknown status "%"', left(unknown, 100) USING ERRCODE = '22023', DETAIL = 'Field: status.',
            HINT = 'A node is initializing, ready, busy, degraded, suspect, failed, offline or in maintenance.';
    END IF;
    providers := a67_internal._criterion(criteria, 'provider');
    regions := a67_internal._criterion(criteria, 'region');
    tiers := a67_internal._criterion(criteria, 'tier');
    services := a67_internal._criterion(criteria, 'services');
    services := CASE WHEN services IS NULL THEN '{}' ELSE a67_internal._services_check(services) END;
    labels := a67_internal._labels_check(coalesce(criteria -> 'labels', '{}'));
    IF jsonb_typeof(free) <> 'object' THEN
        RAISE EXCEPTION 'free must be an object' USING ERRCODE = '22023', DETAIL = 'Field: free.';
    END IF;
    SELECT key INTO unknown FROM jsonb_object_keys(free) key WHERE key NOT IN ('memory_bytes', 'cpu', 'disk_bytes') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'unknown resource "%"', left(unknown, 100) USING ERRCODE = '22023',
            DETAIL = format('Field: free.%s.', unknown), HINT = 'Resources are memory_bytes, cpu and disk_bytes.';
    END IF;
    memory_bytes := a67_internal._number_from_zero(free, 'memory_bytes', 'free.', '-infinity');
    cpu := a67_internal._number_from_zero(free, 'cpu', 'free.', '-infinity');
    disk_bytes := a67_internal._number_from_zero(free, 'disk_bytes', 'free.', '-infinity');
    max_rows := a67_internal._number_from_zero(criteria, 'limit', '', 1000);
    skipped := a67_internal._number_from_zero(criteria, 'offset', '', 0);
END
$$;

CREATE OR REPLACE FUNCTION a67.node_find(criteria jsonb DEFAULT '{}') RETURNS SETOF a67.node
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    c record;
BEGIN
    SELECT * INTO c FROM a67_internal._node_criteria(criteria);
    RETURN QUERY
    SELECT n.* FROM a67.node n
    WHERE (c.names IS NULL OR n.name = ANY (c.names))
      AND (c.statuses IS NULL OR n.status = ANY (c.statuses))
      AND (c.providers IS NULL OR n.provider = ANY (c.providers))
      AND (c.regions IS NULL OR n.region = ANY (c.regions))
      AND (c.tiers IS NULL OR n.tier = ANY (c.tiers))
      AND n.services @> c.services AND n.labels @> c.labels
      AND n.memory_bytes - n.reserved_memory_bytes >= c.memory_bytes
      AND n.cpu_cores - n.reserved_cpu >= c.cpu
      AND n.disk_bytes - n.reserved_disk_bytes >= c.disk_bytes
    ORDER BY n.name, n.node_id
    LIMIT c.max_rows OFFSET c.skipped;
END
$$;
COMMENT ON FUNCTION a67.node_find(jsonb) IS
    'Your nodes that meet all criteria: name, status, provider, region, tier (one or several), services, labels, free {memory_bytes, cpu, disk_bytes}; limit (1000 unless told), offset';
