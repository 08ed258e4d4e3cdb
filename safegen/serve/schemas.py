"""What a client may ask for: the fields of the OpenAI images API, our own beside them, and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from safegen.guard import Causes

MAX_PROMPT = 4000  # characters
MAX_BODY = 128 * 1024  # bytes; a prompt and a negative one in JSON's longest form fit


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how long it may take.

    Attributes:
        images: pictures of one request.
        side: pixels of the longer side.
        seconds: from a request's arrival to its answer.
    """

    images: int = 4
    steps: int = 100
    side: int = 1024
    seconds: float = 300


class _Body(BaseModel):
    # Unknown fields are refused, because one that is ignored looks as if it had worked.
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT)
    model: str | None = Field(None, max_length=300)


class DrawRequest(_Body):
    """The body of `POST /v1/images/generations`; null is as good as absent."""

    n: int | None = Field(None, ge=1)
    size: str | None = Field(None, pattern=r"^(auto|[0-9]{1,4}x[0-9]{1,4})$")
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png"] | None = None
    quality: Literal["auto", "standard"] | None = None
    user: str | None = Field(None, max_length=300)  # taken for compatibility; not kept
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    steps: int | None = Field(None, ge=1)
    guidance: float | None = Field(None, ge=0, le=50, allow_inf_nan=False)
    negative: str | None = Field(None, max_length=MAX_PROMPT)


class ScoreRequest(_Body):
    """The body of `POST /v1/score`; for `causes` see `Guard.score`."""

    causes: Causes = "flagged"
