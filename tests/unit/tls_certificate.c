#include "tls_certificate.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static void add_extension(X509 *certificate, int number, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, number, value);
	cr_assert(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
	X509_EXTENSION_free(extension);
}

void tls_certificate_make(const char *common_name, const char *certificate_path, const char *key_path)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	cr_assert(key != NULL && certificate != NULL);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_set_pubkey(certificate, key);
	X509_NAME *name = X509_get_subject_name(certificate);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0);
	X509_set_issuer_name(certificate, name);
	add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
	add_extension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
	cr_assert(X509_sign(certificate, key, EVP_sha256()) > 0);

	FILE *file = fopen(certificate_path, "w");
	cr_assert(file != NULL && PEM_write_X509(file, certificate) == 1 && fclose(file) == 0);
	file = fopen(key_path, "w");
	cr_assert(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(file) == 0);
	cr_assert(chmod(key_path, 0600) == 0);
	X509_free(certificate);
	EVP_PKEY_free(key);
}
