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
    id uuid;
    expiry timestamptz;
    pin text;
BEGIN
    IF ttl IS NULL OR ttl < interval '1 second' OR ttl > interval '30 days' THEN
        RAISE EXCEPTION 'token life must be between 1 second and 30 days'
            USING ERRCODE = '22023', DETAIL = 'Field: ttl.';
    END IF;
    PERFORM a67_internal._word_check(join_token_create.provider, 'provider'),
            a67_internal._word_check(join_token_create.region, 'region'),
            a67_internal._node_name_check(join_token_create.name);
    DELETE FROM a67_internal.join_token t WHERE t.expires_at < now() - interval '7 days';
    INSERT INTO a67_internal.join_token (token_hash, owner_id, provider, region, name, expires_at)
    VALUES (sha256(convert_to(secret, 'UTF8')), caller, join_token_create.provider, join_token_create.region,
            join_token_create.name, now() + ttl)
    RETURNING join_token_id, expires_at INTO id, expiry;
    PERFORM a67_internal._audit('join_token.create', 'ok', id::text);
    PERFORM set_config('response.status', '201', true);
    -- A server that vouches for itself is known by its key; one with a certificate of a CA by its name.
    SELECT l.tls_pin INTO pin FROM a67_internal._listener_status() l WHERE l.tls_pin IS NOT NULL LIMIT 1;
    RETURN jsonb_build_object('token', concat_ws('.', 'a67j', secret, a67_internal._base64url(controller_key), pin),
                              'join_token_id', id, 'expires_at', expiry);
END
$$;
COMMENT ON FUNCTION a67.join_token_create(interval, text, text, text) IS
    'A single-use token with which one node may join, shown once; optionally bound to a provider, region and node name';

