"""Handlers: they check requests against the limits and answer them with the model."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safegen.errors import DirectionError, FieldError, ModelError, PromptError, UsageError
from safegen.families import sizes
from safegen.generator import Generator
from safegen.models import adapters
from safegen.models.options import DrawOptions
from safegen.pictures import metadata
from safegen.prompts import dialects
from safegen.prompts.prompt import Prompt, admit, clean, clean_negative
from safegen.serve.schemas import DrawRequest, Limits, ScoreRequest

if TYPE_CHECKING:
    from safegen.pictures.metadata import Kept
    from safegen.scoring.text import Causes
    from safegen.serve.queue import OnStep

Cleaned = TypeVar("Cleaned")


@dataclass(frozen=True)
class Order:
    """A request to draw that keeps to the limits."""

    prompt: Prompt
    options: DrawOptions
    images: int


def model_name(generator: Generator) -> str:
    """Give the name that clients use; for a local folder it is the last part alone."""
    return Path(generator.model).name if Path(generator.model).is_dir() else generator.model


def parse_order(asked: DrawRequest, limits: Limits, generator: Generator) -> Order:
    """Read the order in a request; what can be refused without the model is refused here.

    Raises:
        FieldError: a field cannot be used.
        Refused: minors in a sexual context.
    """
    _check_model(asked.model, generator)
    if asked.response_format == "url":
        raise FieldError("response_format", "pictures are not kept here, so they have no url", "Ask for b64_json.")
    images = asked.n or 1
    if images > limits.images:
        raise FieldError("n", f"{images} pictures are more than the {limits.images} of one request")
    steps = asked.steps or min(generator.resolve(DrawOptions())[0], limits.steps)
    if steps > limits.steps:
        raise FieldError("steps", f"{steps} steps are more than the {limits.steps} allowed")
    prompt = _parse_prompt(asked.prompt)
    negative = _clean("negative", clean_negative, asked.negative or "")
    fair = _fair(tuple(asked.fair or ()), generator)
    options = DrawOptions(asked.seed, steps, asked.guidance, _size(asked.size, limits, generator), negative, fair)
    return Order(prompt, options, images)


def draw(generator: Generator, order: Order, kept: Kept, on_step: OnStep) -> dict[str, Any]:
    """Answer in the form of the OpenAI images API; `safegen` holds what the guard found and did.

    `kept` is what pictures say of themselves.
    """
    pictures, report = generator.generate(order.prompt, order.options, images=order.images, on_step=on_step)
    record = pictures[0].record
    revised = {"revised_prompt": report.rewritten} if report and report.rewritten else {}
    found = {
        "before": report.before.as_json(order.prompt.id) if report else None,
        "after": report.after.as_json(order.prompt.id) if report else None,
    }
    files = [metadata.encode_picture(p.image, p.record.as_json(), kept) for p in pictures]
    data = [{"b64_json": base64.b64encode(file).decode(), **revised} for file in files]
    return {
        "created": int(time.time()),
        "data": data,
        "output_format": "png",
        "size": "{}x{}".format(*record.size),
        "safegen": {
            **{name: getattr(record, name) for name in ("model", "status", "steps", "guidance", "negative")},
            **{name: record.guard[name] for name in ("safeguard", "strength", "drift", "rewritten", "directions")},
            **found,
            **({"input": dict(record.input)} if record.input else {}),
            **({"latent": [dict(p.record.latent) for p in pictures]} if any(p.record.latent for p in pictures) else {}),
            "notes": notes(generator, order),
            "seeds": [p.seed for p in pictures],
            "seconds": round(sum(p.record.seconds for p in pictures), 3),
        },
    }


def notes(generator: Generator, order: Order) -> list[str]:
    """Tell what people should know of an order, one line each.

    That is syntax without meaning here, and `Generator.notes`.
    """
    loras = [f"{added['file']}:{added['scale']}" for added in generator.added if added["kind"] == "lora"]
    texts = (order.prompt.own, order.options.negative)
    return [*dialects.notes(texts, adapters.scales(loras)), *generator.notes(order.options, [order.prompt])]


def parse_score_request(asked: ScoreRequest, generator: Generator) -> Prompt:
    """Read the prompt in a request for a score; raises like `parse_order`."""
    _check_model(asked.model, generator)
    return _parse_prompt(asked.prompt)


def score(generator: Generator, prompt: Prompt, causes: Causes) -> dict[str, Any]:
    """Give the sheet of a prompt, see `ScoreSheet.as_json`.

    Raises:
        Refused, GuardError: see `Generator.score`.
    """
    (sheet,) = generator.score([prompt.own], causes)
    return {**sheet.as_json(prompt.id), "model": model_name(generator)}


def _parse_prompt(typed: str) -> Prompt:
    prompt = _clean("prompt", clean, typed)
    admit([prompt])
    return prompt


def _clean(param: str, door: Callable[[str], Cleaned], typed: str) -> Cleaned:
    try:
        return door(typed)
    except PromptError as error:
        raise FieldError(param, str(error)) from error


def _fair(texts: tuple[str, ...], generator: Generator) -> tuple[str, ...]:
    """Check what is asked of fairness; a model without the latent direction for it is no fault of the server."""
    try:
        generator.steerer.check(texts, None)
    except (UsageError, DirectionError, ModelError) as error:
        raise FieldError("fair", str(error), error.hint) from error
    return texts


def _check_model(name: str | None, generator: Generator) -> None:
    served = model_name(generator)
    if name not in (None, "", served):
        raise FieldError("model", "this server has no such model", f"It serves {served}.")


def _size(text: str | None, limits: Limits, generator: Generator) -> tuple[int, int] | None:
    if text in (None, "auto"):
        return None
    width, height = map(int, str(text).split("x"))
    if max(width, height) > limits.side:
        raise FieldError("size", f"{text} is larger than the {limits.side} pixels a side allowed")
    try:
        sizes.check(width, height, generator.family.step, type(generator.pipe).__name__)
    except UsageError as error:
        raise FieldError("size", str(error), error.hint) from error
    return width, height
