"""The server: where it listens, whom it trusts, and uvicorn around the application."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import uvicorn

from safegen.errors import UsageError
from safegen.serve.middleware import name_of

if TYPE_CHECKING:
    from safegen.serve.middleware import Gatekeeper
    from safegen.serve.queue import Queue

LAST_SECONDS = 10  # for answers on their way when the server is told to stop


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_key(host: str, key: str) -> None:
    """Whether that key will do for that host.

    Raises:
        UsageError: there is none and others could reach the server, or no client could send it.
    """
    if not key and not is_loopback(host):
        raise UsageError(
            f"others could reach {host!r}, and there is no API key",
            "Set SAFEGEN_API_KEY, or listen on 127.0.0.1.",
        )
    if not key.isascii() or any(not c.isprintable() or c.isspace() for c in key):
        raise UsageError("the API key has characters that a header cannot carry", "Use letters, digits and dashes.")


def hosts_of(host: str) -> frozenset[str] | None:
    """The names under which a loopback server may be asked; None, any, for one that others reach by key."""
    return frozenset({"localhost", "127.0.0.1", "::1", host}) if is_loopback(host) else None


def fronts_of(names: Sequence[str]) -> frozenset[str]:
    """The names of reverse proxies, as they stand in headers.

    Raises:
        UsageError: one is no name of a host.
    """
    found = set()
    for name in names:
        try:
            plain = name.strip().rstrip(".").encode("idna").decode().lower()
        except UnicodeError:
            plain = ""
        if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]", plain):
            raise UsageError(
                f"--allow-host {name!r} is no name of a host", "As in --allow-host pictures.example.org, without port."
            )
        found.add(name_of(plain))
    return frozenset(found)


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the address but does not listen yet, so that a taken port shows before a model loads.

    Raises:
        UsageError: the address cannot be had.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}", "Choose another.") from error
    return found


class Server(uvicorn.Server):
    """uvicorn over one socket, with the queue's life tied to its own.

    Args:
        app: see `app.create`.
        queue: the application's; begins and ends with the server.
        listener: see `bound`.
        on_ready: told the address once the server listens.
    """

    def __init__(self, app: Gatekeeper, queue: Queue, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws="none",
                lifespan="off",
                timeout_graceful_shutdown=LAST_SECONDS,
            )
        )
        self.queue, self.listener, self.on_ready = queue, listener, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.queue.start()
        await super().startup(sockets)
        host, port, *_ = self.listener.getsockname()
        self.on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self.queue.close)  # who waits is told so at once
        await super().shutdown(sockets)

    def serve_on(self) -> None:
        """Serve until a signal says stop."""
        self.run(sockets=[self.listener])