CREATE OR REPLACE FUNCTION a67.join_token_revoke(join_token_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
BEGIN
    -- A registration that is under way holds the row: whoever comes second finds what the first has left.
    DELETE FROM a67_internal.join_token t
    WHERE t.join_token_id = join_token_revoke.join_token_id AND (t.owner_id = caller OR a67_internal._is_admin());
    IF NOT FOUND THEN
        RAISE EXCEPTION 'join token "%" does not exist', join_token_revoke.join_token_id USING ERRCODE = 'PT404';
    END IF;
    PERFORM a67_internal._audit('join_token.revoke', 'ok', join_token_revoke.join_token_id::text);
END
$$;
COMMENT ON FUNCTION a67.join_token_revoke(uuid) IS
    'Ends a join token: nothing registers with it any more, neither for the first time nor again. A node that it admitted stays';

CREATE OR REPLACE FUNCTION a67_internal._node_name_check(name text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF name !~ '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$' THEN
        RAISE EXCEPTION 'invalid node name "%"', left(name, 100) USING ERRCODE = '22023', DETAIL = 'Field: name.',
            HINT = 'Use lower-case letters, digits, "-" and ".", at most 63.';
    END IF;
END
$$;

-- Where the controller reaches the node; its port must be one. Commands carry tokens: in the clear on this machine alone.
CREATE OR REPLACE FUNCTION a67_internal._endpoint_check(endpoint text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF coalesce(endpoint, '') !~ '^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$' OR length(endpoint) > 255
       OR substring(endpoint from '[0-9]+$')::integer NOT BETWEEN 1 AND 65535 THEN
        RAISE EXCEPTION 'endpoint must be https://host:port' USING ERRCODE = '22023', DETAIL = 'Field: endpoint.';
    END IF;
    IF endpoint !~ '^(https:|http://(127(\.[0-9]{1,3}){3}|\[::1\]|localhost):)' THEN
        RAISE EXCEPTION 'endpoint must be an https URL' USING ERRCODE = '22023', DETAIL = 'Field: endpoint.',
            HINT = 'Plain http is for loopback addresses only.';
    END IF;
    RETURN endpoint;
END
$$;

-- The services in one order and without repetition.
CREATE OR REPLACE FUNCTION a67_internal._services_check(services text[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    known CONSTANT text[] := '{compute,database,storage,cache}';
    unknown text;
BEGIN
    SELECT coalesce(s, 'null') INTO unknown FROM unnest(services) s WHERE (s = ANY (known)) IS NOT TRUE LIMIT 1;
    IF FOUND OR coalesce(cardinality(services), 0) = 0 THEN
        RAISE EXCEPTION '%', coalesce(format('unknown service "%s"', left(unknown, 100)), 'a node needs a service')
            USING ERRCODE = '22023', DETAIL = 'Field: services.', HINT = 'Services are compute, database, storage and cache.';
    END IF;
    RETURN ARRAY(SELECT k FROM unnest(known) WITH ORDINALITY k (k, i) WHERE k = ANY (services) ORDER BY i);
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._labels_check(labels jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    wrong text;
BEGIN
    IF jsonb_typeof(labels) IS DISTINCT FROM 'object' OR (SELECT count(*) FROM jsonb_object_keys(labels)) > 16 THEN
        RAISE EXCEPTION 'labels must be an object of at most 16 fields' USING ERRCODE = '22023', DETAIL = 'Field: labels.';
    END IF;
    SELECT key INTO wrong FROM jsonb_object_keys(labels) key WHERE key !~ '^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'invalid label "%"', left(wrong, 100) USING ERRCODE = '22023', DETAIL = 'Field: labels.',
            HINT = 'Use lower-case letters, digits, ".", "_", "-" and "/", at most 63.';
    END IF;
    SELECT l.key INTO wrong FROM jsonb_each(labels) l
    WHERE jsonb_typeof(l.value) <> 'string' OR length(l.value #>> '{}') > 128 OR (l.value #>> '{}') ~ '[\x01-\x1f\x7f]' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'label "%" must be a text of at most 128 characters', wrong
            USING ERRCODE = '22023', DETAIL = format('Field: labels.%s.', wrong);
    END IF;
    RETURN labels;
END
$$;

-- A positive number among the capabilities of a node, or an error that names it.
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
    IF jsonb_typeof(value) <> 'number' OR value::numeric <= 0 OR value::numeric > 1e6
       OR field LIKE 'max_%' AND value::numeric <> trunc(value::numeric) THEN
        RAISE EXCEPTION 'capability "%" must be a positive % of at most 1000000', field,
            CASE WHEN field LIKE 'max_%' THEN 'whole number' ELSE 'number' END
            USING ERRCODE = '22023', DETAIL = format('Field: capabilities.%s.', field);
    END IF;
    RETURN value::float8;
END
$$;

-- The runners that a node has told, or an error; without any it is one that starts processes alone.
CREATE OR REPLACE FUNCTION a67_internal._runners_take(capabilities jsonb, fallback text[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    told jsonb := nullif(capabilities -> 'runners', 'null');
BEGIN
    IF told IS NULL THEN
        RETURN coalesce(fallback, '{process}');
    END IF;
    IF jsonb_typeof(told) <> 'array' OR told = '[]' OR NOT told <@ '["process", "container"]' THEN
        RAISE EXCEPTION 'capability "runners" must be an array of "process", "container" or both'
            USING ERRCODE = '22023', DETAIL = 'Field: capabilities.runners.';
    END IF;
    RETURN ARRAY(SELECT DISTINCT r FROM jsonb_array_elements_text(told) r ORDER BY r DESC);
END
$$;

-- The node with these capabilities; those not given stay, and one that it never had is missed.
CREATE OR REPLACE FUNCTION a67_internal._capabilities_take(INOUT n a67_internal.node, capabilities jsonb)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    gib CONSTANT float8 := 1073741824;
    unknown text;
BEGIN
    IF jsonb_typeof(capabilities) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'capabilities must be an object' USING ERRCODE = '22023', DETAIL = 'Field: capabilities.';
    END IF;
    SELECT key INTO unknown FROM jsonb_object_keys(capabilities) key
    WHERE key NOT IN ('cpu_cores', 'memory_gb', 'disk_gb', 'network_bandwidth_mbps', 'max_concurrent_requests', 'runners') LIMIT 1;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown capability "%"', unknown
            USING ERRCODE = '22023', DETAIL = format('Field: capabilities.%s.', unknown);
    END IF;
    n.cpu_cores := a67_internal._capability(capabilities, 'cpu_cores', n.cpu_cores);
    n.memory_bytes := ceil(a67_internal._capability(capabilities, 'memory_gb', n.memory_bytes / gib) * gib);
    n.disk_bytes := ceil(a67_internal._capability(capabilities, 'disk_gb', n.disk_bytes / gib) * gib);
    n.network_bandwidth_mbps := a67_internal._capability(capabilities, 'network_bandwidth_mbps',
        coalesce(n.network_bandwidth_mbps, 100));
    n.max_concurrent_requests := a67_internal._capability(capabilities, 'max_concurrent_requests',
        coalesce(n.max_concurrent_requests, 100));
    n.runners := a67_internal._runners_take(capabilities, n.runners);
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
        'controller_handovers', a67_internal._key_handovers(),
        'heartbeat_interval', extract(epoch FROM current_setting('a67.heartbeat_interval')::interval)::float8)
$$;

CREATE OR REPLACE FUNCTION a67.node_register(join_token text, endpoint text, public_key text, capabilities jsonb,
    provider text DEFAULT NULL, region text DEFAULT NULL, name text DEFAULT NULL, version text DEFAULT NULL,
    node_id uuid DEFAULT NULL, services text[] DEFAULT NULL, labels jsonb DEFAULT NULL, tier text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    token a67_internal.join_token := a67_internal._join_token_check(join_token, provider, region, name);
    known a67_internal.node;
    n a67_internal.node;
BEGIN
    IF coalesce(node_register.public_key, '') !~ '^[A-Za-z0-9_-]{43}$' THEN
        RAISE EXCEPTION 'public key must be 32 bytes in base64url' USING ERRCODE = '22023', DETAIL = 'Field: public_key.';
    END IF;
    IF node_register.version !~ '^[ -~]{1,64}$' THEN
        RAISE EXCEPTION 'version must be a text of 1 to 64 characters' USING ERRCODE = '22023', DETAIL = 'Field: version.';
    END IF;
    PERFORM a67_internal._node_name_check(node_register.name);
    n.node_id := coalesce(node_register.node_id, gen_random_uuid());
    n.owner_id := token.owner_id;
    n.name := coalesce(node_register.name, token.name, 'node-' || left(n.node_id::text, 8));
    n.provider := coalesce(a67_internal._word_check(node_register.provider, 'provider'), token.provider, 'generic');
    n.region := coalesce(a67_internal._word_check(node_register.region, 'region'), token.region);
    n.tier := a67_internal._word_check(node_register.tier, 'tier');
    n.services := a67_internal._services_check(coalesce(node_register.services, '{compute}'));
    n.labels := a67_internal._labels_check(coalesce(node_register.labels, '{}'));
    n.endpoint := a67_internal._endpoint_check(node_register.endpoint);
    n.version := node_register.version;
    n.public_key := node_register.public_key;
    n := a67_internal._capabilities_take(n, capabilities);

    SELECT * INTO known FROM a67_internal.node t
    WHERE t.public_key = node_register.public_key AND t.desired_state <> 'removed';
    IF known.node_id IS NULL AND token.used_at IS NOT NULL THEN
        RAISE EXCEPTION 'join token is invalid or expired'
            USING ERRCODE = 'PT401', HINT = 'Make a new one with a67.join_token_create().';
    END IF;
    IF known.node_id IS NOT NULL AND known.node_id = token.node_id AND known.node_id = coalesce(node_register.node_id, known.node_id) THEN
        -- A retry. What else it says counted the first time; the owner may have changed it since.
        UPDATE a67_internal.node t SET endpoint = n.endpoint, version = n.version, runners = n.runners
        WHERE t.node_id = known.node_id
          AND (t.endpoint, t.version, t.runners) IS DISTINCT FROM (n.endpoint, n.version, n.runners);
        n := known;
    ELSE
        PERFORM a67_internal._node_add(n);
        UPDATE a67_internal.join_token t SET used_at = now(), node_id = n.node_id WHERE t.token_hash = token.token_hash;
        PERFORM a67_internal._audit('node.register', 'ok', n.node_id::text, n.owner_id);
    END IF;
    PERFORM set_config('response.status', '201', true);
    RETURN a67_internal._node_welcome(n.node_id);
END
$$;
COMMENT ON FUNCTION a67.node_register(text, text, text, jsonb, text, text, text, text, uuid, text[], jsonb, text) IS
    'Admits a node by its join token; the same token and key again answer the same node. Services default to compute, the rest to the token''s';

-- The error for a node whose name another one of the owner has, with that one's id; returns if there is none.
CREATE OR REPLACE FUNCTION a67_internal._node_name_conflict(n a67_internal.node) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    other uuid;
BEGIN
    SELECT t.node_id INTO other FROM a67_internal.node t
    WHERE t.owner_id = n.owner_id AND t.name = n.name AND t.node_id <> n.node_id AND t.desired_state <> 'removed';
    IF FOUND THEN
        RAISE EXCEPTION 'node "%" already exists', n.name USING ERRCODE = '23505', DETAIL = other::text,
            HINT = 'Choose another name, or remove that node with a67.node_deregister().';
    END IF;
END
$$;

-- The same for a node that registers: its key and its id must be new as well. The id of a removed node is never used again.
CREATE OR REPLACE FUNCTION a67_internal._node_conflict(n a67_internal.node) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    other uuid;
BEGIN
    SELECT t.node_id INTO other FROM a67_internal.node t
    WHERE t.public_key = n.public_key AND t.desired_state <> 'removed' OR t.node_id = n.node_id
    ORDER BY t.desired_state = 'removed' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'node is already registered' USING ERRCODE = '23505', DETAIL = other::text,
            HINT = 'A key and an id belong to one node: remove that one first, or leave node_id out.';
    END IF;
    PERFORM a67_internal._node_name_conflict(n);
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._node_add(n a67_internal.node) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._node_conflict(n);
    BEGIN
        INSERT INTO a67_internal.node (node_id, owner_id, name, provider, region, tier, services, labels, endpoint, version,
            public_key, cpu_cores, memory_bytes, disk_bytes, network_bandwidth_mbps, max_concurrent_requests, runners)
        VALUES (n.node_id, n.owner_id, n.name, n.provider, n.region, n.tier, n.services, n.labels, n.endpoint, n.version,
            n.public_key, n.cpu_cores, n.memory_bytes, n.disk_bytes, n.network_bandwidth_mbps, n.max_concurrent_requests,
            n.runners);
    EXCEPTION WHEN unique_violation THEN
        -- Another one came at the same moment. Unless that has gone again, it is found now.
        PERFORM a67_internal._node_conflict(n);
        RAISE EXCEPTION 'node "%" was registered twice at the same moment', n.name USING ERRCODE = '40001';
    END;
    INSERT INTO a67_internal.node_observed (node_id) VALUES (n.node_id);
    PERFORM a67_internal._event(n.owner_id, 'node.registered', n.node_id, jsonb_build_object('node', n.name));
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
                              'expires_in', ceil(extract(epoch FROM life))::bigint,
                              'controller_handovers', a67_internal._key_handovers());
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
    PERFORM a67_internal._heartbeat_one(clock_timestamp(), here.node_id, metrics);
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
    -- By id, else by name among one's own: each has an index.
    IF _node_find.node ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        SELECT * INTO found_node FROM a67_internal.node n
        WHERE n.node_id = _node_find.node::uuid AND (n.owner_id = caller OR a67_internal._is_admin())
          AND n.desired_state <> 'removed'
        FOR UPDATE;
    END IF;
    IF found_node.node_id IS NULL THEN
        SELECT * INTO found_node FROM a67_internal.node n
        WHERE n.owner_id = caller AND n.name = _node_find.node AND n.desired_state <> 'removed'
        FOR UPDATE;
    END IF;
    IF found_node.node_id IS NULL THEN
        RAISE EXCEPTION 'node "%" does not exist', _node_find.node USING ERRCODE = 'PT404';
    END IF;
    RETURN found_node;
END
$$;

CREATE OR REPLACE FUNCTION a67.node_deregister(node text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    gone a67_internal.node := a67_internal._node_find(node);
BEGIN
    UPDATE a67_internal.node n SET desired_state = 'removed' WHERE n.node_id = gone.node_id;
    PERFORM a67_internal._audit('node.deregister', 'ok', gone.node_id::text);
    PERFORM a67_internal._node_judge(gone.node_id, clock_timestamp(), 'remove');
    PERFORM a67_internal._quota_alerts_resolve(gone.node_id);
    PERFORM a67_internal._live_forget(gone.node_id);
    PERFORM a67_internal._wake('reconciler');
END
$$;
COMMENT ON FUNCTION a67.node_deregister(text) IS
    'Removes a node (name or id): its token ends, its replicas move, its agent stops its apps and exits at its next heartbeat';
