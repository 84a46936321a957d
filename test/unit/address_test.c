/*
 * address_test.c - addresses, networks, and whose X-Forwarded-For is believed.
 */
#include "core/address.h"

#include "unit.h"

static A67Ip
ip_of(const char *text)
{
	A67Ip ip = {{0}};

	CHECK(a67_ip_parse(text, strlen(text), &ip));
	return ip;
}

static A67Networks
networks_of(const char *text)
{
	A67Networks networks;
	char err[128] = "";

	CHECK(a67_networks_parse(text, &networks, err, sizeof(err)));
	return networks;
}

static void
addresses_read_and_written(void)
{
	static const char *const same[] = {"127.0.0.1", "10.1.2.3", "0.9.10.99",	"100.199.200.255",
									   "::1",		"::",		"2001:db8::1:2"};
	static const char *const bad[] = {
		"",		  "1.2.3", "1.2.3.4.5",	 "256.1.1.1",		  "localhost", "1.2.3.4 ",
		"::1%lo", "[::1]", "1.2.3.4:80", "1:2:3:4:5:6:7:8:9", "01.2.3.4x"};
	char text[A67_IP_TEXT_SIZE];
	A67Ip ip;

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
	{
		ip = ip_of(same[i]);
		a67_ip_text(&ip, text);
		CHECK_STR(text, same[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!a67_ip_parse(bad[i], strlen(bad[i]), &ip));
	CHECK(!a67_ip_parse("1.2.3.4\0x", 9, &ip));
	ip = ip_of("::ffff:1.2.3.4");
	a67_ip_text(&ip, text);
	CHECK_STR(text, "1.2.3.4");
}

static void
loopback(void)
{
	static const char *const yes[] = {"127.0.0.1", "127.255.1.2", "::1", "::ffff:127.0.0.1"};
	static const char *const no[] = {"128.0.0.1", "0.0.0.0", "::", "::2", "7f00::1"};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
	{
		A67Ip ip = ip_of(yes[i]);

		CHECK(a67_ip_is_loopback(&ip));
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
	{
		A67Ip ip = ip_of(no[i]);

		CHECK(!a67_ip_is_loopback(&ip));
	}
}

static void
hosts_that_are_this_machine(void)
{
	static const char *const yes[] = {"127.0.0.1", "127.9.9.9", "::1",
									  "[::1]",	   "localhost", "LocalHost"};
	static const char *const no[] = {"",
									 "127.0.0.1.example.org",
									 "localhost.example.org",
									 "localhos",
									 "[localhost]",
									 "[127.0.0.1",
									 "0.0.0.0",
									 "[::]",
									 "10.0.0.1",
									 "127.0.0.256"};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		CHECK(a67_host_is_loopback(yes[i], strlen(yes[i])));
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		CHECK(!a67_host_is_loopback(no[i], strlen(no[i])));
	CHECK(a67_host_is_loopback("localhost:80", 9));
}

static void
a_site_is_an_address_or_a_64(void)
{
	char text[A67_IP_TEXT_SIZE];
	A67Ip ip = ip_of("2001:db8:1:2:3:4:5:6");
	A67Ip site = a67_ip_site(&ip);

	a67_ip_text(&site, text);
	CHECK_STR(text, "2001:db8:1:2::");
	ip = ip_of("10.1.2.3");
	site = a67_ip_site(&ip);
	a67_ip_text(&site, text);
	CHECK_STR(text, "10.1.2.3");
}

typedef struct Member
{
	const char *networks;
	const char *ip;
	bool in;
} Member;

static void
membership(void)
{
	static const Member members[] = {
		{"", "1.2.3.4", false},
		{"1.2.3.4", "1.2.3.4", true},
		{"1.2.3.4", "1.2.3.5", false},
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.1.2.128/25", "10.1.2.127", false},
		{"10.1.2.128/25", "10.1.2.129", true},
		{"0.0.0.0/0", "9.9.9.9", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "9.9.9.9", true},
		{"2001:db8::/33", "2001:db8:7fff::", true},
		{"2001:db8::/33", "2001:db8:8000::", false},
		{" 10.0.0.0/8 ,, ::1 ", "::1", true},
		{"1.1.1.1 2.2.2.2", "2.2.2.2", true},
		{"10.0.0.0/8", "::ffff:10.0.0.1", true},
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
	{
		A67Networks networks = networks_of(members[i].networks);
		A67Ip ip = ip_of(members[i].ip);

		if (a67_networks_contain(&networks, &ip) != members[i].in)
			printf("# %s in \"%s\"\n", members[i].ip, members[i].networks);
		CHECK(a67_networks_contain(&networks, &ip) == members[i].in);
	}
}

static void
bad_networks(void)
{
	static const char *const bad[] = {"10.0.0.0/33", "::/129",		  "10.0.0.0/",	"10.0.0.0/-1",
									  "10.0.0.0/8x", "10.0/8",		  "/8",			"proxy.example",
									  "*",			 "10.0.0.0/0008", "1.2.3.4/1/2"};
	A67Networks networks;
	char many[A67_NETWORKS_MAX * 10 + 20] = "";
	char err[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		err[0] = '\0';
		CHECK(!a67_networks_parse(bad[i], &networks, err, sizeof(err)));
		CHECK(strstr(err, bad[i]) != NULL);
	}
	for (int i = 0; i <= A67_NETWORKS_MAX; i++)
		strncat(many, "10.0.0.1,", sizeof(many) - strlen(many) - 1);
	CHECK(!a67_networks_parse(many, &networks, err, sizeof(err)));
	CHECK(strstr(err, "more than 64") != NULL);
}

typedef struct Walk
{
	const char *trusted;
	const char *peer;
	const char *values[3]; /* as they stand in the request, the last one first */
	const char *client;
} Walk;

static void
forwarded(void)
{
	static const Walk walks[] = {
		/* Nobody is trusted: the peer it is. */
		{"", "9.9.9.9", {"1.1.1.1"}, "9.9.9.9"},
		{"10.0.0.0/8", "9.9.9.9", {"1.1.1.1"}, "9.9.9.9"},
		/* The rightmost hop that is not trusted; what stands left of it is hearsay. */
		{"10.0.0.0/8", "10.0.0.1", {"1.1.1.1"}, "1.1.1.1"},
		{"10.0.0.0/8", "10.0.0.1", {"6.6.6.6, 1.1.1.1"}, "1.1.1.1"},
		{"10.0.0.0/8", "10.0.0.1", {"6.6.6.6, 1.1.1.1, 10.0.0.2"}, "1.1.1.1"},
		{"10.0.0.0/8", "10.0.0.1", {"10.0.0.3", "1.1.1.1, 10.0.0.2", "6.6.6.6"}, "1.1.1.1"},
		/* All of them are proxies: the farthest one. */
		{"10.0.0.0/8", "10.0.0.1", {"10.0.0.4, 10.0.0.3"}, "10.0.0.4"},
		{"10.0.0.0/8", "10.0.0.1", {NULL}, "10.0.0.1"},
		{"10.0.0.0/8", "10.0.0.1", {""}, "10.0.0.1"},
		{"10.0.0.0/8", "10.0.0.1", {" , ,"}, "10.0.0.1"},
		/* A hop that is no address ends the walk. */
		{"10.0.0.0/8", "10.0.0.1", {"1.1.1.1, unknown"}, "10.0.0.1"},
		{"10.0.0.0/8", "10.0.0.1", {"1.1.1.1, _hidden, 10.0.0.2"}, "10.0.0.2"},
		{"10.0.0.0/8", "10.0.0.1", {"[oops"}, "10.0.0.1"},
		/* Forms with ports. */
		{"10.0.0.0/8", "10.0.0.1", {"1.1.1.1:555"}, "1.1.1.1"},
		{"::1", "::1", {"[2001:db8::9]:555"}, "2001:db8::9"},
		{"::1", "::1", {"2001:db8::9"}, "2001:db8::9"},
	};

	for (size_t i = 0; i < sizeof(walks) / sizeof(walks[0]); i++)
	{
		A67Networks trusted = networks_of(walks[i].trusted);
		A67Ip ip = ip_of(walks[i].peer);
		char text[A67_IP_TEXT_SIZE];
		int hops = 0;

		for (int v = 0; v < 3 && walks[i].values[v] != NULL; v++)
			if (!a67_ip_forwarded(&trusted, walks[i].values[v], strlen(walks[i].values[v]), &ip,
								  &hops))
				break;
		a67_ip_text(&ip, text);
		CHECK_STR(text, walks[i].client);
	}
}

static void
endless_proxies_are_not_followed(void)
{
	A67Networks trusted = networks_of("10.0.0.0/8");
	A67Ip ip = ip_of("10.0.0.1");
	char value[2000] = "1.1.1.1";
	int hops = 0;

	for (int i = 0; i < 100; i++)
		strncat(value, ",10.0.0.2", sizeof(value) - strlen(value) - 1);
	CHECK(!a67_ip_forwarded(&trusted, value, strlen(value), &ip, &hops));
	CHECK_INT(hops, A67_HOPS_MAX + 1);
	CHECK(a67_networks_contain(&trusted, &ip));
}

/* Whether each of the addresses, with spaces between them, is that. */
static void
check_public(const char *list, bool wanted)
{
	while (*list != '\0')
	{
		size_t len = strcspn(list, " ");
		A67Ip ip;

		REQUIRE(a67_ip_parse(list, len, &ip));
		if (a67_ip_is_public(&ip) != wanted)
			CHECK_STR(list, wanted ? "public" : "not public");
		list += len + (list[len] == ' ');
	}
}

static void
public_addresses(void)
{
	check_public("1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 "
				 "128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 "
				 "192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255",
				 true);
	check_public("2606:4700::1111 2001:200::1 2a00::1 64:ff9b::8.8.8.8 ::ffff:8.8.8.8", true);
	check_public("0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.255 "
				 "169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 "
				 "192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.9 224.0.0.1 "
				 "239.1.1.1 240.0.0.1 255.255.255.255",
				 false);
	check_public(":: ::1 ::ffff:127.0.0.1 ::ffff:10.1.1.1 ::127.0.0.1 64:ff9b::10.0.0.1 "
				 "64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 3fff::1 fc00::1 "
				 "fd12:3456::1 fe80::1 fec0::1 ff02::1 4000::1",
				 false);
}

UNIT_MAIN("address", UNIT(public_addresses), UNIT(addresses_read_and_written), UNIT(loopback),
		  UNIT(hosts_that_are_this_machine), UNIT(a_site_is_an_address_or_a_64), UNIT(membership),
		  UNIT(bad_networks), UNIT(forwarded), UNIT(endless_proxies_are_not_followed));
