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
    a67.manifest_schema(),
    a67.join_token_create(interval, text, text, text),
    a67.join_token_list(integer, integer),
    a67.join_token_revoke(uuid),
    a67.node_update(text, jsonb),
    a67.node_find(jsonb),
    a67.provider_list(),
    a67.region_list(),
    a67.node_deregister(text),
    a67.node_select(integer, bigint, float8, bigint, text, text, jsonb, float8, float8, bigint),
    a67.package_put(bytea),
    a67.package_build(jsonb),
    a67.package_list(integer, integer),
    a67.package_remove(text),
    a67.secret_set(text, text),
    a67.secret_remove(text),
    a67.secret_list(integer, integer),
    a67.deployment_create(jsonb),
    a67.deployment_scale(text, integer),
    a67.deployment_stop(text),
    a67.deployment_start(text),
    a67.deployment_remove(text),
    a67.deployment_run(text),
    a67.deployment_runs(text, integer, integer),
    a67.deployment_update(text, jsonb, boolean),
    a67.deployment_rollback(text, integer, boolean),
    a67.deployment_pause(text),
    a67.deployment_resume(text),
    a67.deployment_abort(text),
    a67.deployment_promote(text),
    a67.deployment_watch(text, interval),
    a67.deployment_explain(text),
    a67.node_drain(text),
    a67.node_maintenance(text),
    a67.node_activate(text),
    a67.node_list(text, text, text, text, integer, integer),
    a67.node_get(text),
    a67.node_stats(text, timestamptz, timestamptz, interval),
    a67.system_metrics(),
    a67.deployment_list(text, integer, integer),
    a67.deployment_get(text),
    a67.credential_set(text, text, text, text, text, text, integer, text[], text, text, text, text),
    a67.credential_list(text, text, integer, integer),
    a67.credential_get(text),
    a67.credential_refresh(text),
    a67.credential_revoke(text),
    a67.vault_item_put(text, text, text, text, text, bigint, text),
    a67.vault_item_get(text),
    a67.vault_item_list(integer, integer),
    a67.vault_item_remove(text, bigint),
    a67.event_list(bigint, integer),
    a67.alert_list(boolean, text, boolean, uuid, integer, integer),
    a67.alert_ack(uuid),
    a67.alert_resolve(uuid),
    a67.channel_create(text, text, jsonb, text, text, integer, boolean),
    a67.channel_update(text, text, jsonb, text, text, integer, boolean),
    a67.channel_remove(text),
    a67.channel_test(text),
    a67.channel_list(integer, integer),
    a67.channel_get(text),
    a67.outbox_list(text, text, integer, integer),
    a67.outbox_get(uuid),
    a67.outbox_retry(uuid),
    a67.database_create(text, jsonb, jsonb),
    a67.database_drop(text),
    a67.database_list(integer, integer),
    a67.database_get(text),
    a67.database_schema(text),
    a67.database_query(text, text, jsonb, jsonb, text, text, boolean),
    a67.database_ddl(text, text),
    a67.database_role_create(text, text, boolean, text),
    a67.database_role_drop(text, text),
    a67.database_role_list(text),
    a67.table_create(text, text, text, text, text, jsonb, text),
    a67.table_import(text, text, text, text, text, jsonb, text),
    a67.database_range_assign(text, text, text, text, text),
    a67.database_key_assign(text, text, text, text),
    a67.shard_of(regclass, text),
    a67.shard_key_text(anyelement),
    a67.shard_hash(anyelement)
    TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67.package_get(text) TO a67_user, a67_admin, a67_node;
GRANT EXECUTE ON FUNCTION a67.node_register(text, text, text, jsonb, text, text, text, text, uuid, text[], jsonb, text) TO a67_anon;
GRANT EXECUTE ON FUNCTION
    a67.node_token_renew(),
    a67.node_heartbeat(text, bigint, jsonb, jsonb, bigint, text),
    a67.log_put(jsonb)
    TO a67_node;
GRANT EXECUTE ON FUNCTION a67.user_create(text, text), a67.token_create(uuid, interval), a67.signing_key_rotate(text),
    a67.vault_status(), a67.vault_unseal(text), a67.vault_seal(), a67.vault_rotate(text) TO a67_admin;
