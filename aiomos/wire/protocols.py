"""What is read of link layers, tags and tunnels, and what the rest is called: for the reference, counters and logs.

`READ` is what `docs/reference/wire.md` shows; tests hold it equal to what the readers of `aiomos.wire` do.
"""

import enum
from collections.abc import Mapping

import attrs

__all__ = ["READ", "Layer", "Protocol", "may_hide_flows", "number_name", "unread_name"]


class Layer(enum.IntEnum):
    """By which numbers that goes what is not read, as `aiomos.wire.layers` has them."""

    LINKTYPE = 0
    """Link type of the capture."""
    ETHERTYPE = 1
    """EtherType."""
    SAP = 2
    """Destination and source service access point of 802.2, 8 bits each."""
    SNAP = 3
    """Organisation and protocol of 802.2 with SNAP, 24 and 16 bits."""
    PPP = 4
    """PPP protocol."""
    NLPID = 5
    """Network layer protocol of frame relay and ATM."""
    FAMILY = 6
    """Address family of the capturing host."""
    MPLS = 7
    """First four bits behind a label stack."""
    CONTROL = 8
    """Link type of frames by which the link manages itself."""
    ENCRYPTED = 9
    """What is encrypted."""
    FRAGMENTS = 10
    """Of what there are fragments, which are not put together."""
    PROTOCOL = 11
    """IP protocol."""
    UDP = 12
    """UDP port of a tunnel that is not looked into."""


# --- what is read ---------------------------------------------------------------------------------

ALWAYS = "always"
DECAPSULATE = "`--decapsulate`"


@attrs.frozen
class Protocol:
    """One thing that is read.

    Attributes:
        group: What *number* is a number of, the heading on the page.
        number: Its number; several between commas.
        name: What it is called.
        source: Where its layout is from.
        when: `ALWAYS`, or `DECAPSULATE` where it has IP before it.
    """

    group: str
    number: str
    name: str
    source: str
    when: str = ALWAYS


LINK_TYPES = "Link types"
ETHERTYPES = "EtherTypes"
LLC = "802.2"
PPP_PROTOCOLS = "PPP protocols"

_TCPDUMP = "[tcpdump](https://www.tcpdump.org/linktypes.html)"
_JUNIPER = "tshark, `packet-juniper.c`"


IP_PROTOCOLS = "IP protocols"
GRE_PROTOCOLS = "GRE protocols"
UDP_PORTS = "UDP ports"


def _group(group: str, *rows: tuple[str, str, str], when: str = ALWAYS) -> tuple[Protocol, ...]:
    return tuple(Protocol(group, number, name, source, when) for number, name, source in rows)


