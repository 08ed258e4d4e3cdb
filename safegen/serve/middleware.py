"""The gatekeeper: who may ask, from where, and how much. Nothing behind it sees a request that it turns away."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match

from safegen.progress import SILENT, Progress
from safegen.serve import errors
from safegen.serve.schemas import EDITS, MAX_BODY, MAX_FORM

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

OPEN = frozenset({"/", "/healthz"})  # paths that need no key: they hold nothing that a key protects
BODY_SECONDS = 30
_BEHIND = "behind a reverse proxy, start it with --allow-host NAME, the name that clients use"
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Gatekeeper:
    """An ASGI application around another one.

    Args:
        app: the application that is protected.
        key: the API key; empty asks for none.
        hosts: names that a client may use for this server; None takes any. This turns away a page elsewhere
            that points its own name at a loopback address.
        fronts: names of reverse proxies that a client may use instead; their pages may ask here.
        progress: told the kind of an unexpected error.
    """

    def __init__(
        self,
        app: Starlette,
        key: str = "",
        hosts: frozenset[str] | None = None,
        fronts: frozenset[str] = frozenset(),
        progress: Progress = SILENT,
    ) -> None:
        self.app, self.key, self.hosts, self.fronts, self.progress = app, key.encode(), hosts, fronts, progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, bare = False, scope["method"] == "HEAD"
        if bare:  # HEAD is answered as GET is, without the body
            scope = {**scope, "method": "GET"}

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(_HEADERS)
            elif bare:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._pass(scope, receive, send_guarded)
        except Exception as error:  # a message may quote the prompt, so only its kind is told
            self.progress.say(f"internal error: {type(error).__name__}")
            if not started:
                await errors.response(500, "internal error", "internal")(scope, receive, send_guarded)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        denied, most = self._denied(scope, Headers(scope=scope)), _most(scope)
        if denied is None:
            try:
                body = await asyncio.wait_for(_read(receive, most), BODY_SECONDS)
            except asyncio.TimeoutError:
                denied = errors.response(408, f"the body took longer than {BODY_SECONDS} s", "body_timeout")
            else:
                if body is None:
                    return  # the client is gone
                if len(body) <= most:
                    await self.app(scope, _again(body, receive), send)
                    return
                denied = _too_large(most)
        await denied(scope, receive, send)

    def _denied(self, scope: Scope, headers: Headers) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and name_of(host) not in self.hosts | self.fronts:
            return errors.response(403, f"this server is not known by that Host; {_BEHIND}", "host", None)
        if origin is not None and not self._is_own(origin, host):
            return errors.response(403, f"pages of other origins may not ask here; {_BEHIND}", "origin", None)
        if self.key and scope["path"] not in OPEN and not self._knows(headers.get("authorization", "")):
            message = "the API key is missing or wrong; send it as Authorization: Bearer KEY"
            return errors.response(401, message, "invalid_api_key", None, {"www-authenticate": "Bearer"})
        if all(route.matches(scope)[0] is Match.NONE for route in self.app.routes):
            return errors.response(404, "there is nothing at this path", "not_found")
        return _unfit(headers, scope) if scope["method"] == "POST" else None

    def _is_own(self, origin: str, host: str) -> bool:
        """Tell whether a page belongs to this server, by the name in the request or by a proxy's name."""
        place = origin.partition("://")[2].lower()
        return (place == host.lower() != "") or name_of(place) in self.fronts

    def _knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self.key)


def _most(scope: Scope) -> int:
    """Give the most bytes that a body may have."""
    return MAX_FORM if scope["path"] == EDITS else MAX_BODY


def _unfit(headers: Headers, scope: Scope) -> Response | None:
    """Find what is wrong with a body by its headers."""
    wanted = "multipart/form-data" if scope["path"] == EDITS else "application/json"
    if headers.get("content-type", "").partition(";")[0].strip().lower() != wanted:
        return errors.response(415, f"the body has to be {wanted}", "content_type")
    # Pages elsewhere can post a form without asking first, and no other type; browsers say where it comes from.
    if scope["path"] == EDITS and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return errors.response(403, f"pages of other origins may not ask here; {_BEHIND}", "origin", None)
    most = _most(scope)
    if (length := headers.get("content-length", "")).isdecimal() and int(length[:12]) > most:
        return _too_large(most)
    return None


async def _read(receive: Receive, most: int) -> bytes | None:
    """Read the whole body, or enough of it to show that it is too large; None if the client is gone."""
    body = bytearray()
    while len(body) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Make a `receive` that gives the body once, then what comes after it."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def name_of(host: str) -> str:
    """Give the host without its port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _too_large(most: int) -> Response:
    return errors.response(413, f"the body is larger than {most} bytes", "body_too_large")
