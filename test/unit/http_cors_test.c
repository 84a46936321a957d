/*
 * http_cors_test.c - what browsers are told about pages of other origins.
 */
#include "core/http/cors.h"

#include "unit.h"

#define ALLOW "GET, POST, OPTIONS"

/* The value of a field, "" when it is not there. */
static const char *
field(const A67Cors *cors, const char *name)
{
	for (int i = 0; cors->fields[i].name != NULL; i++)
		if (strcmp(cors->fields[i].name, name) == 0)
			return cors->fields[i].value;
	return "";
}

static void
ask(const char *origins, const char *text, A67Cors *cors)
{
	A67HttpHead head;

	CHECK(a67_http_parse_request(text, strlen(text), 0, NULL, &head) > 0);
	a67_cors_fields(origins, &head, ALLOW, cors);
}

static void
no_origins(void)
{
	A67Cors cors;

	ask("", "GET / HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\r\n", &cors);
	CHECK(cors.fields[0].name == NULL);
	CHECK(!cors.preflight);
	ask(" , ", "GET / HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\r\n", &cors);
	CHECK(cors.fields[0].name == NULL);
}

static void
listed_origin(void)
{
	A67Cors cors;

	ask("https://b.example, https://a.example",
		"GET / HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\r\n", &cors);
	CHECK_STR(field(&cors, "Access-Control-Allow-Origin"), "https://a.example");
	CHECK_STR(field(&cors, "Access-Control-Allow-Credentials"), "true");
	CHECK_STR(field(&cors, "Vary"), "Origin");
	CHECK(strstr(field(&cors, "Access-Control-Expose-Headers"), "X-Request-Id") != NULL);
	CHECK_STR(field(&cors, "Access-Control-Allow-Methods"), "");
}

static void
other_origins_get_nothing(void)
{
	static const char *const others[] = {"https://a.example.evil",
										 "https://a.exampl",
										 "http://a.example",
										 "https://a.example:444",
										 "https://A.example",
										 "null",
										 "",
										 "https://a.example https://b"};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		char text[200];
		A67Cors cors;

		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: h\r\nOrigin: %s\r\n\r\n", others[i]);
		ask("https://a.example", text, &cors);
		CHECK_STR(field(&cors, "Access-Control-Allow-Origin"), "");
		CHECK_STR(field(&cors, "Access-Control-Allow-Credentials"), "");
		CHECK_STR(field(&cors, "Vary"), "Origin");
	}
}

static void
any_origin_without_credentials(void)
{
	A67Cors cors;

	ask("*", "GET / HTTP/1.1\r\nHost: h\r\nOrigin: null\r\n\r\n", &cors);
	CHECK_STR(field(&cors, "Access-Control-Allow-Origin"), "*");
	CHECK_STR(field(&cors, "Access-Control-Allow-Credentials"), "");
	CHECK_STR(field(&cors, "Vary"), "");
	ask("*", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", &cors);
	CHECK(cors.fields[0].name == NULL);
}

static void
preflight(void)
{
	A67Cors cors;

	ask("https://a.example",
		"OPTIONS / HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n"
		"Access-Control-Request-Method: POST\r\n\r\n",
		&cors);
	CHECK(cors.preflight);
	CHECK_STR(field(&cors, "Access-Control-Allow-Methods"), ALLOW);
	CHECK(strstr(field(&cors, "Access-Control-Allow-Headers"), "Authorization") != NULL);
	CHECK(strstr(field(&cors, "Access-Control-Allow-Headers"), "Content-Type") != NULL);
	CHECK_STR(field(&cors, "Access-Control-Max-Age"), "600");
	ask("https://a.example",
		"OPTIONS / HTTP/1.1\r\nHost: h\r\nOrigin: https://b.example\r\n"
		"Access-Control-Request-Method: POST\r\n\r\n",
		&cors);
	CHECK(!cors.preflight);
	CHECK_STR(field(&cors, "Access-Control-Allow-Methods"), "");
	ask("*", "OPTIONS / HTTP/1.1\r\nHost: h\r\nOrigin: https://b.example\r\n\r\n", &cors);
	CHECK(!cors.preflight);
}

static void
an_endless_origin_is_none(void)
{
	char text[A67_CORS_ORIGIN_BYTES + 200];
	char origin[A67_CORS_ORIGIN_BYTES + 1];
	A67Cors cors;

	memset(origin, 'a', sizeof(origin) - 1);
	origin[sizeof(origin) - 1] = '\0';
	snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: h\r\nOrigin: %s\r\n\r\n", origin);
	ask("*", text, &cors);
	CHECK(cors.fields[0].name == NULL);
}

static void
lists(void)
{
	static const char *const good[] = {"", "*", "https://a.example",
									   "http://localhost:3000, https://a.example",
									   "https://[2001:db8::1]:8443"};
	static const char *const bad[] = {"a.example",			 "https://",
									  "https://a.example/",	 "https://a.example/path",
									  "https://A.example",	 "*, https://a.example",
									  "ftp://a.example",	 "https://*.example",
									  "https://u@a.example", "null"};
	char many[A67_CORS_ORIGINS * 12 + 40] = "";
	char err[256];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(a67_cors_origins_ok(good[i], err, sizeof(err)));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		err[0] = '\0';
		CHECK(!a67_cors_origins_ok(bad[i], err, sizeof(err)));
		CHECK(strstr(err, "is not an origin") != NULL);
	}
	for (int i = 0; i <= A67_CORS_ORIGINS; i++)
		strncat(many, "http://a.b,", sizeof(many) - strlen(many) - 1);
	CHECK(!a67_cors_origins_ok(many, err, sizeof(err)));
	CHECK(strstr(err, "more than 64") != NULL);
}

UNIT_MAIN("http_cors", UNIT(no_origins), UNIT(listed_origin), UNIT(other_origins_get_nothing),
		  UNIT(any_origin_without_credentials), UNIT(preflight), UNIT(an_endless_origin_is_none),
		  UNIT(lists));
