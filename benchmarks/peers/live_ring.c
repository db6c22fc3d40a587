/* Count the frames of an interface and look at none: live_ring INTERFACE BLOCKS
 *
 * A TPACKET_V3 ring of so many blocks of 1 MiB and the least loop over it: the lower bound of any monitor that
 * watches through a packet socket. Prints "ready", and at SIGINT one JSON line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

enum { BLOCK_SIZE = 1 << 20, RETIRE_MS = 10 };

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static uint8_t *open_ring(const char *interface, unsigned blocks, int *watcher)
{
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                .sll_ifindex = (int)if_nametoindex(interface)};
    struct tpacket_req3 ring = {.tp_block_size = BLOCK_SIZE, .tp_block_nr = blocks, .tp_frame_size = BLOCK_SIZE,
                                .tp_frame_nr = blocks, .tp_retire_blk_tov = RETIRE_MS};
    int version = TPACKET_V3;
    void *map;

    *watcher = socket(AF_PACKET, SOCK_RAW, 0);
    if (*watcher < 0 || setsockopt(*watcher, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
        setsockopt(*watcher, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) ||
        (map = mmap(NULL, (size_t)BLOCK_SIZE * blocks, PROT_READ | PROT_WRITE, MAP_SHARED, *watcher, 0)) == MAP_FAILED ||
        bind(*watcher, (struct sockaddr *)&place, sizeof place)) {
        perror(interface);
        exit(1);
    }
    return (uint8_t *)map;
}

static uint64_t count_frames(const struct tpacket_block_desc *block, uint64_t *bytes)
{
    const uint8_t *next = (const uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;
    uint32_t frames = block->hdr.bh1.num_pkts;

    for (uint32_t i = 0; i < frames; i++) {
        const struct tpacket3_hdr *frame = (const struct tpacket3_hdr *)next;
        *bytes += frame->tp_len;
        next += frame->tp_next_offset;
    }
    return frames;
}

int main(int argc, char **argv)
{
    struct tpacket_stats_v3 kernel = {0};
    socklen_t size = sizeof kernel;
    uint64_t frames = 0, bytes = 0;
    unsigned blocks, number = 0;
    struct pollfd waiting = {.events = POLLIN};
    uint8_t *map;

    if (argc != 3) {
        fprintf(stderr, "usage: %s INTERFACE BLOCKS\n", argv[0]);
        return 2;
    }
    blocks = (unsigned)atoi(argv[2]);
    map = open_ring(argv[1], blocks, &waiting.fd);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    puts("ready");
    fflush(stdout);
    while (!stopped) {
        struct tpacket_block_desc *block = (struct tpacket_block_desc *)(map + (size_t)number * BLOCK_SIZE);
        if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
            poll(&waiting, 1, -1);
            continue;
        }
        frames += count_frames(block, &bytes);
        __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        number = (number + 1) % blocks;
    }
    getsockopt(waiting.fd, SOL_PACKET, PACKET_STATISTICS, &kernel, &size);
    printf("{\"frames\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"dropped\":%u}\n", frames, bytes, kernel.tp_drops);
    return 0;
}
