-- Routes: which hosts and paths lead to a deployment, and who may claim them. HAProxy itself is traffic.sql.

CREATE OR REPLACE FUNCTION a67_internal._ingress_on() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT current_setting('a67.ingress')::boolean
$$;

CREATE OR REPLACE FUNCTION a67_internal._route_host(host text, below_domain boolean) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT CASE WHEN below_domain THEN host || '.' || pg_catalog.current_setting('a67.ingress_domain') ELSE host END
$$;

-- The URL under which clients reach a route: https when the ingress has a certificate.
CREATE OR REPLACE FUNCTION a67_internal._ingress_url(host text, path text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT CASE pg_catalog.current_setting('a67.ingress_certificate_file') WHEN '' THEN 'http://' ELSE 'https://' END || host
        || CASE WHEN pg_catalog.current_setting('a67.ingress_port')
                     = CASE pg_catalog.current_setting('a67.ingress_certificate_file') WHEN '' THEN '80' ELSE '443' END THEN ''
                ELSE ':' || pg_catalog.current_setting('a67.ingress_port') END
        || path
$$;

CREATE OR REPLACE FUNCTION a67_internal._route_fail(index bigint, field text, fault text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'invalid manifest: /routes/%/%: %', index, field, fault
        USING ERRCODE = '22023', DETAIL = format('/routes/%s/%s: %s', index, field, fault);
END
$$;

-- A host as a manifest gives it: normalised, and whether it is a label below the domain of the ingress. Names that are not
-- anybody's to claim are refused: addresses, the domain itself, names two labels below it, the host of the controller.
CREATE OR REPLACE FUNCTION a67_internal._route_host_check(given text, index bigint, OUT host text, OUT below_domain boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    domain text := current_setting('a67.ingress_domain');
    controller text := substring(current_setting('a67.public_url') FROM '^https?://(\[[^]]+\]|[^:/]+)');
BEGIN
    host := lower(given);
    below_domain := false;
    IF host !~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$' OR length(host) > 190
       OR host ~ '\.[0-9]+$' THEN
        PERFORM a67_internal._route_fail(index, 'host', 'must be a host name of at least two labels (letters, digits and "-"), not an address');
    ELSIF host = domain OR host = lower(controller) THEN
        PERFORM a67_internal._route_fail(index, 'host', format('"%s" belongs to the cloud itself', host));
    ELSIF right(host, length(domain) + 1) = '.' || domain THEN
        host := left(host, -length(domain) - 1);
        below_domain := true;
        IF position('.' IN host) > 0 THEN
            PERFORM a67_internal._route_fail(index, 'host', format('must be one label below "%s"', domain));
        ELSIF host = 'ns' THEN
            PERFORM a67_internal._route_fail(index, 'host', format('"%s" belongs to the cloud itself', lower(given)));
        END IF;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._route_path_check(given text, index bigint) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    path text := CASE given WHEN '/' THEN given ELSE regexp_replace(given, '/$', '') END;
BEGIN
    IF path !~ '^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$' OR path ~ '/\.{1,2}(/|$)' OR length(path) > 255 THEN
        PERFORM a67_internal._route_fail(index, 'path',
            'must start with "/" and be made of letters, digits and ". _ ~ -" between single slashes (255 at most)');
    END IF;
    RETURN path;
END
$$;

-- The labels below the domain that a deployment may have without asking for one: its name, and one that nobody else has.
CREATE OR REPLACE FUNCTION a67_internal._route_labels(deployment_id uuid, name text) RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT ARRAY[s.short, format('%s-%s', s.short, left(_route_labels.deployment_id::text, 8))]
    FROM regexp_replace(left(_route_labels.name, 54), '-+$', '') s (short)
$$;

-- The one that it has: its name, unless somebody else has that.
CREATE OR REPLACE FUNCTION a67_internal._route_label(deployment_id uuid, name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(
        (SELECT r.host FROM a67_internal.route r
         WHERE r.below_domain AND r.host IN (l.short, l.long) AND r.deployment_id = _route_label.deployment_id
         ORDER BY r.host LIMIT 1),
        CASE WHEN EXISTS (SELECT FROM a67_internal.route r WHERE r.below_domain AND r.host = l.short) OR l.short = 'ns' THEN l.long ELSE l.short END)
    FROM (SELECT n.labels[1] AS short, n.labels[2] AS long
          FROM a67_internal._route_labels(_route_label.deployment_id, _route_label.name) n (labels)) l
$$;

-- The routes that a normalised manifest asks for: the default one when it names none, and only for what answers requests.
CREATE OR REPLACE FUNCTION a67_internal._routes_wanted(deployment_id uuid, normal jsonb)
RETURNS TABLE (index bigint, host text, below_domain boolean, path text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    IF normal ->> 'app_type' IS DISTINCT FROM 'backend' THEN
        RETURN;
    END IF;
    FOR item IN
        SELECT e.value AS route, e.ordinality - 1 AS index
        FROM jsonb_array_elements(coalesce(nullif(normal -> 'routes', '[]'), '[{}]')) WITH ORDINALITY e
    LOOP
        index := item.index;
        host := a67_internal._route_label(deployment_id, normal ->> 'name');
        below_domain := true;
        IF item.route ->> 'host' IS NOT NULL THEN
            SELECT h.host, h.below_domain INTO host, below_domain
            FROM a67_internal._route_host_check(item.route ->> 'host', index) h;
        END IF;
        path := a67_internal._route_path_check(coalesce(item.route ->> 'path', '/'), index);
        RETURN NEXT;
    END LOOP;
END
$$;

-- Takes the routes of a normalised manifest for a deployment, in addition to those it has: 23505 names one that is taken,
-- by another deployment or because its host is another user's. Routes that only an old release asked for are given back
-- by _routes_settle(). A host must not get two owners: claims of the same one wait for each other, in the order of their
-- names, as do those of the names that a deployment may have by itself. Each then sees what the one before has committed, so
-- that its transaction must not be one that sees only what was there when it began.
CREATE OR REPLACE FUNCTION a67_internal._routes_claim(deployment_id uuid, owner_id uuid, normal jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    wanted record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'routes cannot be claimed in this transaction' USING ERRCODE = '25001',
            DETAIL = format('Its isolation level is %s.', current_setting('transaction_isolation')),
            HINT = 'Use one that is "read committed".';
    END IF;
    FOR wanted IN
        SELECT DISTINCT w.host FROM a67_internal._routes_wanted(deployment_id, normal) w
        UNION SELECT unnest(a67_internal._route_labels(deployment_id, normal ->> 'name')) WHERE normal ->> 'app_type' = 'backend'
        ORDER BY host
    LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended('a67.route ' || wanted.host, 0));
    END LOOP;
    FOR wanted IN SELECT * FROM a67_internal._routes_wanted(deployment_id, normal) LOOP
        IF EXISTS (SELECT FROM a67_internal.route r
                   WHERE r.host = wanted.host AND r.below_domain = wanted.below_domain
                     AND (r.owner_id <> _routes_claim.owner_id
                          OR r.path = wanted.path AND r.deployment_id <> _routes_claim.deployment_id)) THEN
            RAISE EXCEPTION 'route "%" is taken', a67_internal._route_host(wanted.host, wanted.below_domain) || wanted.path
                USING ERRCODE = '23505', DETAIL = format('/routes/%s: taken', wanted.index),
                      HINT = 'A host belongs to the user who routes it first, until none of his routes names it.';
        END IF;
        INSERT INTO a67_internal.route (below_domain, host, path, deployment_id, owner_id)
        VALUES (wanted.below_domain, wanted.host, wanted.path, _routes_claim.deployment_id, _routes_claim.owner_id)
        ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- Gives back the routes that neither the release of a deployment nor one that is being rolled out asks for.
CREATE OR REPLACE FUNCTION a67_internal._routes_settle(deployment_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    DELETE FROM a67_internal.route r
    WHERE r.deployment_id = _routes_settle.deployment_id
      AND NOT EXISTS (SELECT FROM a67_internal.deployment d
                      JOIN a67_internal.release m USING (deployment_id),
                      LATERAL a67_internal._routes_wanted(d.deployment_id, m.manifest) w
                      WHERE d.deployment_id = r.deployment_id
                        AND (m.number = d.release
                             OR m.number IN (SELECT o.to_release FROM a67_internal.rollout o
                                             WHERE o.deployment_id = d.deployment_id AND o.finished_at IS NULL))
                        AND (w.host, w.below_domain, w.path) = (r.host, r.below_domain, r.path));
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._routes_trigger() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._routes_settle(NEW.deployment_id);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER deployment_routes AFTER UPDATE OF release ON a67_internal.deployment
FOR EACH ROW WHEN (OLD.release <> NEW.release) EXECUTE FUNCTION a67_internal._routes_trigger();
CREATE OR REPLACE TRIGGER rollout_routes AFTER UPDATE OF finished_at ON a67_internal.rollout
FOR EACH ROW WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION a67_internal._routes_trigger();
