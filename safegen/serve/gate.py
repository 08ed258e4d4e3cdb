"""The gate: who may ask, from where, and how much; nothing behind it sees what does not pass."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from safegen import console
from safegen.serve import faults
from safegen.serve.schemas import MAX_BODY

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = frozenset({"/", "/healthz"})  # hold nothing that a key protects
BODY_SECONDS = 30
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Gate:
    """An ASGI application around another one.

    Args:
        app: what is protected.
        key: the API key; empty asks for none.
        hosts: names that a client may have used for this server; None takes any. A page elsewhere that
            points its own name at a loopback address is turned away by this.
    """

    def __init__(self, app: ASGIApp, key: str = "", hosts: frozenset[str] | None = None) -> None:
        self.app, self.key, self.hosts = app, key.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            await self._pass(scope, receive, send_guarded)
        except Exception as error:  # a message may quote the prompt, so its kind alone is told
            console.say(f"internal error: {type(error).__name__}", "red")
            if not started:
                await faults.response(500, "internal error", "internal")(scope, receive, send_guarded)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        denied = self._denied(scope, Headers(scope=scope))
        if denied is None:
            try:
                body = await asyncio.wait_for(_read(receive), BODY_SECONDS)
            except asyncio.TimeoutError:
                denied = faults.response(408, f"the body took longer than {BODY_SECONDS} s", "body_timeout")
            else:
                if body is None:
                    return  # the client is gone
                if len(body) <= MAX_BODY:
                    await self.app(scope, _again(body, receive), send)
                    return
                denied = _too_large()
        await denied(scope, receive, send)

    def _denied(self, scope: Scope, headers: Headers) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and _name(host) not in self.hosts:
            return faults.response(403, "this server is not known by that Host", "host", None)
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return faults.response(403, "pages of other origins may not ask here", "origin", None)
        if self.key and scope["path"] not in OPEN and not self._knows(headers.get("authorization", "")):
            message = "the API key is missing or wrong; send it as Authorization: Bearer KEY"
            return faults.response(401, message, "invalid_api_key", None, {"www-authenticate": "Bearer"})
        if scope["method"] == "POST":
            # A form of another page can post anything but this.
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return faults.response(415, "the body has to be application/json", "content_type")
            if (length := headers.get("content-length", "")).isdecimal() and int(length[:12]) > MAX_BODY:
                return _too_large()
        return None

    def _knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self.key)


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or as much of it as shows that it is too large; None if the client is gone."""
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, then what comes after it."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _name(host: str) -> str:
    """The host without its port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _too_large() -> Response:
    return faults.response(413, f"the body is larger than {MAX_BODY} bytes", "body_too_large")