READ: tuple[Protocol, ...] = (
    *_group(
        LINK_TYPES,
        ("0", "BSD loopback (NULL)", _TCPDUMP),
        ("1", "Ethernet", "IEEE 802.3"),
        ("6", "Token Ring, with routes", "IEEE 802.5"),
        ("9, 50", "PPP and Cisco HDLC", "RFC 1662"),
        ("10", "FDDI", "ISO 9314-2"),
        ("11, 100", "ATM with 802.2", "RFC 2684"),
        ("12, 14, 101, 228, 229", "IP without a link header", _TCPDUMP),
        ("13, 109", "OpenBSD's encapsulation (ENC)", _TCPDUMP),
        ("51", "PPPoE session", "RFC 2516"),
        ("104", "Cisco HDLC", _TCPDUMP),
        ("105", "802.11, A-MSDUs too", "IEEE 802.11"),
        ("106", "ATM of Linux (CLIP)", _TCPDUMP),
        ("107", "frame relay", "RFC 2427, Cisco"),
        ("108", "OpenBSD's loopback (LOOP)", _TCPDUMP),
        ("113, 276", "Linux cooked capture, versions 1 and 2", _TCPDUMP),
        ("117", "OpenBSD's packet filter (PFLOG)", _TCPDUMP),
        ("119", "802.11 with a Prism or AVS header", _TCPDUMP),
        ("122", "IP over Fibre Channel", "RFC 4338"),
        ("123", "SunATM with 802.2", _TCPDUMP),
        ("127", "802.11 with radiotap", "radiotap.org"),
        ("130, 131", "Juniper: multilink PPP, multilink frame relay", _JUNIPER),
        ("133, 136", "Juniper: GGSN and services, without a link header", _JUNIPER),
        ("135, 137", "Juniper: ATM", _JUNIPER),
        ("138", "IP over IEEE 1394", _TCPDUMP),
        ("149, 258", "PKTAP of macOS; 149 where it looks like one", "xnu, `bsd/net/pktap.h`"),
        ("163", "802.11 with an AVS header", _TCPDUMP),
        ("166", "PPP of Linux's pppd", _TCPDUMP),
        ("167, 178", "Juniper: PPPoE, Ethernet", _JUNIPER),
        ("179", "Juniper: PPP", _JUNIPER),
        ("180", "Juniper: frame relay", _JUNIPER),
        ("181", "Juniper: Cisco HDLC", _JUNIPER),
        ("183", "Juniper: voice", _JUNIPER),
        ("192", "per-packet information (PPI)", _TCPDUMP),
        ("197", "Endace's ERF: Ethernet, IP, packet over SONET", "Endace"),
        ("204", "PPP with a direction", _TCPDUMP),
        ("205", "Cisco HDLC with a direction", _TCPDUMP),
        ("206", "frame relay with a direction", _TCPDUMP),
        ("219", "MPLS", "RFC 3032"),
        ("226", "Solaris IPNET", _TCPDUMP),
        ("239", "NFLOG of Linux's netfilter", _TCPDUMP),
        ("242", "IP over InfiniBand", "RFC 4391"),
        ("281, 282, 284, 285", "Ethernet with the tag of a switch chip (DSA)", "Linux, `net/dsa`"),
    ),
    *_group(
        ETHERTYPES,
        ("below 0x0600", "802.2, its length obeyed; Cisco ISL", "IEEE 802.3"),
        ("0x0800", "IPv4", "RFC 894"),
        ("0x22F3", "TRILL", "RFC 6325"),
        ("0x4305", "batman-adv, unicast", "Linux, `batadv_packet.h`"),
        ("0x6558", "transparent Ethernet bridging", "RFC 1701"),
        ("0x8100, 0x88A8, 0x9100", "VLAN tags, any number", "IEEE 802.1Q"),
        ("0x86DD", "IPv6", "RFC 2464"),
        ("0x8847, 0x8848", "MPLS: IP, and Ethernet with a control word or none", "RFC 3032, 4448"),
        ("0x8864", "PPPoE session, its length obeyed", "RFC 2516"),
        ("0x8870", "802.2 in jumbo frames", "draft-ietf-isis-ext-eth"),
        ("0x88E5", "MACsec without encryption", "IEEE 802.1AE"),
        ("0x88E7", "provider backbone bridge (I-TAG)", "IEEE 802.1ah"),
        ("0x8903", "Cisco FabricPath", "tshark, `packet-cisco-fp-mim.c`"),
        ("0x8909", "Cisco MetaData (security group tag)", "tshark, `packet-cisco-metadata.c`"),
        ("0x8926", "VN-Tag", "tshark, `packet-vntag.c`"),
        ("0x892F", "HSR; a PRP trailer does not matter", "IEC 62439-3"),
        ("0x893F", "E-Tag", "IEEE 802.1BR"),
        ("0x894F", "network service header (NSH)", "RFC 8300"),
        ("0x9200, 0x9300", "VLAN tags of old switches", "DPDK, `rte_ether.h`"),
        ("0xD28B", "Arista's time stamps", "tshark, `packet-arista.c`"),
        ("0xF1C1", "redundancy tag (R-TAG, FRER)", "IEEE 802.1CB"),
    ),
    *_group(
        LLC,
        ("SAP 0x06", "IP", "IEEE 802.2"),
        ("SAP 0xAA, 00-00-00 and 00-00-F8", "SNAP with an EtherType", "RFC 1042, IEEE 802.1H"),
        ("SAP 0xAA, 00-80-C2", "SNAP with an Ethernet frame", "RFC 2684, RFC 2427"),
        ("SAP 0xFE", "NLPID: IPv4, IPv6, SNAP, PPP", "RFC 2427"),
    ),
    *_group(
        PPP_PROTOCOLS,
        ("0x0021, 0x0057", "IPv4, IPv6", "RFC 1332, RFC 5072"),
        ("0x0031", "bridged Ethernet", "RFC 3518"),
        ("0x003D", "multilink, with the long number, of what is in one piece", "RFC 1990"),
        ("0x0281, 0x0283", "MPLS", "RFC 3032"),
    ),
    *_group(
        IP_PROTOCOLS,
        ("0, 43, 44, 60, 135, 139, 140", "extension headers of IPv6, up to 8", "RFC 8200"),
        ("51", "authentication header (AH), of IPv4 as well", "RFC 4302"),
    ),
    *_group(
        IP_PROTOCOLS,
        ("4, 41", "IP in IP, 6in4", "RFC 2003, RFC 4213"),
        ("47", "GRE, with checksum, key, sequence number, source routes", "RFC 2784, 2890, 1701"),
        ("97", "Ethernet (EtherIP)", "RFC 3378"),
        ("115", "L2TPv3: Ethernet with IP in it, behind any cookie and sublayer", "RFC 3931"),
        ("137", "MPLS", "RFC 4023"),
        when=DECAPSULATE,
    ),
    *_group(
        GRE_PROTOCOLS,
        ("0x0800, 0x86DD", "IPv4, IPv6", "RFC 2784"),
        ("0x22EB", "ERSPAN III, with a platform subheader or none", "draft-foschiano-erspan"),
        ("0x6400, version 1", "Ethernet over IP (EoIP), its length obeyed", "MikroTik"),
        ("0x6558", "Ethernet; NVGRE", "RFC 1701, RFC 7637"),
        ("0x6559", "frame relay", "RFC 1701"),
        ("0x8847, 0x8848", "MPLS", "RFC 4023"),
        ("0x880B", "PPP; of version 1 PPTP, its length obeyed", "RFC 2637"),
        ("0x883E", "WCCP, with a redirect header or none", "draft-mclaggan-wccp-v2rev1"),
        ("0x88BE", "ERSPAN I and II", "draft-foschiano-erspan"),
        ("0x894F", "network service header (NSH)", "RFC 8300"),
        when=DECAPSULATE,
    ),
    *_group(
        UDP_PORTS,
        ("1701", "L2TPv2 data with PPP, its length obeyed; L2TPv3 as above", "RFC 2661, RFC 3931"),
        ("2152", "GTP-U: IP, Ethernet with IP in it; its length obeyed", "3GPP TS 29.281"),
        ("3544", "Teredo, with authentication and origin", "RFC 4380"),
        ("4341", "LISP", "RFC 9300"),
        ("4754", "GRE", "RFC 8086"),
        ("4789", "VXLAN; and 8472, or what `vxlan_ports` says", "RFC 7348"),
        ("4790", "VXLAN-GPE: IP, Ethernet, NSH, MPLS", "draft-ietf-nvo3-vxlan-gpe"),
        ("5072", "AYIYA", "draft-massar-v6ops-ayiya"),
        ("5247", "CAPWAP data: Ethernet with IP in it, 802.11", "RFC 5415"),
        ("6081", "Geneve: IP, Ethernet, MPLS, NSH", "RFC 8926"),
        ("6635", "MPLS: IP, Ethernet behind a control word", "RFC 7510"),
        ("37008", "TZSP: Ethernet, 802.11", "tshark, `packet-tzsp.c`"),
        when=DECAPSULATE,
    ),
)
"""In the order of the page."""

