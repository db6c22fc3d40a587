"""Configuration files of the NAT: what they may say, and what errors tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aiomos import OptionError
from aiomos.apps.nat import forwards
from aiomos.apps.nat.mappings import Endpoint
from aiomos.apps.nat.settings import Config, read_config

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "nat.toml"
LEAST = 'outside = "eth1"\ninside = "10.0.0.0/8"\nexternal = "192.0.2.10"\n'

Read = Callable[[str], Config]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str) -> Config:
        path = tmp_path / "nat.toml"
        path.write_text(text)
        return read_config(path)

    return read


def test_defaults_are_those_of_the_rfcs(read: Read) -> None:
    config = read(LEAST)
    assert (config.idle.udp, config.idle.tcp, config.idle.tcp_transitory, config.idle.icmp) == (
        300,
        7440,
        240,
        60,
    )
    assert config.file.ports == range(1024, 65536)
    assert config.file.filtering == "address-dependent"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["outside is missing"]),
        (LEAST + "externl = 1", ["'externl'", "'external'"]),
        (LEAST.replace("192.0.2.10", "192.0.2"), ["external = '192.0.2'", "address"]),
        (LEAST.replace("192.0.2.10", "2001:db8::1"), ["external", "IPv4"]),
        (LEAST + 'filtering = "none"', ["filtering = 'none'", "address-dependent"]),
        (LEAST + 'mac = "01:00:5e:00:00:01"', ["mac = '01:00:5e:00:00:01'"]),
        (LEAST + 'gateway = "10.0.0.1"', ["gateway", "router"]),
        (LEAST + "[idle]\nudp = -1", ["idle: udp = -1"]),
        (LEAST + '[[forward]]\nto = "10.0.0.5"', ["forward 1", "port is missing"]),
        (LEAST + '[[forward]]\nport = 80\nto = "172.16.0.1"', ["forward 1", "to", "inside"]),
        (LEAST + '[[forward]]\nport = 80\nproto = "icmp"\nto = "10.0.0.5"', ["forward 1", "proto = 'icmp'"]),
        (
            LEAST + '[[forward]]\nport = 80\nto = "10.0.0.5"\nexternal = "192.0.2.9"',
            ["forward 1", "external"],
        ),
        (LEAST + '[[forward]]\nport = 80\nto = "10.0.0.5"\nto_port = "80-90"', ["forward 1", "to_port"]),
        (LEAST + '[[forward]]\nport = "80-90"\nto = "10.0.0.5"\nto_port = 65530', ["forward 1", "to_port"]),
        (LEAST + '[[static]]\ninside = "10.0.0.9"\nexternal = "192.0.2.10"', ["static 1", "of its own"]),
        (LEAST + '[[static]]\ninside = "172.16.0.1"\nexternal = "192.0.2.11"', ["static 1", "inside"]),
    ],
)
def test_error_names_the_table_and_the_key(read: Read, text: str, told: list[str]) -> None:
    with pytest.raises(OptionError) as error:
        read(text)
    assert all(words in str(error.value) for words in told), error.value


def test_forwarded_ports_of_the_example() -> None:
    listed = list(forwards(read_config(EXAMPLE)))
    assert listed[0] == (Endpoint("tcp", "10.0.0.80", 8080), Endpoint("tcp", "192.0.2.10", 80))
    assert len(listed) == 1 + 2 * 16
    assert listed[-1] == (Endpoint("udp", "10.0.0.90", 27015), Endpoint("udp", "192.0.2.10", 27015))
