/*
 * master_key.c - the key pages: who holds which master key, and the wrapping of data keys.
 *
 * Owns the pages. They outlive a crash-restart of the server, unlike the lock that guards them: what a killed
 * process left half-written is told by ids that do not fit their keys, and dropped before anybody looks.
 * All that is done with a key is done in place, so that no process keeps a copy of one.
 */
#include "postgres.h"

#include "crypto/master_key.h"

#include <sodium.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "crypto/guarded.h"

#define VARIABLE	   "A67_MASTER_KEY"
#define FREE_TRIES	   2 /* wrong keys without a delay */
#define DELAY_CAP_MS   (5 * 60 * 1000)
#define STAT_FIELD_ENV 50 /* of /proc/self/stat: env_start, then env_end */

typedef struct KeyPages
{
	uint32 count; /* changed last when keys come, first when they go */
	A67SourcedKey keys[A67_KEYS_MAX];
	uint32 environment_count;
	A67SourcedKey environment[A67_KEYS_MAX];
	bool held;
	int64 failures;
	TimestampTz retry_at;
} KeyPages;

static KeyPages *pages;

/* ---- the environment --------------------------------------------------------------------------- */

/* Where the kernel put the environment of this process when it was started; what /proc/PID/environ shows. */
static bool
find_first_environment(char **start, char **end)
{
	char text[2048];
	unsigned long from;
	unsigned long to;
	char *at;
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t count = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (count <= 0)
		return false;
	text[count] = '\0';
	/* Field 2 is a name in parentheses, which may hold anything. */
	at = strrchr(text, ')');
	for (int field = 2; field < STAT_FIELD_ENV && at != NULL; field++)
		at = strchr(at + 1, ' ');
	if (at == NULL || sscanf(at, "%lu %lu", &from, &to) != 2 || from == 0 || to <= from)
		return false;
	*start = (char *) from;
	*end = (char *) to;
	return true;
}

/* Overwrites the variable where the kernel put it; later copies are environ's. */
static void
wipe_first_environment(void)
{
	char *at;
	char *end;
	size_t name_len = strlen(VARIABLE);

	if (!find_first_environment(&at, &end))
		return;
	while (at < end)
	{
		size_t len = strnlen(at, (size_t) (end - at));

		if (len > name_len && strncmp(at, VARIABLE "=", name_len + 1) == 0)
			sodium_memzero(at + name_len + 1, len - name_len - 1);
		at += len + 1;
	}
}

static void
take_environment(void)
{
	char *value = getenv(VARIABLE);
	A67KeyList *list;
	bool good;

	if (value == NULL)
		return;
	list = a67_key_list_make();
	if (list == NULL)
	{
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		pg_unreachable();
	}
	good = a67_key_list_parse(list, value, strlen(value), A67_KEY_FROM_ENVIRONMENT);
	memcpy(pages->environment, list->keys, sizeof(list->keys[0]) * list->count);
	pages->environment_count = list->count;
	a67_key_list_free(list);
	sodium_memzero(value, strlen(value));
	unsetenv(VARIABLE);
	wipe_first_environment();
	if (!good)
		ereport(WARNING, (errcode(ERRCODE_CONFIG_FILE_ERROR),
						  errmsg("environment variable %s does not hold master keys", VARIABLE),
						  errdetail("It must hold one to four times 64 hexadecimal digits.")));
}

/* ---- life -------------------------------------------------------------------------------------- */

void
a67_master_keys_open(void)
{
	a67_crypto_init();
	pages = a67_guarded_map(sizeof(KeyPages));
	take_environment();
}

static Size
no_size(void)
{
	return 0;
}

/* In the postmaster, before any process that could look: after a crash, drops what is not a whole key. */
static void
check_pages(void)
{
	uint32 good = 0;

	while (good < Min(pages->count, A67_KEYS_MAX))
	{
		A67MasterKey named = pages->keys[good].key;
		bool same;

		a67_master_key_name(&named);
		same = memcmp(named.id, pages->keys[good].key.id, sizeof(named.id)) == 0;
		sodium_memzero(&named, sizeof(named));
		if (!same)
			break;
		good++;
	}
	pages->count = good;
	sodium_memzero(&pages->keys[good], sizeof(pages->keys[0]) * (A67_KEYS_MAX - good));
}

const A67ShmemArea a67_master_keys_area = {no_size, check_pages};

bool
a67_vault_is_sealed(void)
{
	return pages == NULL || *(volatile uint32 *) &pages->count == 0;
}

/* ---- under the lock ---------------------------------------------------------------------------- */

static void
lock_pages(LWLockMode mode)
{
	a67_shared_require();
	LWLockAcquire(a67_lock(A67_LOCK_VAULT), mode);
}

static void
unlock_pages(void)
{
	LWLockRelease(a67_lock(A67_LOCK_VAULT));
}

