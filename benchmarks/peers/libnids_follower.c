/* Follow the TCP streams of a capture with libnids: libnids_follower callbacks|state FILE CONNECTIONS
 *
 * callbacks: both directions are collected and every byte is read.
 * state:     connections are followed, nothing is collected.
 *
 * CONNECTIONS is the most the capture has open at once: libnids allots its table once. It verifies
 * IPv4 header checksums whatever one says, and knows no IPv6. */
#include <pcap.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nids.h>

#include "peer.h"

static struct result totals;
static bool wants_data;

static void keep_quiet(int type, int error, struct ip *packet, void *data)
{
    (void)type, (void)error, (void)packet, (void)data;
}

static void on_stream(struct tcp_stream *stream, void **context)
{
    (void)context;
    if (stream->nids_state == NIDS_JUST_EST) {
        totals.flows++;
        stream->client.collect = wants_data;
        stream->server.collect = wants_data;
    } else if (stream->nids_state == NIDS_DATA) {
        const struct half_stream *half =
            stream->client.count_new ? &stream->client : &stream->server;
        read_payload(&totals, (const uint8_t *)half->data, (size_t)half->count_new);
    }
}

static void on_frame(u_char *context, const struct pcap_pkthdr *header, const u_char *frame)
{
    totals.frames++;
    nids_pcap_handler(context, (struct pcap_pkthdr *)header, (u_char *)frame);
}

static void configure(pcap_t *capture, int connections)
{
    static struct nids_chksum_ctl no_checksums = {.action = NIDS_DONT_CHKSUM};

    nids_params.pcap_desc = capture;
    nids_params.n_tcp_streams = connections / 3 * 4 + 4; /* it uses three quarters of what it is told */
    nids_params.scan_num_hosts = 0;                      /* no scan detection */
    nids_params.syslog = keep_quiet;
    nids_register_chksum_ctl(&no_checksums, 1);
}

int main(int argc, char **argv)
{
    char error[PCAP_ERRBUF_SIZE];
    pcap_t *capture;
    double start;
    int status;

    if (argc != 4 || (strcmp(argv[1], "callbacks") && strcmp(argv[1], "state"))) {
        fprintf(stderr, "usage: %s callbacks|state FILE CONNECTIONS\n", argv[0]);
        return 2;
    }
    wants_data = !strcmp(argv[1], "callbacks");
    start = monotonic_seconds();
    capture = pcap_open_offline(argv[2], error);
    if (!capture) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    configure(capture, atoi(argv[3]));
    if (!nids_init()) {
        fprintf(stderr, "%s: %s\n", argv[2], nids_errbuf);
        return 1;
    }
    nids_register_tcp(on_stream);
    status = pcap_loop(capture, -1, on_frame, NULL);
    if (status < 0)
        fprintf(stderr, "%s: %s\n", argv[2], pcap_geterr(capture));
    print_result(&totals, monotonic_seconds() - start);
    return status < 0;
}
