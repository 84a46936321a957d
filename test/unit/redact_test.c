/*
 * redact_test.c - statements that must not be in the log, and such as may.
 */
#include "crypto/redact.h"

#include "unit.h"

static void
calls_are_found(void)
{
	static const char *const texts[] = {
		"SELECT a67.auth_login('a', 'b')",
		"select A67.AUTH_LOGIN ('a', 'b')",
		"SELECT \"a67\".\"auth_login\"('a', 'b')",
		"SELECT a67.auth_mfa_enroll(\n'x')",
		"SELECT a67.vault_unseal/* */('x')",
		"SELECT a67.vault_unseal -- now\n('x')",
		"SELECT a67_internal._vault_seal('x', 'y')",
		"DO $$ BEGIN PERFORM a67.secret_set('a', 'b'); END $$",
		"SELECT '(', a67.channel_create('{}')",
		"EXPLAIN ANALYZE SELECT a67.credential_set('x')",
		"statement: SELECT a67.deployment_create('{}')",
		"SELECT a67.provider_set('x'); SELECT 1",
		"SELECT 1; SELECT a67.oauth_begin('x')",
		"SELECT a67.node_register('x')",
		"SELECT a67.database_create('x', '[]')",
		"SELECT a67.database_role_create('x', 'y')",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK(a67_text_calls_secret(texts[i]));
}

static void
others_are_not(void)
{
	static const char *const texts[] = {
		"",
		"SELECT 1",
		"SELECT deployment_id FROM a67.deployment",
		"SELECT * FROM a67_internal.vault WHERE vault_id",
		"SELECT a67.node_list('ready')",
		"SELECT my_auth_login('x')",
		"INSERT INTO credential VALUES (1)",
		"SELECT 1vault_unseal('x')",
		"SELECT 'auth_login'",
		"SELECT a67.database_get('x')",
		"SELECT a67.database_query('x', 'SELECT 1')",
	};

	CHECK(!a67_text_calls_secret(NULL));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK(!a67_text_calls_secret(texts[i]));
}

static void
executed_names(void)
{
	char name[A67_NAME_SIZE];
	char text[200];

	CHECK(a67_text_executes("EXECUTE Login('a')", name));
	CHECK_STR(name, "login");
	CHECK(a67_text_executes("explain execute \"My \"\"own\"\" One\" (1)", name));
	CHECK_STR(name, "My \"own\" One");
	CHECK(!a67_text_executes("SELECT 1", name));
	CHECK(!a67_text_executes("EXECUTE", name));
	CHECK(!a67_text_executes("SELECT executed", name));
	CHECK(!a67_text_executes(NULL, name));
	/* As long as the server keeps names, and no longer. */
	memset(text, 'x', sizeof(text));
	memcpy(text, "EXECUTE ", 8);
	text[sizeof(text) - 1] = '\0';
	CHECK(a67_text_executes(text, name));
	CHECK_INT(strlen(name), A67_NAME_SIZE - 1);
}

UNIT_MAIN("redact", UNIT(calls_are_found), UNIT(others_are_not), UNIT(executed_names));
