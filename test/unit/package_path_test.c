/*
 * package_path_test.c - names and links of packages: their one form, and what leads out.
 */
#include "core/package_path.h"

#include <string.h>

#include "unit.h"

static const char *
form(const char *name)
{
	static char out[A67_PACKAGE_MAX_PATH];

	return a67_package_path(name, out) ? out : "refused";
}

static void
one_form(void)
{
	CHECK_STR(form("a"), "a");
	CHECK_STR(form("./a//b/./c/"), "a/b/c");
	CHECK_STR(form("."), "");
	CHECK_STR(form(""), "");
	CHECK_STR(form("a/..b/...c"), "a/..b/...c");
}

static void
what_leads_out(void)
{
	CHECK_STR(form(NULL), "refused");
	CHECK_STR(form("/a"), "refused");
	CHECK_STR(form(".."), "refused");
	CHECK_STR(form("../a"), "refused");
	CHECK_STR(form("a/../b"), "refused");
	CHECK_STR(form("a/.."), "refused");
}

static void
limits(void)
{
	char name[2 * A67_PACKAGE_MAX_PATH];
	size_t i;

	memset(name, 'x', sizeof(name));
	name[255] = '\0';
	CHECK_STR(form(name), name);
	name[255] = 'x';
	name[256] = '\0';
	CHECK_STR(form(name), "refused");
	for (i = 0; i < A67_PACKAGE_MAX_DEPTH; i++)
		memcpy(name + 2 * i, "d/", 3);
	CHECK(strcmp(form(name), "refused") != 0);
	memcpy(name + 2 * i, "d", 2);
	CHECK_STR(form(name), "refused");
	for (i = 0; i < A67_PACKAGE_MAX_PATH; i++)
		name[i] = i % 200 == 199 ? '/' : 'x';
	name[A67_PACKAGE_MAX_PATH - 1] = '\0';
	CHECK_UINT(strlen(form(name)), A67_PACKAGE_MAX_PATH - 1);
	name[A67_PACKAGE_MAX_PATH - 1] = 'x';
	name[A67_PACKAGE_MAX_PATH] = '\0';
	CHECK_STR(form(name), "refused");
}

static void
links(void)
{
	CHECK(a67_package_link_inside("a/b/link", "../../x"));
	CHECK(a67_package_link_inside("link", "x/y"));
	CHECK(a67_package_link_inside("a/link", ".././x"));
	CHECK(a67_package_link_inside("a/link", "..x"));
	CHECK(!a67_package_link_inside("a/b/link", "../../../x"));
	CHECK(!a67_package_link_inside("link", ".."));
	CHECK(!a67_package_link_inside("a/b/link", "x/../.."));
	CHECK(!a67_package_link_inside("link", "/x"));
	CHECK(!a67_package_link_inside("link", ""));
	CHECK(!a67_package_link_inside("link", NULL));
}

UNIT_MAIN("package_path", UNIT(one_form), UNIT(what_leads_out), UNIT(limits), UNIT(links));
