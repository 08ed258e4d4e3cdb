"""What a client may ask for: the fields of the OpenAI images API, our own fields, and limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from safegen.models.options import MAX_SEED, NO_SEED
from safegen.scoring.text import Causes

MAX_PROMPT = 4000  # characters
MAX_BODY = 128 * 1024  # bytes; a prompt and a negative one in JSON's longest form fit
MAX_FORM = 16 * 1024 * 1024  # bytes; a picture and its mask
EDITS = "/v1/images/edits"  # the one path that takes a form


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how long it may take.

    Attributes:
        images: pictures of one request.
        side: pixels of the longer side.
        seconds: time from a request's arrival to its answer.
    """

    images: int = 4
    steps: int = 100
    side: int = 1024
    seconds: float = 300


# OpenAI's fields that have no effect here, with the values that ask for nothing.
IDLE: Mapping[str, Sequence[object]] = {
    "background": ("auto", "opaque"),
    "moderation": ("auto",),
    "output_compression": (100,),
    "partial_images": (0,),
    "stream": (False,),
    "style": ("vivid",),
}


class _Body(BaseModel):
    # Unknown fields are refused, because an ignored field looks as if it had worked.
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_idle(cls, body: object) -> object:
        """Leave out fields that ask for nothing; null counts as absent."""
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if value is not None and not _is_idle(name, value)}

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT)
    model: str | None = Field(None, max_length=300)


def _is_idle(name: str, value: object) -> bool:
    return any(type(value) is type(idle) and value == idle for idle in IDLE.get(name, ()))


def read_text(name: str, text: str) -> object:
    """Read a form's text as the value that it stands for, where that is one of `IDLE`."""
    return next((idle for idle in IDLE.get(name, ()) if text in (idle, json.dumps(idle))), text)


class DrawRequest(_Body):
    """The body of `POST /v1/images/generations`."""

    n: int | None = Field(None, ge=1)
    size: str | None = Field(None, pattern=r"^(auto|[0-9]{1,4}x[0-9]{1,4})$")
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png"] | None = None
    quality: Literal["auto", "standard"] | None = None
    user: str | None = Field(None, max_length=300)  # taken for compatibility; not kept
    seed: int | None = Field(None, ge=NO_SEED, le=MAX_SEED)
    steps: int | None = Field(None, ge=1)
    guidance: float | None = Field(None, ge=0, le=50, allow_inf_nan=False)
    negative: str | None = Field(None, max_length=MAX_PROMPT)
    fair: list[str] | None = Field(None, max_length=10)


class EditRequest(DrawRequest):
    """The fields of `POST /v1/images/edits` that are text; a form has no other types."""

    image_strength: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)


class ScoreRequest(_Body):
    """The body of `POST /v1/score`; for `causes` see `Guard.score`."""

    causes: Causes = "flagged"
