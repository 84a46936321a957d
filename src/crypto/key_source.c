/*
 * key_source.c - runs the command, reads the file, derives keys from passphrases.
 *
 * What a command prints passes through one buffer that is wiped; its standard error goes to the server log as
 * that of any program. No text that a source gave is ever put into a message.
 */
#include "postgres.h"

#include "crypto/key_source.h"

#include <sodium.h>
#include <unistd.h>

#include "common/string.h"
#include "port.h"
#include "storage/fd.h"

#include "crypto/guarded.h"
#include "crypto/master_key.h"
#include "platform/settings.h"

#define OUTPUT_MAX 1024

static const char *const names[] = {
	[A67_KEY_FROM_ENVIRONMENT] = "environment",
	[A67_KEY_FROM_COMMAND] = "command",
	[A67_KEY_FROM_FILE] = "file",
	[A67_KEY_FROM_PASSPHRASE] = "passphrase",
	[A67_KEY_GIVEN] = "given",
};

const char *
a67_key_source_name(A67KeySource source)
{
	return names[source];
}

/* Reads to the end of the output, keeping at most size bytes; more than that, or an error, is -1. */
static ssize_t
read_output(int fd, char *out, size_t size)
{
	char rest[256];
	size_t len = 0;
	bool good = true;

	for (;;)
	{
		char *to = len < size ? out + len : rest;
		ssize_t count = read(fd, to, len < size ? size - len : sizeof(rest));

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
		{
			good = good && count == 0;
			break;
		}
		if (to == rest)
			good = false;
		else
			len += (size_t) count;
	}
	sodium_memzero(rest, sizeof(rest));
	return good ? (ssize_t) len : -1;
}

static void
run_command(A67KeyList *list, char why[A67_KEY_WHY_SIZE])
{
	char output[OUTPUT_MAX];
	ssize_t len;
	bool good;
	int status;
	FILE *pipe = OpenPipeStream(a67_master_key_command, "r");

	if (pipe == NULL)
	{
		snprintf(why, A67_KEY_WHY_SIZE, "The master key command could not be started: %s.",
				 strerror(errno));
		return;
	}
	/* Not through stdio, whose buffer nobody wipes. */
	len = read_output(fileno(pipe), output, sizeof(output));
	status = ClosePipeStream(pipe);
	good = status == 0 && len > 0 &&
		   a67_key_list_parse(list, output, (size_t) len, A67_KEY_FROM_COMMAND);
	sodium_memzero(output, sizeof(output));
	if (status != 0)
	{
		char *reason = status == -1 ? pstrdup(strerror(errno)) : wait_result_to_str(status);

		snprintf(why, A67_KEY_WHY_SIZE, "The master key command failed: %s.", reason);
		pfree(reason);
	}
	else if (!good)
		strlcpy(why, "The master key command must print one to four times 64 hexadecimal digits.",
				A67_KEY_WHY_SIZE);
}

void
a67_key_sources_read(A67KeyList *list, char why[A67_KEY_WHY_SIZE])
{
	char file_why[A67_KEY_WHY_SIZE] = "";

	why[0] = '\0';
	a67_secret_process();
	a67_environment_keys_list(list);
	if (a67_master_key_command[0] != '\0')
		run_command(list, why);
	if (a67_key_file_read(list, file_why) == A67_KEY_FILE_REFUSED && why[0] == '\0')
		strlcpy(why, file_why, A67_KEY_WHY_SIZE);
}

void
a67_key_derive(A67KeyList *list, const char *passphrase, Size len, const A67Kdf *kdf)
{
	uint8 key[A67_VAULT_KEY_BYTES];
	bool good = crypto_pwhash(key, sizeof(key), passphrase, len, kdf->salt,
							  (unsigned long long) kdf->iterations, (size_t) kdf->memory_kb * 1024,
							  crypto_pwhash_ALG_ARGON2ID13) == 0;

	StaticAssertStmt(A67_KDF_SALT_BYTES == crypto_pwhash_SALTBYTES, "size of the salt");
	if (good)
		(void) a67_key_list_add(list, key, A67_KEY_FROM_PASSPHRASE);
	sodium_memzero(key, sizeof(key));
	if (!good)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("Deriving a key takes %d kB.", kdf->memory_kb)));
}