# --- what is not ----------------------------------------------------------------------------------

_NAMES: Mapping[Layer, Mapping[int, str]] = {
    Layer.LINKTYPE: {
        2: "exp_ethernet",
        3: "ax25",
        6: "token_ring",
        7: "arcnet",
        8: "slip",
        10: "fddi",
        99: "symantec_firewall",
        104: "chdlc",
        105: "ieee802_11",
        107: "frelay",
        114: "ltalk",
        123: "sunatm",
        129: "arcnet_linux",
        130: "juniper_mlppp",
        131: "juniper_mlfr",
        132: "juniper_es",
        133: "juniper_ggsn",
        134: "juniper_mfr",
        135: "juniper_atm2",
        136: "juniper_services",
        137: "juniper_atm1",
        139: "mtp2_with_phdr",
        140: "mtp2",
        141: "mtp3",
        142: "sccp",
        143: "docsis",
        144: "linux_irda",
        **{number: f"user{number - 147}" for number in range(147, 163)},
        164: "juniper_monitor",
        165: "bacnet_ms_tp",
        167: "juniper_pppoe",
        168: "juniper_pppoe_atm",
        169: "gprs_llc",
        170: "gpf_t",
        171: "gpf_f",
        172: "gcom_t1e1",
        173: "gcom_serial",
        174: "juniper_pic_peer",
        177: "linux_lapd",
        178: "juniper_ether",
        179: "juniper_ppp",
        180: "juniper_frelay",
        181: "juniper_chdlc",
        183: "juniper_vp",
        182: "mfr",
        184: "a653_icm",
        185: "usb_freebsd",
        186: "usb",
        187: "bluetooth_hci_h4",
        188: "ieee802_16_mac_cps",
        189: "usb_linux",
        190: "can20b",
        195: "ieee802_15_4_withfcs",
        196: "sita",
        197: "erf",
        201: "bluetooth_hci_h4_with_phdr",
        202: "ax25_kiss",
        203: "lapd",
        209: "ipmb_linux",
        210: "flexray",
        212: "lin",
        215: "ieee802_15_4_nonask_phy",
        220: "usb_linux_mmapped",
        224: "fc_2",
        225: "fc_2_with_frame_delims",
        227: "can_socketcan",
        230: "ieee802_15_4_nofcs",
        231: "dbus",
        235: "dvb_ci",
        236: "mux27010",
        237: "stanag_5066_d_pdu",
        240: "netanalyzer",
        241: "netanalyzer_transparent",
        243: "mpeg_2_ts",
        244: "ng40",
        245: "nfc_llcp",
        247: "infiniband",
        248: "sctp",
        249: "usbpcap",
        250: "rtac_serial",
        251: "bluetooth_le_ll",
        252: "wireshark_upper_pdu",
        253: "netlink",
        254: "bluetooth_linux_monitor",
        255: "bluetooth_bredr_bb",
        256: "bluetooth_le_ll_with_phdr",
        257: "profibus_dl",
        258: "pktap",
        259: "epon",
        260: "ipmi_hpm_2",
        261: "zwave_r1_r2",
        262: "zwave_r3",
        263: "wattstopper_dlm",
        264: "iso_14443",
        265: "rds",
        266: "usb_darwin",
        268: "sdlc",
        270: "loratap",
        271: "vsock",
        272: "nordic_ble",
        273: "docsis31_xra31",
        274: "ethernet_mpacket",
        275: "displayport_aux",
        277: "sercos_monitor",
        278: "openvizsla",
        279: "ebhscr",
        280: "vpp_dispatch",
        283: "ieee802_15_4_tap",
        286: "elee",
        287: "z_wave_serial",
        288: "usb_2_0",
        289: "atsc_alp",
        290: "etw",
        292: "zboss_ncp",
    },
    Layer.ETHERTYPE: {
        0x0000: "none",
        0x0001: "ieee802_3_raw",
        0x000C: "can",
        0x0806: "arp",
        0x0842: "wake_on_lan",
        0x2000: "cdp",
        0x22EA: "srp",
        0x22F0: "avtp",
        0x22F3: "trill",
        0x22F4: "isis",
        0x4305: "batman_adv",
        0x6002: "dna_rc",
        0x6003: "decnet",
        0x8035: "rarp",
        0x809B: "appletalk",
        0x80F3: "aarp",
        0x8137: "ipx",
        0x8204: "qnx",
        0x8808: "flow_control",
        0x8809: "slow_protocols",
        0x880B: "ppp",
        0x8863: "pppoe_discovery",
        0x8864: "pppoe",
        0x887B: "homeplug",
        0x888E: "eapol",
        0x8892: "profinet",
        0x8899: "realtek",
        0x88A2: "aoe",
        0x88A4: "ethercat",
        0x88AB: "powerlink",
        0x88B5: "experimental_1",
        0x88B6: "experimental_2",
        0x88B7: "oui_extended",
        0x88B8: "goose",
        0x88BA: "sampled_values",
        0x88CC: "lldp",
        0x88CD: "sercos",
        0x88E1: "homeplug_av",
        0x88E3: "mrp",
        0x88F5: "mvrp",
        0x88F6: "mmrp",
        0x88F7: "ptp",
        0x88FB: "prp",
        0x8902: "cfm",
        0x8906: "fcoe",
        0x8909: "cisco_metadata",
        0x8914: "fip",
        0x8915: "roce",
        0x891D: "tte",
        0x894F: "nsh",
        0x9000: "loopback",
        0x9998: "extreme_eaps",
        0xCAFE: "veritas_llt",
        0xD28B: "arista_timestamps",
        0xFEFE: "osi",
    },
    Layer.SAP: {
        0x4242: "stp",
        0xE0E0: "ipx",
        0xF0F0: "netbios",
        0xF0F1: "netbios",
        0xFEFE: "osi",
        0xFFFF: "ipx_raw",
        0x0404: "sna",
        0xAAAA: "snap",
    },
    Layer.SNAP: {
        0x00000C_2000: "cdp",
        0x00000C_2003: "vtp",
        0x00000C_2004: "dtp",
        0x00000C_010B: "pvst",
        0x00000C_010C: "vlan_bridge",
        0x00000C_0111: "udld",
        0x0080C2_000E: "bridged_bpdu",
        0x00E02B_00BB: "extreme_edp",
        0x080007_809B: "appletalk",
        0x000081_01A2: "nortel_discovery",
    },
    Layer.PPP: {
        0x0023: "osi",
        0x002B: "ipx",
        0x002D: "vj_compressed_tcp",
        0x002F: "vj_uncompressed_tcp",
        0x003F: "netbios",
        0x0053: "encrypted",
        0x0059: "mux",
        0x0061: "header_compression_full",
        0x0063: "header_compression_tcp",
        0x00FB: "link_compressed",
        0x00FD: "compressed",
        0x8021: "ipcp",
        0x8023: "osinlcp",
        0x8031: "bcp",
        0x8053: "ecp",
        0x8057: "ipv6cp",
        0x80FD: "ccp",
        0x8281: "mplscp",
        0xC021: "lcp",
        0xC023: "pap",
        0xC025: "lqr",
        0xC223: "chap",
        0xC227: "eap",
    },
    Layer.NLPID: {0x08: "q933", 0x81: "clnp", 0x82: "es_is", 0x83: "is_is", 0xB0: "compression"},
    Layer.FAMILY: {0: "unspecified", 1: "unix", 7: "bridge_or_ns", 16: "appletalk_or_netlink", 17: "packet"},
    Layer.MPLS: {1: "associated_channel"},
    Layer.ENCRYPTED: {0: "ieee802_11", 1: "macsec", 2: "esp"},
    Layer.FRAGMENTS: {0: "ieee802_11", 1: "ppp_multilink", 2: "frame_relay"},
    Layer.PROTOCOL: {
        0: "hop_by_hop",
        2: "igmp",
        4: "ipv4",
        8: "egp",
        9: "igp",
        17: "udp",
        27: "rdp",
        33: "dccp",
        41: "ipv6",
        46: "rsvp",
        47: "gre",
        50: "esp",
        51: "ah",
        55: "mobile",
        58: "icmpv6",
        59: "no_next_header",
        88: "eigrp",
        89: "ospf",
        94: "ipip",
        97: "etherip",
        98: "encap",
        103: "pim",
        108: "ipcomp",
        112: "vrrp",
        115: "l2tp",
        124: "isis",
        132: "sctp",
        133: "fc",
        136: "udplite",
        137: "mpls",
        138: "manet",
        143: "ethernet",
    },
    Layer.UDP: {
        1701: "l2tp",
        2152: "gtp_u",
        3544: "teredo",
        4341: "lisp",
        4754: "gre",
        4789: "vxlan",
        4790: "vxlan_gpe",
        5072: "ayiya",
        5247: "capwap",
        6081: "geneve",
        6635: "mpls",
        37008: "tzsp",
    },
}

