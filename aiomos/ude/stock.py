"""User-defined events that ship with aiomos: kinds of segments, and the protocols that streams begin with.

All run without the interpreter. Those of protocols are raised once a flow, as soon as the bytes that tell it are there;
`App.monitor` takes them as ``start``.
"""

# They are events, and named as events are; each says in its first line when it is raised.
# ruff: noqa: N802

from typing import TYPE_CHECKING

from aiomos.ude import events
from aiomos.ude.events import CONN_NEW_DATA, PKT_IN
from aiomos.ude.user import ude

if TYPE_CHECKING:
    from aiomos.face.packets import Packet
    from aiomos.face.views import Flow

# --- segments -------------------------------------------------------------------------------------


@ude(PKT_IN, native=True)
def SYN(pkt: "Packet") -> object:
    """A SYN that asks for a connection (the paper's MOS_ON_SYN)."""
    return pkt.syn and not pkt.ack_flag


@ude(PKT_IN, native=True)
def SYNACK(pkt: "Packet") -> object:
    """A SYN that answers one."""
    return pkt.syn and pkt.ack_flag


@ude(PKT_IN, native=True)
def FIN(pkt: "Packet") -> object:
    """A segment with FIN."""
    return pkt.fin


@ude(PKT_IN, native=True)
def RST(pkt: "Packet") -> object:
    """A segment with RST, believed or not."""
    return pkt.rst


@ude(PKT_IN, native=True)
def ZERO_WINDOW(pkt: "Packet") -> object:
    """An end has no room left: its window is zero."""
    return pkt.window == 0 and not (pkt.syn or pkt.fin or pkt.rst)


@ude(events.REXMIT, native=True)
def REXMIT(pkt: "Packet") -> object:
    """Data was sent again (the paper's MOS_ON_PKT_RTX); a repeated SYN or FIN alone is none."""
    return pkt.payload_len > 0


# --- protocols ------------------------------------------------------------------------------------


@ude(CONN_NEW_DATA, native=True, once=True)
def HTTP(flow: "Flow") -> object:
    """The server's bytes begin as an HTTP/1 response (the paper's MOS_ON_HTTP)."""
    return flow.server.peek(0, 5) == b"HTTP/"


@ude(CONN_NEW_DATA, native=True, once=True)
def HTTP_REQUEST(flow: "Flow") -> object:
    """The client's bytes begin as an HTTP request: an HTTP/1 method, or the preface of HTTP/2."""
    return flow.client.peek(0, 8).startswith(
        (
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"PUT ",
            b"DELETE ",
            b"OPTIONS ",
            b"PATCH ",
            b"CONNECT ",
            b"TRACE ",
            b"PRI * HT",
        )
    )


@ude(CONN_NEW_DATA, native=True, once=True)
def TLS(flow: "Flow") -> object:
    """The client's bytes begin with a TLS ClientHello (RFC 8446, section 4.1.2)."""
    hello = flow.client.peek(0, 6)
    return hello[:2] == b"\x16\x03" and hello[5:] == b"\x01"


@ude(CONN_NEW_DATA, native=True, once=True)
def SSH(flow: "Flow") -> object:
    """Either side's bytes begin with an SSH identification (RFC 4253, section 4.2)."""
    return flow.server.peek(0, 4) == b"SSH-" or flow.client.peek(0, 4) == b"SSH-"


@ude(CONN_NEW_DATA, native=True, once=True)
def SMTP(flow: "Flow") -> object:
    """The server has greeted with 220, and the client says hello (RFC 5321, section 4.1.1.1)."""
    hello = flow.client.peek(0, 4)
    return (
        hello in (b"EHLO", b"HELO", b"LHLO", b"ehlo", b"helo", b"lhlo") and flow.server.peek(0, 3) == b"220"
    )


@ude(CONN_NEW_DATA, native=True, once=True)
def FTP(flow: "Flow") -> object:
    """The server has greeted with 220, and the client logs in or asks what there is (the paper's MOS_ON_FTP)."""
    command = flow.client.peek(0, 4)
    return (
        command in (b"USER", b"AUTH", b"FEAT", b"user", b"auth", b"feat") and flow.server.peek(0, 3) == b"220"
    )


@ude(CONN_NEW_DATA, native=True, once=True)
def POP3(flow: "Flow") -> object:
    """The server has greeted as POP3 servers do (RFC 1939, section 4)."""
    return flow.server.peek(0, 4) == b"+OK "


@ude(CONN_NEW_DATA, native=True, once=True)
def IMAP(flow: "Flow") -> object:
    """The server has greeted as IMAP servers do (RFC 9051, section 7.1)."""
    return flow.server.peek(0, 5) in (b"* OK ", b"* PRE")


@ude(CONN_NEW_DATA, native=True, once=True)
def SMB(flow: "Flow") -> object:
    """The client's bytes begin with an SMB header behind that of a NetBIOS session."""
    return flow.client.peek(4, 4) in (b"\xffSMB", b"\xfeSMB")


@ude(CONN_NEW_DATA, native=True, once=True)
def BITTORRENT(flow: "Flow") -> object:
    """The client's bytes begin with a BitTorrent handshake (BEP 3)."""
    return flow.client.peek(0, 8) == b"\x13BitTorr"


@ude(CONN_NEW_DATA, native=True, once=True)
def MQTT(flow: "Flow") -> object:
    """The client's bytes begin with an MQTT CONNECT of a short header (OASIS MQTT 5.0, section 3.1)."""
    head = flow.client.peek(0, 8)
    return head[:1] == b"\x10" and head[4:] == b"MQTT"
