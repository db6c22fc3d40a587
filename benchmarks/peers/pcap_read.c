/* Read the frames of a capture and do nothing with them: pcap_read libpcap|read FILE
 *
 * The lower bounds of any monitor. libpcap: its own loop. read: read(2) into one reused buffer and a
 * walk over the record headers of a little-endian pcap file. */
#include <fcntl.h>
#include <pcap.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"

enum { FILE_HEADER = 24, RECORD_HEADER = 16, BUFFER_SIZE = 1 << 20 };

static void on_frame(u_char *context, const struct pcap_pkthdr *header, const u_char *frame)
{
    struct result *totals = (struct result *)context;

    (void)header, (void)frame;
    totals->frames++;
}

static bool through_libpcap(const char *path, struct result *totals)
{
    char error[PCAP_ERRBUF_SIZE];
    pcap_t *capture = pcap_open_offline(path, error);
    int status;

    if (!capture) {
        fprintf(stderr, "%s\n", error);
        return false;
    }
    status = pcap_loop(capture, -1, on_frame, (u_char *)totals);
    pcap_close(capture);
    return status == 0;
}

/* Count the whole records in the buffer; return how many bytes they take. */
static size_t walk_records(const uint8_t *buffer, size_t size, struct result *totals)
{
    size_t offset = 0;
    uint32_t length;

    while (size - offset >= RECORD_HEADER) {
        memcpy(&length, buffer + offset + 8, sizeof length);
        if (size - offset - RECORD_HEADER < length)
            break;
        totals->frames++;
        offset += RECORD_HEADER + length;
    }
    return offset;
}

static bool through_read(const char *path, struct result *totals)
{
    static uint8_t buffer[BUFFER_SIZE];
    const uint8_t magic[4] = {0xd4, 0xc3, 0xb2, 0xa1};
    int file = open(path, O_RDONLY);
    size_t held = 0, done;
    ssize_t got;

    if (file < 0 || read(file, buffer, FILE_HEADER) != FILE_HEADER || memcmp(buffer, magic, sizeof magic)) {
        fprintf(stderr, "%s: not a little-endian pcap file\n", path);
        return false;
    }
    while ((got = read(file, buffer + held, BUFFER_SIZE - held)) > 0) {
        held += (size_t)got;
        done = walk_records(buffer, held, totals);
        held -= done;
        memmove(buffer, buffer + done, held);
    }
    close(file);
    return held == 0;
}

int main(int argc, char **argv)
{
    struct result totals = {0};
    double start = monotonic_seconds();
    bool done;

    if (argc == 3 && !strcmp(argv[1], "libpcap"))
        done = through_libpcap(argv[2], &totals);
    else if (argc == 3 && !strcmp(argv[1], "read"))
        done = through_read(argv[2], &totals);
    else {
        fprintf(stderr, "usage: %s libpcap|read FILE\n", argv[0]);
        return 2;
    }
    print_result(&totals, monotonic_seconds() - start);
    return !done;
}