_DIGITS = {
    Layer.ETHERTYPE: 4,
    Layer.SAP: 4,
    Layer.SNAP: 10,
    Layer.PPP: 4,
    Layer.NLPID: 2,
}
"""Of the numbers that are written hexadecimally."""

_HIDING: Mapping[Layer, frozenset[int] | None] = {
    Layer.LINKTYPE: None,
    Layer.ENCRYPTED: None,
    Layer.FRAGMENTS: None,
    Layer.PPP: frozenset((0x002D, 0x002F, 0x0053, 0x0059, 0x0061, 0x0063, 0x00FB, 0x00FD)),
    Layer.ETHERTYPE: frozenset((0x880B, 0x894F, 0x22F3, 0x8909, 0xD28B)),
    Layer.PROTOCOL: frozenset((4, 41, 47, 50, 97, 115, 137)),
    Layer.UDP: None,
}
"""What most probably has IP within, by number; None: all."""


def number_name(layer: int, number: int) -> str:
    """Name what is not read: as tcpdump and tshark do, or by its number, such as ``0x88cc``.

    Args:
        layer: A `Layer`.
        number: The number there.
    """
    kind = Layer(layer)
    names = _NAMES[Layer.LINKTYPE if kind is Layer.CONTROL else kind]
    if name := names.get(number):
        return name
    return f"0x{number:0{_DIGITS[kind]}x}" if kind in _DIGITS else str(number)


def unread_name(layer: int, number: int) -> str:
    """Name the counter of what is not read, such as ``unread.ethertype.arp``."""
    return f"unread.{Layer(layer).name.lower()}.{number_name(layer, number)}"


def may_hide_flows(layer: int, number: int) -> bool:
    """Whether connections may be in what is not read."""
    numbers = _HIDING.get(Layer(layer), frozenset())
    return numbers is None or number in numbers
