-- Who may call what. Last module: everything exists by now. Nothing is granted to PUBLIC.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA a67, a67_internal FROM PUBLIC;

GRANT EXECUTE ON FUNCTION a67.version(), a67.request_check(), a67.openapi(jsonb) TO a67_anon, a67_user, a67_node, a67_admin;
GRANT EXECUTE ON FUNCTION
    a67.auth_register(text, text, text),
    a67.auth_login(text, text, text, text),
    a67.auth_refresh(text)
    TO a67_anon, a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION
    a67.auth_logout(),
    a67.auth_me(),
    a67.auth_password_change(text, text),
    a67.auth_mfa_enroll(text),
    a67.auth_mfa_confirm(text),
    a67.auth_mfa_disable(text, text)
    TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION
    a67.murmur3(text, integer),
    a67.ring_lookup(text, text[], float8[], integer),
    a67.ring_points(text[], float8[]),
    a67.ring_shares(text[], float8[]),
    a67.ring_diff(text[], float8[], text[], float8[]),
    a67.manifest_check(jsonb),
    a67.join_token_create(interval, text, text, text),
    a67.node_remove(text),
    a67.node_select(integer, bigint, float8, bigint),
    a67.package_put(bytea),
    a67.deployment_create(jsonb),
    a67.deployment_scale(text, integer),
    a67.deployment_stop(text),
    a67.deployment_start(text),
    a67.deployment_remove(text),
    a67.node_list(text, text, text, integer, integer),
    a67.node_get(text),
    a67.deployment_list(text, integer, integer),
    a67.deployment_get(text),
    a67.event_list(bigint, integer),
    a67.alert_list(boolean, integer)
    TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67.package_get(text) TO a67_user, a67_admin, a67_node;
GRANT EXECUTE ON FUNCTION a67.node_register(text, text, text, jsonb, text, text, text, text) TO a67_anon;
GRANT EXECUTE ON FUNCTION
    a67.node_token_renew(),
    a67.node_heartbeat(text, bigint, jsonb, jsonb, bigint, text)
    TO a67_node;
GRANT EXECUTE ON FUNCTION a67.user_create(text, text), a67.token_create(uuid, interval), a67.signing_key_rotate() TO a67_admin;

GRANT SELECT ON a67.node, a67.deployment, a67.release, a67.replica, a67.endpoint, a67.package, a67.join_token, a67.event,
    a67.alert, a67.session, a67.node_ring, a67.node_ring_share, a67.node_live TO a67_user, a67_admin;
GRANT SELECT ON a67.worker_status, a67.listener, a67.audit TO a67_admin;

-- What policies, invoker views and invoker functions need of the private schema.
GRANT EXECUTE ON FUNCTION
    a67_internal._page_size(integer),
    a67_internal._node_json(a67.node, jsonb),
    a67_internal._deployment_json(a67.deployment, boolean)
    TO a67_user, a67_admin;
-- A refusal is noted after its transaction was rolled back, by the session's own user.
GRANT USAGE ON SCHEMA a67_internal TO a67_authenticator;
GRANT EXECUTE ON FUNCTION a67_internal._audit(text, text, text, uuid) TO a67_authenticator;
-- The listener's own questions, asked through its pool by the session's own user.
GRANT EXECUTE ON FUNCTION
    a67_internal._event_feed(xid8, bigint, integer),
    a67_internal._event_replay(uuid, bigint, xid8, bigint, xid8, bigint, text[], integer),
    a67_internal._node_metrics(uuid[], integer)
    TO a67_authenticator;
GRANT EXECUTE ON FUNCTION a67_internal._event_position(bigint) TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67_internal._claims_user_id() TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67_internal._node_live() TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67_internal._worker_status(), a67_internal._listener_status(),
    a67_internal._listener_url(text, text, integer) TO a67_admin;
