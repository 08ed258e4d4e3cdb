"""``safegen serve``: one loaded model behind the OpenAI images API."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from safegen.cli.options import GUARD, LOAD, Record, expand_options
from safegen.models.options import LoadOptions
from safegen.pictures import metadata
from safegen.safeguards.options import GuardOptions

KEY = "Bearer key of clients; better set in the environment."


@expand_options(guard=("concepts", "strength", "safeguard", "unread", "folder", "safe", "enhance"))
def serve(
    host: Annotated[str, typer.Option(help="Where to listen; another than loopback needs an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[str, typer.Option(envvar="SAFEGEN_API_KEY", help=KEY, metavar="KEY")] = "",
    allow_host: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--allow-host", help="Name of a reverse proxy in front of it, as clients use it; repeatable."),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Requests that may wait; more get 429.")] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds from a request to its answer, or 504.")] = 300,
    max_images: Annotated[int, typer.Option(min=1, max=100, help="Pictures of one request.")] = 4,
    max_steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 100,
    max_size: Annotated[int, typer.Option(min=64, max=4096, help="Pixels of the longer side.")] = 1024,
    guard: GuardOptions = GUARD,
    record: Record = metadata.DEFAULT,
    load: LoadOptions = LOAD,
) -> None:
    """Serve a model: /v1/images/generations, /v1/models, /v1/score, /healthz, and a page at / to try it."""
    from safegen.cli import console
    from safegen.errors import UsageError

    try:
        from safegen.serve import app, server
    except ImportError as error:
        raise UsageError("serving needs FastAPI and uvicorn", "pip install 'safegen[serve]'") from error
    server.check_key(host, api_key)
    fronts = server.fronts_of(allow_host or ())
    listener = server.bound(host, port)
    with listener:
        from safegen.generator import Generator
        from safegen.serve.queue import Queue
        from safegen.serve.schemas import Limits

        generator = Generator.load(load, guard, console)
        line = Queue(queue)
        limits = Limits(max_images, max_steps, max_size, timeout)
        kept = metadata.parse_kept(record)
        application = app.create(generator, line, limits, api_key, server.hosts_of(host), fronts, kept, console)
        server.Server(application, line, listener, console.show_address).serve_on()
