"""Errors in the form that OpenAI's clients parse."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import JSONResponse

from safegen.errors import Busy, FieldError, OutOfTime, Refused, SafegenError, Unavailable, Unread, UsageError
from safegen.prompts.dialects import ALIASES
from safegen.serve.schemas import IDLE, EditRequest

# The first class that fits counts. The client can mend a refusal; any other failure of the guard is ours.
_STATUS: Mapping[type[SafegenError], int] = {
    UsageError: 400,
    Refused: 400,
    Unread: 400,
    Busy: 429,
    OutOfTime: 504,
    Unavailable: 503,
    SafegenError: 500,
}


def status_of(error: SafegenError) -> int:
    """Give the HTTP status of an error."""
    if isinstance(error, FieldError) and error.param == "model":
        return 404
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


def response(
    status: int, message: str, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Write an error as ``{"error": {"message", "type", "param", "code"}}``."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(content, status, dict(headers or {}))


def of(error: SafegenError) -> JSONResponse:
    """Answer one of our errors, with its hint; OpenAI's clients are told when repeating is of no use."""
    status = status_of(error)
    headers = {"retry-after": str(error.seconds)} if isinstance(error, Busy) else {}
    headers |= {"x-should-retry": "false"} if status in (500, 504) else {}
    param = getattr(error, "param", None)
    message = ". ".join(filter(None, (f"{param}: {error}" if param else str(error), error.hint)))
    code = "model_not_found" if status == 404 else error.code
    return response(status, message, code, param, headers)


def of_validation(error: RequestValidationError | ValidationError) -> JSONResponse:
    """Answer with the first problem of a body, JSON or form; no part of the body is quoted."""
    first = error.errors()[0]
    place = first["loc"][1:] if isinstance(error, RequestValidationError) else first["loc"]
    param = ".".join(str(part) for part in place)[:100] or None
    if first["type"] == "json_invalid":
        return response(400, "the body is not valid JSON", "invalid_json")
    if first["type"] == "extra_forbidden":
        idle = [json.dumps(value) for value in IDLE.get(str(param), ())]
        reason = f"this server takes {' or '.join(idle)} alone" if idle else "this server knows no such field"
        if (ours := ALIASES.get(str(param))) in EditRequest.model_fields:
            reason = f"here it is called {ours}"
        return response(400, f"{param}: {reason}", "unknown_parameter", param)
    return response(400, f"{param or 'body'}: {first['msg']}", "invalid_value", param)
