/* Put the frames of a capture on an interface: live_send INTERFACE RATE FILE
 *
 * RATE is in packets a second; 0 is as fast as they go. Frames are sent as they are, past the queueing discipline,
 * and none is left out: what the interface does not take at once is sent again. The times in the capture do not
 * count. Prints one JSON line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "peer.h"

enum { FILE_HEADER = 24, RECORD_HEADER = 16, BATCH = 32 };

static int open_sender(const char *interface)
{
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface)};
    int sender = socket(AF_PACKET, SOCK_RAW, 0), on = 1;

    if (sender < 0 || bind(sender, (struct sockaddr *)&place, sizeof place) ||
        setsockopt(sender, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on)) {
        perror(interface);
        exit(1);
    }
    return sender;
}

/* Map a little-endian pcap file, with all of its pages in memory before the clock starts. */
static const uint8_t *map_capture(const char *path, size_t *size)
{
    const uint8_t magic[4] = {0xd4, 0xc3, 0xb2, 0xa1};
    int file = open(path, O_RDONLY);
    struct stat about;
    void *bytes;

    if (file < 0 || fstat(file, &about) ||
        (bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0)) == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    if (about.st_size < FILE_HEADER || memcmp(bytes, magic, sizeof magic)) {
        fprintf(stderr, "%s: not a little-endian pcap file\n", path);
        exit(1);
    }
    *size = (size_t)about.st_size;
    return (const uint8_t *)bytes;
}

static void send_all(int sender, struct mmsghdr *messages, unsigned count)
{
    unsigned done = 0;

    while (done < count) {
        int sent = sendmmsg(sender, messages + done, count - done, 0);
        if (sent > 0)
            done += (unsigned)sent;
        else if (errno == EMSGSIZE) { /* longer than the MTU: a super-segment that somebody captured */
            fprintf(stderr, "a frame of %zu bytes is too long for the interface\n", messages[done].msg_hdr.msg_iov->iov_len);
            exit(1);
        } else if (errno != ENOBUFS && errno != EAGAIN) {
            perror("sendmmsg");
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec frames[BATCH];
    const uint8_t *bytes;
    size_t size, offset = FILE_HEADER;
    uint64_t sent = 0, sent_bytes = 0;
    double start, rate;
    int sender;

    if (argc != 4) {
        fprintf(stderr, "usage: %s INTERFACE RATE FILE\n", argv[0]);
        return 2;
    }
    sender = open_sender(argv[1]);
    rate = atof(argv[2]);
    bytes = map_capture(argv[3], &size);
    start = monotonic_seconds();
    while (size - offset >= RECORD_HEADER) {
        unsigned count = 0;
        while (count < BATCH && size - offset >= RECORD_HEADER) {
            uint32_t length;
            memcpy(&length, bytes + offset + 8, sizeof length);
            frames[count].iov_base = (void *)(bytes + offset + RECORD_HEADER);
            frames[count].iov_len = length;
            messages[count].msg_hdr.msg_iov = &frames[count];
            messages[count].msg_hdr.msg_iovlen = 1;
            offset += RECORD_HEADER + length;
            sent_bytes += length;
            count++;
        }
        while (rate > 0 && (double)sent > (monotonic_seconds() - start) * rate)
            ;
        send_all(sender, messages, count);
        sent += count;
    }
    printf("{\"frames\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"seconds\":%.6f}\n", sent, sent_bytes,
           monotonic_seconds() - start);
    return 0;
}
