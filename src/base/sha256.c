/*
 * sha256.c - SHA-256 through libcrypto, which uses the processor's SHA
 * instructions. A digest that can't be computed comes out as an empty string,
 * which equals no digest.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/base.h"

struct nr_sha256 {
    EVP_MD_CTX *context;
    bool failed;
};

nr_sha256 *nr_sha256_new(void)
{
    nr_sha256 *h = calloc(1, sizeof *h);
    if (!h) return NULL;
    h->context = EVP_MD_CTX_new();
    if (!h->context || EVP_DigestInit_ex(h->context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(h->context);
        free(h);
        return NULL;
    }
    return h;
}

void nr_sha256_add(nr_sha256 *h, const void *data, size_t n)
{
    if (h && n > 0 && EVP_DigestUpdate(h->context, data, n) != 1) h->failed = true;
}

void nr_sha256_hex(nr_sha256 *h, char hex[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    hex[0] = '\0';
    if (!h) return;
    if (!h->failed && EVP_DigestFinal_ex(h->context, digest, &size) == 1 && size == 32) {
        static const char digits[] = "0123456789abcdef";
        for (size_t i = 0; i < 32; i++) {
            hex[2 * i] = digits[digest[i] >> 4];
            hex[2 * i + 1] = digits[digest[i] & 15];
        }
        hex[64] = '\0';
    }
    EVP_MD_CTX_free(h->context);
    free(h);
}
