/*
 * tls_pair.c: loading the pair, and making it; see tls_pair.h.
 *
 * A self-made key is made once and stays: join tokens carry its pin. Its certificate can be made again at
 * any time, for another address or when it nears its end. Of several listeners that start at once one
 * makes what is missing, under a lock, and all serve the same pair. Files are complete before they get
 * their names, and a key is never replaced, so a crash at any moment leaves something to go on from.
 * OpenSSL's objects are freed on every path; nothing here throws.
 */
#include "postgres.h"

#include "listener/tls_pair.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "core/address.h"
#include "core/encode.h"
#include "core/http/client.h"
#include "core/http/tls.h"
#include "platform/settings.h"

#define CERT_FILE	"a67_tls.crt"
#define KEY_FILE	"a67_tls.key"
#define LIFE_S		(3650L * 86400)
#define RENEW_S		(30L * 86400) /* before its end a certificate is made anew */
#define SERIAL_BITS 127

bool
a67_listens_on_loopback(void)
{
	A67Ip ip;

	return a67_ip_parse(a67_listen_address, strlen(a67_listen_address), &ip) &&
		   a67_ip_is_loopback(&ip);
}

bool
a67_tls_wanted(void)
{
	return a67_tls == A67_TLS_ON || (a67_tls == A67_TLS_AUTO && !a67_listens_on_loopback());
}

/* ---- files ------------------------------------------------------------------------------------- */

/* Writes the text to a new file NAME.PID.new, whose path goes to temporary. 0 or errno. */
static int
write_temporary(const char *name, BIO *text, mode_t mode, char temporary[MAXPGPATH])
{
	char *data;
	long len = BIO_get_mem_data(text, &data);
	int failed = 0;
	int fd;

	snprintf(temporary, MAXPGPATH, "%s.%d.new", name, MyProcPid);
	(void) unlink(temporary); /* left by a crashed process that had this pid */
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return errno;
	errno = 0;
	if (write(fd, data, (size_t) len) != len || pg_fsync(fd) != 0)
		failed = errno != 0 ? errno : ENOSPC;
	close(fd);
	if (failed != 0)
		(void) unlink(temporary);
	return failed;
}

/* Gives the text its name: keep leaves a file that is there already. 0 or errno. */
static int
publish_file(const char *name, BIO *text, mode_t mode, bool keep)
{
	char temporary[MAXPGPATH];
	int failed = write_temporary(name, text, mode, temporary);

	if (failed != 0)
		return failed;
	if (keep)
	{
		if (link(temporary, name) != 0 && errno != EEXIST)
			failed = errno;
		(void) unlink(temporary);
	}
	else if (rename(temporary, name) != 0)
	{
		failed = errno;
		(void) unlink(temporary);
	}
	if (failed == 0)
		(void) fsync_fname_ext(".", true, true, LOG);
	return failed;
}

static EVP_PKEY *
read_key(void)
{
	BIO *file = BIO_new_file(KEY_FILE, "r");
	EVP_PKEY *key = file != NULL ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;

	BIO_free(file);
	return key;
}

static X509 *
read_certificate(void)
{
	BIO *file = BIO_new_file(CERT_FILE, "r");
	X509 *certificate = file != NULL ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;

	BIO_free(file);
	return certificate;
}

/* ---- making ------------------------------------------------------------------------------------ */

static bool
make_key(char *err, size_t err_size)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	BIO *text = BIO_new(BIO_s_secmem());
	int failed = ENOMEM;

	if (key != NULL && text != NULL &&
		PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) == 1)
		failed = publish_file(KEY_FILE, text, S_IRUSR | S_IWUSR, true);
	BIO_free(text);
	EVP_PKEY_free(key);
	if (failed == 0)
		return true;
	snprintf(err, err_size, "could not make key file \"%s\": %s", KEY_FILE, strerror(failed));
	return false;
}

