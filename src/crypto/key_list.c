/*
 * key_list.c - parses and keeps the keys that sources give.  See key_list.h.
 *
 * Key material is written into the list's own memory at once and nowhere else.
 */
#include "crypto/key_list.h"

#include <sodium.h>
#include <string.h>

#include "core/encode.h"

#define SEPARATORS " \t\r\n,;"

A67KeyList *
a67_key_list_make(void)
{
	A67KeyList *list = sodium_malloc(sizeof(*list));

	if (list != NULL)
		sodium_memzero(list, sizeof(*list));
	return list;
}

void
a67_key_list_free(A67KeyList *list)
{
	sodium_free(list);
}

const A67SourcedKey *
a67_key_list_find(const A67KeyList *list, const uint8_t id[A67_KEY_ID_BYTES])
{
	for (uint32_t i = 0; i < list->count; i++)
	{
		if (memcmp(list->keys[i].key.id, id, A67_KEY_ID_BYTES) == 0)
			return &list->keys[i];
	}
	return NULL;
}

/* Names the key that stands behind the last one and takes it in, unless it is known. */
static void
take_last(A67KeyList *list, A67KeySource source)
{
	A67SourcedKey *fresh = &list->keys[list->count];

	fresh->source = source;
	a67_master_key_name(&fresh->key);
	if (a67_key_list_find(list, fresh->key.id) == NULL)
		list->count++;
	else
		sodium_memzero(fresh, sizeof(*fresh));
}

bool
a67_key_list_add(A67KeyList *list, const uint8_t key[A67_VAULT_KEY_BYTES], A67KeySource source)
{
	if (list->count == A67_KEY_LIST_MAX)
		return false;
	memcpy(list->keys[list->count].key.key, key, A67_VAULT_KEY_BYTES);
	take_last(list, source);
	return true;
}

bool
a67_key_list_parse(A67KeyList *list, const char *text, size_t len, A67KeySource source)
{
	uint32_t before = list->count;
	uint32_t seen = 0;
	size_t at = 0;

	while (at < len)
	{
		if (strchr(SEPARATORS, text[at]) != NULL && text[at] != '\0')
		{
			at++;
			continue;
		}
		if (seen == A67_KEYS_MAX || list->count == A67_KEY_LIST_MAX ||
			len - at < A67_KEY_TEXT_SIZE ||
			!a67_hex_decode(text + at, A67_KEY_TEXT_SIZE, list->keys[list->count].key.key,
							A67_VAULT_KEY_BYTES))
			break;
		at += A67_KEY_TEXT_SIZE;
		if (at < len && (text[at] == '\0' || strchr(SEPARATORS, text[at]) == NULL))
			break;
		take_last(list, source);
		seen++;
	}
	if (at == len && seen > 0)
		return true;
	sodium_memzero(&list->keys[before], sizeof(list->keys[0]) * (A67_KEY_LIST_MAX - before));
	list->count = before;
	return false;
}
