"""The server: where it listens, which names it trusts, and uvicorn around the application."""

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

LAST_SECONDS = 10  # for answers in flight when the server is told to stop


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_key(host: str, key: str) -> None:
    """Check that a key is enough for a host.

    Raises:
        UsageError: there is no key and others could reach the server, or no client could send the key.
    """
    if not key and not is_loopback(host):
        raise UsageError(
            f"others could reach {host!r}, and there is no API key",
            "Set SAFEGEN_API_KEY, or listen on 127.0.0.1.",
        )
    if not key.isascii() or any(not c.isprintable() or c.isspace() for c in key):
        raise UsageError("the API key has characters that a header cannot carry", "Use letters, digits and dashes.")


def hosts_of(host: str) -> frozenset[str] | None:
    """List the names under which a loopback server may be asked.

    None stands for any name: a server that others reach is protected by its key.
    """
    return frozenset({"localhost", "127.0.0.1", "::1", host}) if is_loopback(host) else None


def fronts_of(names: Sequence[str]) -> frozenset[str]:
    """Write the names of reverse proxies as they stand in headers.

    Raises:
        UsageError: one of them is not the name of a host.
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
    """Bind a socket to the address without listening, so that a taken port shows before a model loads.

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
    """uvicorn over one socket; the queue starts and ends with it.

    Args:
        app: see `app.create`.
        queue: the application's queue; begins and ends with the server.
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
        await asyncio.to_thread(self.queue.close)  # those who wait are told at once
        await super().shutdown(sockets)

    def serve_on(self) -> None:
        """Serve until a signal says stop."""
        self.run(sockets=[self.listener])
