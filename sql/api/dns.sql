-- Names for PowerDNS: one zone, the domain of the ingress, as views in the layout of its gpgsql backend. Each deployment has
-- a name while it answers: that of the ingress, or of the nodes of its running replicas while the ingress is off. The views
-- run with their owner's rights; the role a67_dns may read them and nothing else.

-- The addresses (or the one name) of the ingress: what an operator says, else what it listens on unless that is every address.
CREATE OR REPLACE FUNCTION a67_internal._dns_ingress() RETURNS SETOF text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a.address
    FROM unnest(string_to_array(coalesce(nullif(current_setting('a67.ingress_public'), ''), current_setting('a67.ingress_address')), ',')) a (address)
    WHERE a.address NOT IN ('0.0.0.0', '::')
$$;

CREATE OR REPLACE FUNCTION a67_internal._dns_nameservers() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT unnest(string_to_array(coalesce(nullif(current_setting('a67.dns_nameservers'), ''), 'ns.' || current_setting('a67.ingress_domain')), ','))
$$;

-- Labels below the domain and where each leads now: addresses (IPv6 without brackets) and names.
CREATE OR REPLACE FUNCTION a67_internal._dns_targets() RETURNS TABLE (label text, target text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT t.host, i.address
    FROM (SELECT DISTINCT r.host FROM a67_internal.route r
          WHERE r.below_domain AND a67_internal._ingress_on()
            AND EXISTS (SELECT FROM a67_internal.replica p WHERE p.deployment_id = r.deployment_id AND p.routed = 'in')) t,
         a67_internal._dns_ingress() i (address)
    UNION
    SELECT r.host, btrim(a67_internal._ingress_host(n.endpoint), '[]')
    FROM a67_internal.route r
    JOIN a67_internal.replica p USING (deployment_id)
    JOIN a67_internal.node n USING (node_id)
    JOIN a67_internal.node_observed o USING (node_id)
    WHERE r.below_domain AND NOT a67_internal._ingress_on()
      AND p.desired_state = 'running' AND p.state = 'running' AND p.port IS NOT NULL AND p.cron_run_id IS NULL AND p.rollout_id IS NULL
      AND o.status NOT IN ('failed', 'offline', 'removed') AND a67_internal._ingress_host(n.endpoint) IS NOT NULL
    UNION
    SELECT 'ns', i.address FROM a67_internal._dns_ingress() i (address) WHERE current_setting('a67.dns_nameservers') = ''
$$;

-- A name has addresses, or when there is none leads to one other name: the first, as there cannot be two.
CREATE OR REPLACE FUNCTION a67_internal._dns_answers() RETURNS TABLE (name text, type text, content text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH target AS (
        SELECT t.label, t.target, CASE WHEN t.target ~ ':' THEN 'AAAA' WHEN t.target ~ '^[0-9.]+$' THEN 'A' ELSE 'CNAME' END AS type
        FROM a67_internal._dns_targets() t)
    SELECT t.label || '.' || current_setting('a67.ingress_domain'), t.type, t.target FROM target t WHERE t.type <> 'CNAME'
    UNION ALL
    SELECT t.label || '.' || current_setting('a67.ingress_domain'), 'CNAME', min(t.target)
    FROM target t GROUP BY t.label HAVING bool_and(t.type = 'CNAME')
$$;

-- A new serial number when the records are other ones than those of the last: seconds since 1970, or one more than before.
CREATE OR REPLACE FUNCTION a67_internal._dns_settle(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    fresh text;
BEGIN
    SELECT md5(coalesce(string_agg(format('%s %s %s', a.name, a.type, a.content), E'\n' ORDER BY a.name, a.type, a.content), '')
               || concat_ws(' ', current_setting('a67.ingress_domain'), current_setting('a67.dns_ttl'), array(SELECT a67_internal._dns_nameservers())))
    INTO fresh FROM a67_internal._dns_answers() a;
    UPDATE a67_internal.dns_zone z
    SET digest = fresh, changed_at = _dns_settle.now,
        serial = greatest(z.serial + 1, floor(extract(epoch FROM _dns_settle.now))::bigint) % 4294967296
    WHERE z.digest <> fresh;
END
$$;

CREATE OR REPLACE VIEW a67_dns.domains AS
SELECT 1 AS id, current_setting('a67.ingress_domain') AS name, NULL::text AS master, NULL::integer AS last_check,
       'NATIVE'::text AS type, NULL::bigint AS notified_serial, NULL::text AS account, NULL::text AS options, NULL::text AS catalog;
COMMENT ON VIEW a67_dns.domains IS 'The one zone: the domain of the ingress';

CREATE OR REPLACE VIEW a67_dns.records AS
SELECT row_number() OVER () AS id, 1 AS domain_id, r.name, r.type, r.content, s.ttl, 0 AS prio, false AS disabled,
       NULL::text AS ordername, true AS auth
FROM (SELECT (extract(epoch FROM current_setting('a67.dns_ttl')::interval))::integer AS ttl, current_setting('a67.ingress_domain') AS domain) s,
LATERAL (
    SELECT a.name, a.type, a.content FROM a67_internal._dns_answers() a
    UNION ALL
    SELECT s.domain, 'NS', n.name FROM a67_internal._dns_nameservers() n (name)
    UNION ALL
    SELECT s.domain, 'SOA', format('%s hostmaster.%s %s 10800 3600 604800 %s',
                                   (SELECT n.name FROM a67_internal._dns_nameservers() n (name) LIMIT 1), s.domain, z.serial, s.ttl)
    FROM a67_internal.dns_zone z) r;
COMMENT ON VIEW a67_dns.records IS 'Its records: SOA and NS, and an address for each deployment that answers';

-- What PowerDNS asks for besides; there is none of it.
CREATE OR REPLACE VIEW a67_dns.domainmetadata AS
SELECT NULL::integer AS id, NULL::integer AS domain_id, NULL::text AS kind, NULL::text AS content WHERE false;
COMMENT ON VIEW a67_dns.domainmetadata IS 'Empty';
CREATE OR REPLACE VIEW a67_dns.cryptokeys AS
SELECT NULL::integer AS id, NULL::integer AS domain_id, NULL::integer AS flags, NULL::boolean AS active, NULL::boolean AS published,
       NULL::text AS content WHERE false;
COMMENT ON VIEW a67_dns.cryptokeys IS 'Empty: the zone is not signed';
CREATE OR REPLACE VIEW a67_dns.tsigkeys AS
SELECT NULL::integer AS id, NULL::text AS name, NULL::text AS algorithm, NULL::text AS secret WHERE false;
COMMENT ON VIEW a67_dns.tsigkeys IS 'Empty';
