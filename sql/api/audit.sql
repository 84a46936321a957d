-- The audit trail.

-- One row for one act. The caller is who the token says, else the role; address and request id are the request's.
-- Granted to the authenticator too, which notes refusals after their transaction was rolled back.
CREATE OR REPLACE FUNCTION a67_internal._audit(action text, outcome text, subject text DEFAULT NULL,
    actor_id uuid DEFAULT NULL) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    INSERT INTO a67_internal.audit (actor_id, actor_role, action, outcome, subject, address, request_id)
    VALUES (coalesce(_audit.actor_id, a67_internal._claims_user_id()),
            coalesce(nullif(current_setting('role'), 'none'), session_user), left(_audit.action, 100), _audit.outcome,
            left(_audit.subject, 300), nullif(current_setting('request.address', true), ''),
            nullif(current_setting('request.id', true), ''))
$$;

CREATE OR REPLACE FUNCTION a67_internal._audit_prune(now timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM a67_internal.audit
        WHERE audit_id IN (SELECT o.audit_id FROM (SELECT audit_id, at FROM a67_internal.audit ORDER BY audit_id LIMIT 1000) o
                           WHERE o.at < _audit_prune.now - interval '1 year 1 day')
        RETURNING 1)
    SELECT count(*) FROM gone
$$;
