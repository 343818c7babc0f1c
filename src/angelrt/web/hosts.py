"""Names and addresses: which are this machine's own, and under which an app may be reached. It needs no extra."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f.:]+")


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = cast("ipaddress.IPv4Address | None", getattr(address, "ipv4_mapped", None))
    return (mapped or address).is_loopback


def check_hosts(hosts: Sequence[str], *, is_protected: bool) -> list[str]:
    """Return the names under which the app answers. Raises ConfigError for what is none, and for others' reach without authentication."""
    if isinstance(hosts, str):
        message = f"rt.web(hosts=) is a list of names, not one text: hosts=[{hosts!r}]"
        raise ConfigError(message)
    found: list[str] = []
    for host in hosts:
        name = host_name(host)
        if name is None or not HOST_NAME.fullmatch(name):
            message = f"rt.web(hosts=): {host!r} is no name of a host; write it as queues.example.org, without scheme and path"
            raise ConfigError(message)
        if not is_protected and not is_loopback(name):
            message = (
                f"rt.web(hosts=[{host!r}]) lets others reach an app without authentication: configure readers=, operators= or auth= as well"
            )
            raise ConfigError(message)
        found.append(name)
    return found


def host_name(host: str) -> str | None:
    """Return the name or address out of a Host header, without its port; None for what is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    is_whole = not (parts.path or parts.query or parts.fragment or "@" in host)
    name = (parts.hostname or "").rstrip(".")
    return name if is_whole and name else None


def is_address(name: str) -> bool:
    """Tell whether a name is an address: nobody can make a browser take it for another machine's."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