/* The host of a67.public_url; "" when there is none. */
static void
public_host(char host[A67_HTTP_HOST_BYTES])
{
	A67HttpUrl url;

	host[0] = '\0';
	if (a67_public_url[0] != '\0' && a67_http_url_parse(a67_public_url, &url) == 0)
		strlcpy(host, url.host, A67_HTTP_HOST_BYTES);
}

/* Adds an address or a host name; an empty one is none. */
static bool
add_name(GENERAL_NAMES *names, const char *text)
{
	GENERAL_NAME *name;
	ASN1_OCTET_STRING *ip;
	ASN1_IA5STRING *host = NULL;

	if (text[0] == '\0')
		return true;
	name = GENERAL_NAME_new();
	ip = a2i_IPADDRESS(text);
	if (ip == NULL)
		host = ASN1_IA5STRING_new();
	if (name != NULL && ip != NULL)
		GENERAL_NAME_set0_value(name, GEN_IPADD, ip);
	else if (name != NULL && host != NULL && ASN1_STRING_set(host, text, -1) == 1)
		GENERAL_NAME_set0_value(name, GEN_DNS, host);
	else
	{
		ASN1_OCTET_STRING_free(ip);
		ASN1_IA5STRING_free(host);
		GENERAL_NAME_free(name);
		return false;
	}
	if (sk_GENERAL_NAME_push(names, name) > 0)
		return true;
	GENERAL_NAME_free(name);
	return false;
}

static bool
add_extensions(X509 *certificate)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	BASIC_CONSTRAINTS *leaf = BASIC_CONSTRAINTS_new();
	char host[A67_HTTP_HOST_BYTES];
	bool ok;

	public_host(host);
	ok = names != NULL && leaf != NULL && add_name(names, "localhost") &&
		 add_name(names, "127.0.0.1") && add_name(names, "::1") &&
		 add_name(names, a67_listen_address) && add_name(names, host) &&
		 X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0) == 1 &&
		 X509_add1_ext_i2d(certificate, NID_basic_constraints, leaf, 1, 0) == 1;
	GENERAL_NAMES_free(names);
	BASIC_CONSTRAINTS_free(leaf);
	return ok;
}

/* Fills in everything and signs. */
static bool
fill_certificate(X509 *certificate, EVP_PKEY *key)
{
	static const unsigned char name[] = "Automator67";
	BIGNUM *serial = BN_new();
	X509_NAME *subject = X509_get_subject_name(certificate);
	bool ok =
		serial != NULL && BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
		BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate)) != NULL &&
		X509_set_version(certificate, X509_VERSION_3) == 1 &&
		/* Clocks of clients may be behind. */
		X509_gmtime_adj(X509_getm_notBefore(certificate), -86400L) != NULL &&
		X509_gmtime_adj(X509_getm_notAfter(certificate), LIFE_S) != NULL &&
		X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, name, -1, -1, 0) == 1 &&
		X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, key) == 1 &&
		add_extensions(certificate) && X509_sign(certificate, key, EVP_sha256()) > 0;

	BN_free(serial);
	return ok;
}

static bool
make_certificate(EVP_PKEY *key, char *err, size_t err_size)
{
	X509 *certificate = X509_new();
	BIO *text = BIO_new(BIO_s_mem());
	int failed = ENOMEM;

	if (certificate != NULL && text != NULL && fill_certificate(certificate, key) &&
		PEM_write_bio_X509(text, certificate) == 1)
		failed = publish_file(CERT_FILE, text, S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH, false);
	BIO_free(text);
	X509_free(certificate);
	if (failed == 0)
		return true;
	snprintf(err, err_size, "could not make certificate file \"%s\": %s", CERT_FILE,
			 strerror(failed));
	return false;
}

