/*
 * tls_certificate: a key and a certificate for tests, made here.
 *
 * Owns nothing: they are files at the caller's paths.
 */
#ifndef IRONWALD_TLS_CERTIFICATE_H
#define IRONWALD_TLS_CERTIFICATE_H

/* One that signs itself, for localhost and 127.0.0.1, under this common name; valid for a day. The files are PEM. */
void tls_certificate_make(const char *common_name, const char *certificate_path, const char *key_path);

#endif
