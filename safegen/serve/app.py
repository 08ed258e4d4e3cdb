"""The application: the images API, scores, health and the page, over one generator."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from safegen import pages
from safegen.errors import FieldError, OutOfTime, SafegenError
from safegen.generator import Generator
from safegen.models.options import DrawOptions
from safegen.pictures.metadata import DEFAULT, Kept
from safegen.progress import SILENT, Progress
from safegen.records import versions
from safegen.serve import edits, errors, handlers
from safegen.serve.middleware import Gatekeeper
from safegen.serve.queue import GivenUp, Job, Queue
from safegen.serve.schemas import EDITS, DrawRequest, Limits, ScoreRequest

CLIENT_GONE = 499  # nginx's number; nobody reads it


def create(
    generator: Generator,
    queue: Queue,
    limits: Limits,
    key: str = "",
    hosts: frozenset[str] | None = None,
    fronts: frozenset[str] = frozenset(),
    kept: Kept = DEFAULT,
    progress: Progress = SILENT,
) -> Gatekeeper:
    """Make the application behind its gatekeeper.

    Args:
        generator: the loaded model; from now on only the queue's thread touches it.
        queue: where the work is done; the server starts and ends it.
        limits: the limits of every request.
        key, hosts, fronts: see `Gatekeeper`.
        kept: what pictures say of themselves.
        progress: told of internal errors, without a word of a prompt.
    """
    app = FastAPI(title="safegen", version=versions()["safegen"], docs_url=None, redoc_url=None, redirect_slashes=False)
    _add_errors(app, progress)
    _add_models(app, handlers.model_name(generator))
    _add_page(app, generator, limits, key)

    @app.post("/v1/images/generations")
    async def generations(asked: DrawRequest, request: Request) -> Response:
        order = handlers.parse_order(asked, limits, generator)
        job = queue.draw(lambda on_step: handlers.draw(generator, order, kept, on_step))
        return await _answer(queue, job, request, limits.seconds)

    @app.post(EDITS)
    async def edit(request: Request) -> Response:
        body, kind = await request.body(), request.headers.get("content-type", "")
        order = await asyncio.to_thread(edits.parse_edit, body, kind, limits, generator)  # decoding takes a while
        job = queue.draw(lambda on_step: handlers.draw(generator, order, kept, on_step))
        return await _answer(queue, job, request, limits.seconds)

    @app.post("/v1/score")
    async def score(asked: ScoreRequest, request: Request) -> Response:
        prompt = handlers.parse_score_request(asked, generator)
        job = queue.score(lambda: handlers.score(generator, prompt, asked.causes))
        return await _answer(queue, job, request, limits.seconds)

    @app.get("/healthz")
    async def health() -> Response:
        content = {"status": "ok" if queue.alive else "down", "waiting": len(queue.draws)}
        return JSONResponse(content, 200 if queue.alive else 503)

    return Gatekeeper(app, key, hosts, fronts, progress)


async def _answer(queue: Queue, job: Job, request: Request, seconds: float) -> Response:
    """Wait for a job's answer; give the job up when its client is gone or its time is over."""
    answer = asyncio.wrap_future(job.future)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return JSONResponse(answer.result())
        if gone.done():
            return Response(status_code=CLIENT_GONE)
        raise OutOfTime(f"no answer within {seconds:g} s", "Ask for fewer steps, pictures or pixels.")
    finally:
        gone.cancel()
        queue.give_up(job)
        answer.cancel()  # so that nobody waits for the result of a job in flight


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_models(app: FastAPI, name: str) -> None:
    model = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "safegen"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{wanted:path}")
    async def one(wanted: str) -> dict[str, Any]:
        if wanted != name:
            raise FieldError("model", "this server has no such model", f"It serves {name}.")
        return model


def _add_page(app: FastAPI, generator: Generator, limits: Limits, key: str) -> None:
    steps, guidance, (width, height) = generator.resolve(DrawOptions())
    about = {
        "model": handlers.model_name(generator),
        "concepts": list(generator.guard.names) if generator.guard else [],
        "steps": min(steps, limits.steps),
        "guidance": guidance,
        "size": f"{width}x{height}",
        "limits": {"images": limits.images, "steps": limits.steps},
        "key": bool(key),
    }
    html = pages.render(Path(__file__).with_name("page"), about)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return html


def _add_errors(app: FastAPI, progress: Progress) -> None:
    @app.exception_handler(SafegenError)
    async def ours(_: Request, error: SafegenError) -> Response:
        if errors.status_of(error) == 500:
            progress.say(f"no picture: {error.code}")
        return errors.of(error)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def invalid(_: Request, error: RequestValidationError | ValidationError) -> Response:
        return errors.of_validation(error)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        return errors.response(error.status_code, str(error.detail), code, None, error.headers)

    @app.exception_handler(Exception)
    async def unknown(_: Request, __: Exception) -> Response:
        return errors.response(500, "internal error", "internal")  # the gatekeeper tells its kind

    @app.exception_handler(GivenUp)
    async def given_up(_: Request, __: GivenUp) -> Response:
        return errors.response(503, "the server is stopping", "unavailable")