/* Whether it is for that key, for the names wanted now, and will be for a while. */
static bool
is_current(X509 *certificate, EVP_PKEY *key)
{
	time_t soon = time(NULL) + RENEW_S;
	char host[A67_HTTP_HOST_BYTES];

	public_host(host);
	return certificate != NULL && X509_check_private_key(certificate, key) == 1 &&
		   X509_cmp_time(X509_get0_notAfter(certificate), &soon) > 0 &&
		   X509_check_ip_asc(certificate, a67_listen_address, 0) == 1 &&
		   (host[0] == '\0' || X509_check_ip_asc(certificate, host, 0) == 1 ||
			X509_check_host(certificate, host, 0, 0, NULL) == 1);
}

/* Makes what is missing of the self-signed pair. */
static bool
make_pair(char *err, size_t err_size)
{
	EVP_PKEY *key;
	X509 *certificate;
	bool ok;

	if (access(KEY_FILE, F_OK) != 0 && errno == ENOENT && !make_key(err, err_size))
		return false;
	key = read_key();
	if (key == NULL)
	{
		snprintf(err, err_size, "could not read key file \"%s\"", KEY_FILE);
		return false;
	}
	certificate = read_certificate();
	ok = is_current(certificate, key) || make_certificate(key, err, err_size);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return ok;
}

/* ---- loading ----------------------------------------------------------------------------------- */

/* Ours and closed to all others, or root's and at most readable by our group. */
static bool
key_is_private(const char *path, char *err, size_t err_size)
{
	struct stat status;
	mode_t open_to;

	if (stat(path, &status) != 0)
	{
		snprintf(err, err_size, "could not open private key file \"%s\": %s", path,
				 strerror(errno));
		return false;
	}
	open_to = status.st_uid == geteuid() ? S_IRWXG | S_IRWXO : S_IWGRP | S_IXGRP | S_IRWXO;
	if (S_ISREG(status.st_mode) && (status.st_uid == geteuid() || status.st_uid == 0) &&
		(status.st_mode & open_to) == 0)
		return true;
	snprintf(err, err_size,
			 "private key file \"%s\" must be a regular file of the server's user, closed to "
			 "all others, or of root",
			 path);
	return false;
}

static bool
load_files(A67TlsPair *pair, const char *certificate, const char *key, char *err, size_t err_size)
{
	char why[256];

	if (!key_is_private(key, err, err_size))
		return false;
	pair->context = a67_tls_server_context(certificate, key, why, sizeof(why));
	if (pair->context == NULL)
		snprintf(err, err_size, "\"%s\", \"%s\": %s", certificate, key, why);
	return pair->context != NULL;
}

static bool
load_self_made(A67TlsPair *pair, char *err, size_t err_size)
{
	uint8_t pin[A67_TLS_PIN_BYTES];

	bool made;

	LWLockAcquire(a67_lock(A67_LOCK_TLS_PAIR), LW_EXCLUSIVE);
	made = make_pair(err, err_size);
	LWLockRelease(a67_lock(A67_LOCK_TLS_PAIR));
	if (!made || !load_files(pair, CERT_FILE, KEY_FILE, err, err_size))
		return false;
	if (a67_tls_file_pin(CERT_FILE, pin) == 0 &&
		a67_base64url_encode(pin, sizeof(pin), pair->pin, sizeof(pair->pin)))
		return true;
	snprintf(err, err_size, "could not read certificate file \"%s\"", CERT_FILE);
	a67_tls_context_free(pair->context);
	return false;
}

bool
a67_tls_pair_load(A67TlsPair *pair, char *err, size_t err_size)
{
	bool certificate = a67_tls_certificate_file[0] != '\0';
	bool key = a67_tls_key_file[0] != '\0';
	bool ok;

	memset(pair, 0, sizeof(*pair));
	if (certificate != key)
	{
		snprintf(err, err_size,
				 "a67.tls_certificate_file and a67.tls_key_file must be set together");
		return false;
	}
	ok = certificate ? load_files(pair, a67_tls_certificate_file, a67_tls_key_file, err, err_size)
					 : load_self_made(pair, err, err_size);
	ERR_clear_error();
	return ok;
}
