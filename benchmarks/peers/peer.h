/* What every native peer shares: the clock, the reading of payload, and the line of results. */
#ifndef AIOMOS_PEER_H
#define AIOMOS_PEER_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct result {
    uint64_t frames;   /* frames handed to the library's user */
    uint64_t flows;    /* TCP connections followed from their SYN */
    uint64_t bytes;    /* stream bytes delivered */
    uint64_t newlines; /* of those, how many are '\n': proof that each byte was read */
    uint64_t aborted;  /* connections the library gave up */
};

static inline double monotonic_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Read every byte with memchr, the same routine that serves bytes.count() in Python. */
static inline void read_payload(struct result *result, const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size;

    result->bytes += size;
    while (data < end && (data = (const uint8_t *)memchr(data, '\n', (size_t)(end - data)))) {
        result->newlines++;
        data++;
    }
}

static inline void print_result(const struct result *result, double seconds)
{
    printf("{\"frames\":%" PRIu64 ",\"flows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"newlines\":%" PRIu64
           ",\"aborted\":%" PRIu64 ",\"seconds\":%.6f}\n",
           result->frames, result->flows, result->bytes, result->newlines, result->aborted, seconds);
}

#endif