GRANT EXECUTE ON FUNCTION
    a67.provider_set(text, jsonb),
    a67.provider_remove(text),
    a67.region_set(text, float8, float8),
    a67.region_remove(text)
    TO a67_admin;

GRANT EXECUTE ON FUNCTION
    a67.deployment_logs(text, integer, timestamptz, uuid),
    a67.deployment_log_text(text, integer, timestamptz, uuid, boolean),
    a67.deployment_log_feed(text, bigint, integer, timestamptz, uuid)
    TO a67_user, a67_admin;
GRANT SELECT ON a67.replica_log TO a67_user, a67_admin;

GRANT SELECT ON a67.discovery, a67.node_usage, a67.provider, a67.region TO a67_user, a67_admin;
GRANT SELECT ON a67.secret, a67.rollout TO a67_user, a67_admin;
GRANT SELECT ON a67.route, a67.traffic TO a67_user, a67_admin;
GRANT SELECT ON a67.node, a67.deployment, a67.release, a67.replica, a67.endpoint, a67.cron_run, a67.package, a67.join_token, a67.event,
    a67.alert, a67.channel, a67.outbox, a67.session, a67.credential, a67.node_ring, a67.node_ring_share, a67.node_live TO a67_user, a67_admin;
GRANT SELECT ON a67.database, a67.database_shard, a67.shard_endpoint TO a67_user, a67_admin;
GRANT SELECT ON a67.worker_status, a67.listener, a67.audit, a67.system_metric TO a67_admin;

-- What policies, invoker views and invoker functions need of the private schema.
GRANT EXECUTE ON FUNCTION
    a67_internal._page_size(integer),
    a67_internal._route_host(text, boolean),
    a67_internal._ingress_url(text, text),
    a67_internal._ingress_on(),
    a67_internal._alert_json(a67_internal.alert),
    a67_internal._outbox_json(a67.outbox),
    a67_internal._node_json(a67.node, jsonb),
    a67_internal._node_criteria(jsonb),
    a67_internal._provider_json(a67.provider),
    a67_internal._deployment_json(a67.deployment, boolean),
    a67_internal._credential_json(a67.credential),
    a67_internal._shard_endpoint_list()
    TO a67_user, a67_admin;
-- A refusal is noted after its transaction was rolled back, by the session's own user.
GRANT USAGE ON SCHEMA a67_internal TO a67_authenticator;
GRANT EXECUTE ON FUNCTION a67_internal._audit(text, text, text, uuid) TO a67_authenticator;
-- The listener's own questions, asked through its pool by the session's own user.
GRANT EXECUTE ON FUNCTION
    a67_internal._event_feed(xid8, bigint, integer),
    a67_internal._event_replay(uuid, bigint, xid8, bigint, xid8, bigint, text[], integer),
    a67_internal._node_metrics(uuid[], integer),
    a67_internal._log_heads(uuid[])
    TO a67_authenticator;
GRANT EXECUTE ON FUNCTION a67_internal._package_grace() TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67_internal._event_position(bigint) TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67_internal._claims_user_id() TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67_internal._node_live() TO a67_user, a67_admin;
GRANT EXECUTE ON FUNCTION a67_internal._worker_status(), a67_internal._listener_status(),
    a67_internal._listener_url(text, text, integer) TO a67_admin;
-- PowerDNS: the views read with their owner's rights, but call functions with the reader's.
GRANT EXECUTE ON FUNCTION a67_internal._dns_nameservers(), a67_internal._dns_answers() TO a67_dns;
GRANT SELECT ON a67_dns.domains, a67_dns.records, a67_dns.domainmetadata, a67_dns.cryptokeys, a67_dns.tsigkeys TO a67_dns;
-- Any role that reads virtual tables has its aggregates put together with these.
GRANT EXECUTE ON FUNCTION a67_internal._variance(numeric, numeric, numeric, boolean, boolean),
    a67_internal._combine_float8(double precision[]), a67_internal._combine_regr(double precision[]) TO PUBLIC;
