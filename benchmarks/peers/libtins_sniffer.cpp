/* Take the frames of an interface with libtins: libtins_sniffer parse|follow INTERFACE MEBIBYTES
 *
 * parse:  each frame is turned into the library's objects, down to TCP.
 * follow: its stream follower has them, too, with both directions' data callbacks reading every byte.
 *
 * The kernel's buffer is of so many MiB. Prints "ready", and at SIGINT one JSON line. */
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include <pcap.h>
#include <tins/tcp_ip/stream_follower.h>
#include <tins/tins.h>

#include "peer.h"

using Tins::TCPIP::Stream;
using Tins::TCPIP::StreamFollower;

namespace {

Tins::BaseSniffer* running = nullptr;

void stop(int)
{
    running->stop_sniff();
}

void read_both_directions(Stream& stream, result& totals)
{
    totals.flows++;
    stream.client_data_callback([&totals](Stream& s) {
        read_payload(&totals, s.client_payload().data(), s.client_payload().size());
    });
    stream.server_data_callback([&totals](Stream& s) {
        read_payload(&totals, s.server_payload().data(), s.server_payload().size());
    });
}

}  // namespace

int main(int argc, char** argv)
{
    const std::string mode = argc == 4 ? argv[1] : "";
    if (mode != "parse" && mode != "follow") {
        std::fprintf(stderr, "usage: %s parse|follow INTERFACE MEBIBYTES\n", argv[0]);
        return 2;
    }
    Tins::SnifferConfiguration configuration;
    configuration.set_promisc_mode(true);
    configuration.set_snap_len(262144);
    configuration.set_timeout(10);
    configuration.set_buffer_size(static_cast<unsigned>(std::atoi(argv[3])) << 20);
    Tins::Sniffer sniffer(argv[2], configuration);
    result totals{};
    StreamFollower follower;
    follower.stream_keep_alive(std::chrono::hours(24 * 365));
    follower.stream_termination_callback(
        [&totals](Stream&, StreamFollower::TerminationReason) { totals.aborted++; });
    follower.new_stream_callback([&totals](Stream& stream) { read_both_directions(stream, totals); });

    running = &sniffer;
    std::signal(SIGINT, stop);
    std::puts("ready");
    std::fflush(stdout);
    sniffer.sniff_loop([&](Tins::Packet& packet) {
        if (mode == "follow")
            follower.process_packet(packet);
        return true;
    });
    pcap_stat kernel{};
    pcap_stats(sniffer.get_pcap_handle(), &kernel);
    totals.frames = kernel.ps_recv - kernel.ps_drop; /* the loop passes over malformed frames unseen */
    std::printf("{\"frames\":%" PRIu64 ",\"flows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"dropped\":%u}\n", totals.frames,
                totals.flows, totals.bytes, kernel.ps_drop);
    return 0;
}
