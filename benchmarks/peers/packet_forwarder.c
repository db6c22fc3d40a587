/* Forward frames between two interfaces and look at none: packet_forwarder [ring|small|messages] FIRST SECOND
 *
 * ring      TPACKET_V2 rings with room for a super-segment in each slot, frames sent from there by sendmmsg: the
 *           lower bound of any bridge made of packet sockets, and the fastest of these ways.
 * small     The same with slots of 2 KiB: what is longer is received by itself.
 * messages  recvmmsg and sendmmsg.
 *
 * Super-segments and partial checksums pass whole (PACKET_VNET_HDR). VLAN tags that the kernel takes out are not put
 * back. Prints "ready", and at SIGINT one JSON line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

enum {
    BLOCK_SIZE = 1 << 20,
    LARGE_SLOT = 69904, /* 15 to the block */
    LARGE_BLOCKS = 137,
    SMALL_SLOT = 2048,
    SMALL_BLOCKS = 8,
    HEADER = sizeof(struct virtio_net_hdr),
    LONGEST = HEADER + 65536 + 18,
    BATCH = 128,
    SEND_BUFFER = 16 << 20,
};

struct port {
    int fd;
    uint8_t *ring; /* NULL: without one */
    size_t slot;
    unsigned slots, next;
};

static volatile sig_atomic_t stopped;
static uint64_t sent, unsent;
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static uint8_t room[BATCH][LONGEST];

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static void check(int failed, const char *what)
{
    if (failed) {
        perror(what);
        exit(1);
    }
}

static void set(int fd, int level, int option, int value, const char *what)
{
    check(setsockopt(fd, level, option, &value, sizeof value), what);
}

static void make_ring(struct port *port, size_t slot, unsigned blocks)
{
    struct tpacket_req request = {.tp_block_size = BLOCK_SIZE, .tp_block_nr = blocks, .tp_frame_size = (unsigned)slot,
                                  .tp_frame_nr = (unsigned)(BLOCK_SIZE / slot * blocks)};

    set(port->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2, "PACKET_VERSION");
    if (slot < LONGEST)
        set(port->fd, SOL_PACKET, PACKET_COPY_THRESH, 1, "PACKET_COPY_THRESH");
    check(setsockopt(port->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request), "PACKET_RX_RING");
    port->ring = mmap(NULL, (size_t)BLOCK_SIZE * blocks, PROT_READ | PROT_WRITE, MAP_SHARED, port->fd, 0);
    check(port->ring == MAP_FAILED, "mmap");
    port->slot = slot;
    port->slots = request.tp_frame_nr;
}

static struct port open_port(const char *interface, const char *way)
{
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                .sll_ifindex = (int)if_nametoindex(interface)};
    struct packet_mreq promiscuous = {.mr_ifindex = place.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    struct port port = {.fd = socket(AF_PACKET, SOCK_RAW, 0)};

    check(port.fd < 0, "socket");
    set(port.fd, SOL_PACKET, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
    set(port.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
    set(port.fd, SOL_SOCKET, SO_RCVBUFFORCE, SEND_BUFFER, "SO_RCVBUFFORCE");
    set(port.fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER, "SO_SNDBUFFORCE");
    if (!strcmp(way, "ring"))
        make_ring(&port, LARGE_SLOT, LARGE_BLOCKS);
    else if (!strcmp(way, "small"))
        make_ring(&port, SMALL_SLOT, SMALL_BLOCKS);
    check(bind(port.fd, (struct sockaddr *)&place, sizeof place), interface);
    check(setsockopt(port.fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous), interface);
    return port;
}

static void send_parts(int fd, int count)
{
    int done = 0;

    while (done < count) {
        int taken = sendmmsg(fd, messages + done, (unsigned)(count - done), MSG_DONTWAIT);
        sent += taken > 0 ? (uint64_t)taken : 0;
        unsent += taken <= 0;
        done += taken > 0 ? taken : 1;
    }
}

static struct tpacket2_hdr *slot_at(const struct port *port, unsigned number)
{
    unsigned in_block = (unsigned)(BLOCK_SIZE / port->slot);

    return (struct tpacket2_hdr *)(port->ring + (size_t)(number / in_block) * BLOCK_SIZE +
                                   number % in_block * port->slot);
}

static void forward_ring(struct port *from, int to)
{
    unsigned first = from->next;
    int count = 0;

    while (count < BATCH) {
        struct tpacket2_hdr *slot = slot_at(from, from->next);
        unsigned status = __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
        if (!(status & TP_STATUS_USER))
            break;
        parts[count].iov_base = (uint8_t *)slot + slot->tp_mac - HEADER;
        parts[count].iov_len = slot->tp_snaplen + HEADER;
        if (status & TP_STATUS_COPY) {
            ssize_t size = recv(from->fd, room[count], LONGEST, MSG_DONTWAIT);
            parts[count].iov_base = room[count];
            parts[count].iov_len = size > 0 ? (size_t)size : 0;
        }
        count++;
        from->next = (from->next + 1) % from->slots;
    }
    send_parts(to, count);
    for (int i = 0; i < count; i++)
        __atomic_store_n(&slot_at(from, (first + (unsigned)i) % from->slots)->tp_status, TP_STATUS_KERNEL,
                         __ATOMIC_RELEASE);
}

static void forward_messages(int from, int to)
{
    int count;

    for (int i = 0; i < BATCH; i++) {
        parts[i].iov_base = room[i];
        parts[i].iov_len = LONGEST;
    }
    count = recvmmsg(from, messages, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++)
        parts[i].iov_len = messages[i].msg_len;
    send_parts(to, count);
}

int main(int argc, char **argv)
{
    const char *way = argc == 4 ? argv[1] : "";
    struct port ports[2];
    struct pollfd waiting[2];

    if (strcmp(way, "ring") && strcmp(way, "small") && strcmp(way, "messages")) {
        fprintf(stderr, "usage: %s ring|small|messages FIRST SECOND\n", argv[0]);
        return 2;
    }
    for (int i = 0; i < 2; i++) {
        ports[i] = open_port(argv[2 + i], way);
        waiting[i] = (struct pollfd){.fd = ports[i].fd, .events = POLLIN};
    }
    for (int i = 0; i < BATCH; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    puts("ready");
    fflush(stdout);
    while (!stopped) {
        if (poll(waiting, 2, -1) < 0)
            continue;
        for (int i = 0; i < 2; i++) {
            if (!waiting[i].revents)
                continue;
            if (ports[i].ring)
                forward_ring(&ports[i], ports[!i].fd);
            else
                forward_messages(ports[i].fd, ports[!i].fd);
        }
    }
    printf("{\"sent\":%" PRIu64 ",\"unsent\":%" PRIu64 "}\n", sent, unsent);
    return 0;
}
