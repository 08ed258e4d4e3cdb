"""Forms with files (multipart/form-data, RFC 7578), read from a body that is already here and bounded in size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

from safegen.errors import FieldError

MOST_PARTS = 64
MOST_HEADERS = 4096  # bytes of one part's headers


@dataclass(frozen=True)
class Part:
    """One field of a form; `file` is the name of the file, and empty where the field is text."""

    name: str
    file: str
    content: bytes


def read_form(body: bytes, content_type: str) -> list[Part]:
    """Split a body into its parts.

    Raises:
        FieldError: it is no form with files, or not a whole one.
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not re.fullmatch(r"[\x21-\x7e ]{1,70}", boundary):
        raise FieldError("body", "the form has no boundary", "Send it as multipart/form-data.")
    first, *rest = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if first.strip() or not rest or not rest[-1].startswith(b"--"):
        raise FieldError("body", "the form is not whole", "Send it again.")
    if len(rest) - 1 > MOST_PARTS:
        raise FieldError("body", f"the form has more than {MOST_PARTS} fields")
    return list(_parts(rest[:-1]))


def _parts(raw: list[bytes]) -> Iterator[Part]:
    for one in raw:
        head, gap, content = one.partition(b"\r\n\r\n")
        if not gap or len(head) > MOST_HEADERS:
            raise FieldError("body", "a field of the form has no headers, or too long ones")
        yield Part(*_named(head.strip(b" \t\r\n")), content)


def _named(head: bytes) -> tuple[str, str]:
    """Read a field's name, and its file's, from its headers."""
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            found = Message()
            found["content-disposition"] = value.decode("utf-8", "replace").strip()
            name, file = (found.get_param(part, header="content-disposition") for part in ("name", "filename"))
            if isinstance(name, str) and name:
                return name, file if isinstance(file, str) else ""
    raise FieldError("body", "a field of the form has no name")
