-- Nodes: joining, heartbeats, removal, selection.

CREATE OR REPLACE FUNCTION a67.join_token_create(ttl interval DEFAULT '1 hour', provider text DEFAULT NULL,
    region text DEFAULT NULL, name text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    secret text := a67_internal._base64url(a67_internal._random_bytes(32));
    controller_key bytea := (a67_internal._current_key('ed25519')).public_key;
    expiry timestamptz;
    pin text;
BEGIN
    IF ttl IS NULL OR ttl < interval '1 second' OR ttl > interval '30 days' THEN
        RAISE EXCEPTION 'token life must be between 1 second and 30 days'
            USING ERRCODE = '22023', DETAIL = 'Field: ttl.';
    END IF;
    DELETE FROM a67_internal.join_token t WHERE t.expires_at < now() - interval '7 days';
    INSERT INTO a67_internal.join_token (token_hash, owner_id, provider, region, name, expires_at)
    VALUES (sha256(convert_to(secret, 'UTF8')), caller, join_token_create.provider, join_token_create.region,
            join_token_create.name, now() + ttl)
    RETURNING expires_at INTO expiry;
    PERFORM a67_internal._audit('join_token.create', 'ok', join_token_create.name);
    PERFORM set_config('response.status', '201', true);
    -- A server that vouches for itself is known by its key; one with a certificate of a CA by its name.
    SELECT l.tls_pin INTO pin FROM a67_internal._listener_status() l WHERE l.tls_pin IS NOT NULL LIMIT 1;
    RETURN jsonb_build_object('token', concat_ws('.', 'a67j', secret, a67_internal._base64url(controller_key), pin),
                              'expires_at', expiry);
END
$$;
COMMENT ON FUNCTION a67.join_token_create(interval, text, text, text) IS
    'A single-use token with which one node may join, shown once; optionally bound to a provider, region and node name';

-- A positive number among the capabilities of a registration, or an error that names it.
CREATE OR REPLACE FUNCTION a67_internal._capability(capabilities jsonb, field text, fallback float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value jsonb := capabilities -> field;
BEGIN
    IF value IS NULL OR value = 'null' THEN
        IF fallback IS NULL THEN
            RAISE EXCEPTION 'capability "%" is missing', field
                USING ERRCODE = '22023', DETAIL = format('Field: capabilities.%s.', field);
        END IF;
        RETURN fallback;
    END IF;
    IF jsonb_typeof(value) <> 'number' OR value::numeric <= 0 OR value::numeric > 1e6 THEN
        RAISE EXCEPTION 'capability "%" must be a positive number', field
            USING ERRCODE = '22023', DETAIL = format('Field: capabilities.%s.', field);
    END IF;
    RETURN value::float8;
END
$$;

-- The join token that this registration may use, locked; or PT401. What the node leaves open, the token decides.
CREATE OR REPLACE FUNCTION a67_internal._join_token_check(join_token text, provider text, region text, name text)
RETURNS a67_internal.join_token
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    token a67_internal.join_token;
BEGIN
    SELECT * INTO token FROM a67_internal.join_token t
    WHERE t.token_hash = sha256(convert_to(coalesce(split_part(join_token, '.', 2), ''), 'UTF8'))
    FOR UPDATE;
    IF NOT FOUND OR join_token !~ '^a67j(\.[A-Za-z0-9_-]{43}){2,3}$' OR token.expires_at <= now() THEN
        RAISE EXCEPTION 'join token is invalid or expired'
            USING ERRCODE = 'PT401', HINT = 'Make a new one with a67.join_token_create().';
    END IF;
    IF token.provider <> provider OR token.region <> region OR token.name <> name THEN
        RAISE EXCEPTION 'join token is for another provider, region or name' USING ERRCODE = 'PT401';
    END IF;
    RETURN token;
END
$$;

-- What a node is told when it is in.
CREATE OR REPLACE FUNCTION a67_internal._node_welcome(node_id uuid) RETURNS jsonb
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_build_object(
        'node_id', node_id,
        'node_token', a67_internal._token(node_id, 'a67_node', current_setting('a67.node_token_lifetime')::interval),
        'controller_endpoint', coalesce(nullif(current_setting('a67.public_url'), ''),
            (SELECT a67_internal._listener_url(l.scheme, l.address, l.port) FROM a67_internal._listener_status() l ORDER BY l.pid LIMIT 1)),
        'controller_key', a67_internal._base64url((a67_internal._current_key('ed25519')).public_key),
        'heartbeat_interval', extract(epoch FROM current_setting('a67.heartbeat_interval')::interval)::float8)
$$;

CREATE OR REPLACE FUNCTION a67.node_register(join_token text, endpoint text, public_key text, capabilities jsonb,
    provider text DEFAULT NULL, region text DEFAULT NULL, name text DEFAULT NULL, version text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    token a67_internal.join_token;
    known a67_internal.node;
    new_id uuid := gen_random_uuid();
BEGIN
    token := a67_internal._join_token_check(join_token, provider, region, name);
    IF coalesce(node_register.public_key, '') !~ '^[A-Za-z0-9_-]{43}$' THEN
        RAISE EXCEPTION 'public key must be 32 bytes in base64url' USING ERRCODE = '22023', DETAIL = 'Field: public_key.';
    END IF;
    IF coalesce(node_register.endpoint, '') !~ '^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$'
       OR length(node_register.endpoint) > 255 THEN
        RAISE EXCEPTION 'endpoint must be http(s)://host:port' USING ERRCODE = '22023', DETAIL = 'Field: endpoint.';
    END IF;
    IF node_register.name IS NOT NULL AND node_register.name !~ '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$' THEN
        RAISE EXCEPTION 'invalid node name "%"', node_register.name USING ERRCODE = '22023', DETAIL = 'Field: name.',
            HINT = 'Use lower-case letters, digits, "-" and ".", at most 63.';
    END IF;
    IF jsonb_typeof(capabilities) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'capabilities must be an object' USING ERRCODE = '22023', DETAIL = 'Field: capabilities.';
    END IF;
    SELECT * INTO known FROM a67_internal.node n
    WHERE n.public_key = node_register.public_key AND n.desired_state <> 'removed';
    IF FOUND AND token.node_id IS DISTINCT FROM known.node_id THEN
        RAISE EXCEPTION 'node is already registered' USING ERRCODE = '23505', DETAIL = known.node_id::text;
    END IF;
    IF known.node_id IS NULL AND token.used_at IS NOT NULL THEN
        RAISE EXCEPTION 'join token is invalid or expired'
            USING ERRCODE = 'PT401', HINT = 'Make a new one with a67.join_token_create().';
    END IF;
    IF known.node_id IS NOT NULL THEN
        new_id := known.node_id;
        UPDATE a67_internal.node n SET endpoint = node_register.endpoint, version = node_register.version
        WHERE n.node_id = new_id;
    ELSE
        PERFORM a67_internal._node_add(new_id, token.owner_id, jsonb_build_object(
            'name', coalesce(node_register.name, token.name), 'provider', coalesce(node_register.provider, token.provider),
            'region', coalesce(node_register.region, token.region), 'endpoint', node_register.endpoint,
            'version', node_register.version, 'public_key', node_register.public_key), capabilities);
        UPDATE a67_internal.join_token t SET used_at = now(), node_id = new_id WHERE t.token_hash = token.token_hash;
        PERFORM a67_internal._audit('node.register', 'ok', new_id::text, token.owner_id);
    END IF;
    PERFORM set_config('response.status', '201', true);
    RETURN a67_internal._node_welcome(new_id);
END
$$;
COMMENT ON FUNCTION a67.node_register(text, text, text, jsonb, text, text, text, text) IS
    'Admits a node by its join token; the same token and key again answer the same node';

CREATE OR REPLACE FUNCTION a67_internal._node_add(node_id uuid, owner_id uuid, facts jsonb, capabilities jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    node_name text := coalesce(facts ->> 'name', 'node-' || left(node_id::text, 8));
    unknown text;
BEGIN
    SELECT key INTO unknown FROM jsonb_object_keys(capabilities) key
    WHERE key NOT IN ('cpu_cores', 'memory_gb', 'disk_gb', 'network_bandwidth_mbps', 'max_concurrent_requests') LIMIT 1;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown capability "%"', unknown
            USING ERRCODE = '22023', DETAIL = format('Field: capabilities.%s.', unknown);
    END IF;
    INSERT INTO a67_internal.node (node_id, owner_id, name, provider, region, endpoint, version, public_key, cpu_cores,
        memory_bytes, disk_bytes, network_bandwidth_mbps, max_concurrent_requests)
    VALUES (_node_add.node_id, _node_add.owner_id, node_name, coalesce(facts ->> 'provider', 'generic'), facts ->> 'region',
        facts ->> 'endpoint', facts ->> 'version', facts ->> 'public_key',
        a67_internal._capability(capabilities, 'cpu_cores', NULL),
        a67_internal._capability(capabilities, 'memory_gb', NULL) * 1073741824,
        a67_internal._capability(capabilities, 'disk_gb', NULL) * 1073741824,
        a67_internal._capability(capabilities, 'network_bandwidth_mbps', 100),
        a67_internal._capability(capabilities, 'max_concurrent_requests', 100));
    INSERT INTO a67_internal.node_observed (node_id) VALUES (_node_add.node_id);
    PERFORM a67_internal._event(_node_add.owner_id, 'node.registered', _node_add.node_id,
        jsonb_build_object('node', node_name));
EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION 'node "%" already exists', node_name USING ERRCODE = '23505', DETAIL = 'Field: name.';
END
$$;

-- A node that is registered and not removed; 410 tells its agent that it is not wanted any more.
CREATE OR REPLACE FUNCTION a67_internal._node_here() RETURNS a67_internal.node
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    id uuid := a67_internal._node_id();
    here a67_internal.node;
BEGIN
    SELECT * INTO here FROM a67_internal.node n WHERE n.node_id = id AND n.desired_state <> 'removed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node "%" was removed', id USING ERRCODE = 'PT410';
    END IF;
    RETURN here;
END
$$;

CREATE OR REPLACE FUNCTION a67.node_token_renew() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    here a67_internal.node := a67_internal._node_here();
    life interval := current_setting('a67.node_token_lifetime')::interval;
BEGIN
    RETURN jsonb_build_object('node_token', a67_internal._token(here.node_id, 'a67_node', life),
                              'expires_in', ceil(extract(epoch FROM life))::bigint);
END
$$;
COMMENT ON FUNCTION a67.node_token_renew() IS 'A fresh token for the calling node';

CREATE OR REPLACE FUNCTION a67.node_heartbeat(boot_id text, state_version bigint, metrics jsonb, replicas jsonb,
    seq bigint DEFAULT NULL, status text DEFAULT 'ok') RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    here a67_internal.node := a67_internal._node_here();
    seen a67_internal.node_observed;
BEGIN
    IF coalesce(node_heartbeat.boot_id, '') !~ '^[0-9a-f]{8,32}$' THEN
        RAISE EXCEPTION 'boot id must be 8 to 32 hex digits' USING ERRCODE = '22023', DETAIL = 'Field: boot_id.';
    END IF;
    IF node_heartbeat.state_version IS NULL OR node_heartbeat.state_version < 0 THEN
        RAISE EXCEPTION 'state version must not be negative' USING ERRCODE = '22023', DETAIL = 'Field: state_version.';
    END IF;
    IF node_heartbeat.status IS NULL OR node_heartbeat.status NOT IN ('ok', 'stopping') THEN
        RAISE EXCEPTION 'unknown status "%"', node_heartbeat.status USING ERRCODE = '22023', DETAIL = 'Field: status.';
    END IF;
    IF jsonb_typeof(metrics) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'metrics must be an object' USING ERRCODE = '22023', DETAIL = 'Field: metrics.';
    END IF;
    IF jsonb_typeof(replicas) IS DISTINCT FROM 'array' OR jsonb_array_length(replicas) > 1000 THEN
        RAISE EXCEPTION 'replicas must be an array of at most 1000' USING ERRCODE = '22023', DETAIL = 'Field: replicas.';
    END IF;
    SELECT * INTO seen FROM a67_internal.node_observed o WHERE o.node_id = here.node_id FOR UPDATE;
    -- A beat that was overtaken by a newer one of the same boot says nothing new about replicas.
    IF seen.boot_id IS DISTINCT FROM node_heartbeat.boot_id OR seen.state_version <= node_heartbeat.state_version THEN
        PERFORM a67_internal._replica_observe(here, replicas);
        UPDATE a67_internal.node_observed o
        SET boot_id = node_heartbeat.boot_id, state_version = node_heartbeat.state_version
        WHERE o.node_id = here.node_id;
    END IF;
    PERFORM a67_internal._heartbeat_record(clock_timestamp(), ARRAY[here.node_id], ARRAY[clock_timestamp()], ARRAY[metrics]);
    PERFORM a67_internal._node_judge(here.node_id, clock_timestamp(),
        CASE WHEN node_heartbeat.status = 'stopping' THEN 'goodbye' END);
END
$$;
COMMENT ON FUNCTION a67.node_heartbeat(text, bigint, jsonb, jsonb, bigint, text) IS
    'A heartbeat of the calling node that brings news of its replicas';

CREATE OR REPLACE FUNCTION a67_internal._node_find(node text) RETURNS a67_internal.node
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    found_node a67_internal.node;
BEGIN
    SELECT * INTO found_node FROM a67_internal.node n
    WHERE (n.name = _node_find.node AND n.owner_id = caller
           OR n.node_id::text = lower(_node_find.node) AND (n.owner_id = caller OR a67_internal._is_admin()))
      AND n.desired_state <> 'removed'
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node "%" does not exist', _node_find.node USING ERRCODE = 'PT404';
    END IF;
    RETURN found_node;
END
$$;

CREATE OR REPLACE FUNCTION a67.node_remove(node text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    gone a67_internal.node := a67_internal._node_find(node);
BEGIN
    UPDATE a67_internal.node n SET desired_state = 'removed' WHERE n.node_id = gone.node_id;
    PERFORM a67_internal._audit('node.remove', 'ok', gone.node_id::text);
    PERFORM a67_internal._node_judge(gone.node_id, clock_timestamp(), 'remove');
    PERFORM a67_internal._live_forget(gone.node_id);
    PERFORM a67_internal._wake('reconciler');
END
$$;
COMMENT ON FUNCTION a67.node_remove(text) IS
    'Removes a node (name or id): its token ends, its replicas move, its agent stops its apps and exits at its next heartbeat';

-- What selection knows of each node of an owner, as arrays for _place (12 facts a node, see there).
-- Memory and cpu are what is left after every promise, including replicas that are not confirmed gone.
CREATE OR REPLACE FUNCTION a67_internal._candidates(owner_id uuid, deployment_id uuid, avoid_nodes uuid[], now timestamptz,
    OUT ids uuid[], OUT facts float8[], OUT regions text[], OUT providers text[]) RETURNS record
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH promised AS (
        SELECT r.node_id, sum(r.memory_bytes) AS memory_bytes, sum(r.cpu) AS cpu,
               count(*) FILTER (WHERE r.deployment_id = _candidates.deployment_id) AS same
        FROM a67_internal.replica r GROUP BY r.node_id)
    SELECT coalesce(array_agg(n.node_id ORDER BY n.node_id), '{}'),
           coalesce(array_agg(ARRAY[
               coalesce(o.cpu_percent, 0), coalesce(o.memory_percent, 0), 0, coalesce(o.active_requests, 0),
               n.max_concurrent_requests, 0, 0, n.memory_bytes - coalesce(p.memory_bytes, 0), n.cpu_cores - coalesce(p.cpu, 0),
               (o.status NOT IN ('ready', 'busy') OR n.node_id = ANY (avoid_nodes))::integer, coalesce(p.same, 0),
               greatest(0, coalesce(extract(epoch FROM _candidates.now - o.metrics_at), 0))]::float8[]
               ORDER BY n.node_id), '{}'),
           coalesce(array_agg(coalesce(n.region, '') ORDER BY n.node_id), '{}'),
           coalesce(array_agg(n.provider ORDER BY n.node_id), '{}')
    FROM a67_internal.node n
    JOIN a67_internal.node_observed o USING (node_id)
    LEFT JOIN promised p USING (node_id)
    WHERE n.owner_id = _candidates.owner_id AND n.desired_state = 'active' AND o.status IN ('ready', 'busy', 'degraded')
$$;

CREATE OR REPLACE FUNCTION a67.node_select(count integer DEFAULT 1, memory_bytes bigint DEFAULT 0, cpu float8 DEFAULT 0,
    seed bigint DEFAULT NULL)
RETURNS TABLE (ordinal integer, node_id uuid, name text, score float8, parts jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c record;
BEGIN
    SELECT * INTO c FROM a67_internal._candidates(a67_internal._user_id(), NULL, '{}', now());
    RETURN QUERY
    SELECT p.ordinal, p.node_id, n.name, p.score, p.parts
    FROM a67_internal._place(c.ids, c.facts, c.regions, c.providers, node_select.count, node_select.memory_bytes,
                             node_select.cpu, coalesce(node_select.seed, (random() * 2147483647)::bigint)) p
    JOIN a67_internal.node n ON n.node_id = p.node_id
    ORDER BY p.ordinal;
END
$$;
COMMENT ON FUNCTION a67.node_select(integer, bigint, float8, bigint) IS
    'Where count replicas of the given size would go now, with the score of each node and its parts';
