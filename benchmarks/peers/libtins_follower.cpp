/* Follow the TCP streams of a capture with libtins: libtins_follower callbacks|state FILE
 *
 * callbacks: both directions' data callbacks read every byte.
 * state:     payload is ignored, the nearest libtins has to following connection states alone.
 *
 * The library's idle time-out is set beyond any capture. Its limits of 512 chunks or 3 MiB held out of
 * order, and of 1,024 selectively acknowledged ranges, cannot be changed from outside; a stream that
 * meets one is dropped and counted under "aborted". */
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

#include <tins/tcp_ip/stream_follower.h>
#include <tins/tins.h>

#include "peer.h"

using Tins::TCPIP::Stream;
using Tins::TCPIP::StreamFollower;

namespace {

constexpr std::chrono::hours longer_than_any_capture{24 * 365};

void read_both_directions(Stream& stream, result& totals)
{
    stream.client_data_callback([&totals](Stream& s) {
        read_payload(&totals, s.client_payload().data(), s.client_payload().size());
    });
    stream.server_data_callback([&totals](Stream& s) {
        read_payload(&totals, s.server_payload().data(), s.server_payload().size());
    });
}

void ignore_both_directions(Stream& stream)
{
    stream.ignore_client_data();
    stream.ignore_server_data();
}

void follow(const std::string& path, bool wants_data, result& totals)
{
    StreamFollower follower;
    follower.stream_keep_alive(longer_than_any_capture);
    follower.stream_termination_callback(
        [&totals](Stream&, StreamFollower::TerminationReason) { totals.aborted++; });
    follower.new_stream_callback([&totals, wants_data](Stream& stream) {
        totals.flows++;
        if (wants_data)
            read_both_directions(stream, totals);
        else
            ignore_both_directions(stream);
    });

    Tins::FileSniffer sniffer(path);
    while (Tins::Packet packet = sniffer.next_packet()) {
        totals.frames++;
        try {
            follower.process_packet(packet);
        } catch (const std::exception&) {
            /* A malformed segment; the library's own sniff_loop() passes over these too. */
        }
    }
}

}  // namespace

int main(int argc, char** argv)
{
    const std::string mode = argc == 3 ? argv[1] : "";
    if (mode != "callbacks" && mode != "state") {
        std::fprintf(stderr, "usage: %s callbacks|state FILE\n", argv[0]);
        return 2;
    }
    result totals{};
    const double start = monotonic_seconds();
    try {
        follow(argv[2], mode == "callbacks", totals);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", argv[2], error.what());
        return 1;
    }
    print_result(&totals, monotonic_seconds() - start);
    return 0;
}
