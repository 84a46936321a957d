/*
 * vault.h - sealing of secrets under the master keys that the server holds.
 *
 * sealed.h has the format, master_key.h the keys. The associated text says which value this is, as
 * 'table.column:primary key'; a sealed value moved to another place does not open.
 * Everything throws PT503 while the vault is sealed, and 55000 without the library preloaded. The process
 * becomes one that leaves no core file.
 */
#ifndef A67_VAULT_H
#define A67_VAULT_H

#include "postgres.h"

#include "crypto/guarded.h"
#include "crypto/master_key.h"

#define A67_VAULT_PLAINTEXT_MAX (1024 * 1024)

/*
 * A sealed copy of the bytes, palloc'd. Until the transaction ends, the key it is sealed under cannot be
 * retired (a67_vault_fence).
 */
bytea *a67_vault_seal(const uint8 *plaintext, Size len, const char *associated);

/*
 * The plaintext, palloc'd, its length in *len; the caller wipes it. Anything that is not exactly what
 * a67_vault_seal made with the same text raises one and the same error, without detail.
 */
uint8 *a67_vault_open(const uint8 *sealed, Size sealed_len, const char *associated, Size *len);

/* Whether no other transaction that is still open has sealed anything under this key; none will until this one ends. */
bool a67_vault_fence(const uint8 id[A67_KEY_ID_BYTES]);

/* Raises PT503 if the vault is sealed. */
void a67_vault_require(void);

#endif /* A67_VAULT_H */