static int
find_key(const uint8 *id)
{
	for (uint32 i = 0; i < pages->count; i++)
	{
		if (memcmp(pages->keys[i].key.id, id, A67_KEY_ID_BYTES) == 0)
			return (int) i;
	}
	return -1;
}

void
a67_vault_state(A67VaultState *state)
{
	memset(state, 0, sizeof(*state));
	lock_pages(LW_SHARED);
	state->count = pages->count;
	for (uint32 i = 0; i < pages->count; i++)
	{
		memcpy(state->keys[i].id, pages->keys[i].key.id, A67_KEY_ID_BYTES);
		state->keys[i].source = pages->keys[i].source;
	}
	state->held = pages->held;
	state->failures = pages->failures;
	state->retry_at = pages->retry_at;
	unlock_pages();
}

bool
a67_master_key_current(uint8 id[A67_KEY_ID_BYTES])
{
	bool there;

	lock_pages(LW_SHARED);
	there = pages->count > 0;
	if (there)
		memcpy(id, pages->keys[0].key.id, A67_KEY_ID_BYTES);
	unlock_pages();
	return there;
}

bool
a67_master_key_wrap(const uint8 id[A67_KEY_ID_BYTES], const uint8 *data_key, uint8 *sealed)
{
	bool current;

	lock_pages(LW_SHARED);
	current = find_key(id) == 0;
	if (current)
		a67_sealed_wrap(&pages->keys[0].key, data_key, sealed);
	unlock_pages();
	return current;
}

bool
a67_master_key_unwrap(const uint8 *sealed, Size len, uint8 *data_key)
{
	const uint8 *id = a67_sealed_key_id(sealed, len);
	bool good = false;
	int i;

	if (id == NULL)
		return false;
	lock_pages(LW_SHARED);
	i = find_key(id);
	if (i >= 0)
		good = a67_sealed_unwrap(&pages->keys[i].key, sealed, len, data_key);
	unlock_pages();
	return good;
}

static void
list_keys(A67KeyList *list, const A67SourcedKey *keys, const uint32 *count)
{
	lock_pages(LW_SHARED);
	for (uint32 i = 0; i < *count; i++)
		(void) a67_key_list_add(list, keys[i].key.key, keys[i].source);
	unlock_pages();
}

void
a67_master_keys_list(A67KeyList *list)
{
	list_keys(list, pages->keys, &pages->count);
}

void
a67_environment_keys_list(A67KeyList *list)
{
	list_keys(list, pages->environment, &pages->environment_count);
}

void
a67_master_keys_replace(const A67KeyList *list)
{
	Assert(list->count <= A67_KEYS_MAX);
	lock_pages(LW_EXCLUSIVE);
	pages->count = 0;
	pg_write_barrier();
	sodium_memzero(pages->keys, sizeof(pages->keys));
	memcpy(pages->keys, list->keys, sizeof(list->keys[0]) * list->count);
	if (list->count > 0)
	{
		pages->held = false;
		pages->failures = 0;
		pages->retry_at = 0;
	}
	pg_write_barrier();
	pages->count = list->count;
	unlock_pages();
}

bool
a67_master_key_select(const uint8 id[A67_KEY_ID_BYTES])
{
	int i;

	lock_pages(LW_EXCLUSIVE);
	i = find_key(id);
	if (i > 0)
	{
		A67SourcedKey was = pages->keys[0];

		pages->keys[0] = pages->keys[i];
		pages->keys[i] = was;
		sodium_memzero(&was, sizeof(was));
	}
	unlock_pages();
	return i >= 0;
}

void
a67_master_key_forget(const uint8 id[A67_KEY_ID_BYTES])
{
	int i;

	lock_pages(LW_EXCLUSIVE);
	i = find_key(id);
	if (i > 0)
	{
		pages->keys[i] = pages->keys[pages->count - 1];
		sodium_memzero(&pages->keys[pages->count - 1], sizeof(pages->keys[0]));
		pages->count--;
	}
	unlock_pages();
}

void
a67_master_keys_hold(void)
{
	lock_pages(LW_EXCLUSIVE);
	pages->count = 0;
	pages->environment_count = 0;
	sodium_memzero(pages->keys, sizeof(pages->keys));
	sodium_memzero(pages->environment, sizeof(pages->environment));
	pages->held = true;
	unlock_pages();
}

bool
a67_master_key_may_try(void)
{
	bool may;

	lock_pages(LW_SHARED);
	may = pages->retry_at <= GetCurrentTimestamp();
	unlock_pages();
	return may;
}

void
a67_master_key_failed(void)
{
	int64 delay = 0;

	lock_pages(LW_EXCLUSIVE);
	pages->failures++;
	if (pages->failures > FREE_TRIES)
		delay = Min((int64) 1000 << Min(pages->failures - FREE_TRIES - 1, 20), DELAY_CAP_MS);
	pages->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
	unlock_pages();
}
