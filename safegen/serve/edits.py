"""Edits: requests that bring a picture to draw from, as a form. No guard looks at that picture."""

from __future__ import annotations

from dataclasses import replace

from safegen.errors import FieldError, PictureError, UsageError
from safegen.families import sizes
from safegen.generator import Generator
from safegen.models.options import DrawOptions
from safegen.pictures.inputs import InputPicture
from safegen.serve.handlers import Order, parse_order
from safegen.serve.multipart import Part, read_form
from safegen.serve.schemas import EditRequest, Limits, read_text

PICTURES = ("image", "mask")
SEVERAL = "fair"  # the one field that may be there several times


def parse_edit(body: bytes, content_type: str, limits: Limits, generator: Generator) -> Order:
    """Read the order in a form; raises like `parse_order`."""
    parts = read_form(body, content_type)
    named = [(part.name.removesuffix("[]"), part) for part in parts]  # so clients write what may be there several times
    for name, _ in named:
        if name != SEVERAL and sum(other == name for other, _ in named) > 1:
            raise FieldError(name[:100], "is there twice", "This server draws from one picture at a time.")
    pictures = {name: _picture(part, name) for name, part in named if name in PICTURES}
    if "image" not in pictures:
        raise FieldError("image", "there is no picture to draw from", "POST /v1/images/generations draws without one.")
    texts = {name: read_text(name, _text(part)) for name, part in named if name not in (*PICTURES, SEVERAL)}
    fair = [_text(part) for name, part in named if name == SEVERAL]
    asked = EditRequest.model_validate_strings({**texts, SEVERAL: fair}, strict=False)
    order = parse_order(asked, limits, generator)
    options = _begun(order.options, pictures["image"], pictures.get("mask"), asked.image_strength)
    return replace(order, options=_bounded(options, limits, generator))


def _begun(options: DrawOptions, image: InputPicture, mask: InputPicture | None, strength: float | None) -> DrawOptions:
    try:
        return replace(options, image=image, mask=mask, image_strength=strength)
    except UsageError as error:
        raise FieldError("mask", str(error), error.hint) from error


def _bounded(options: DrawOptions, limits: Limits, generator: Generator) -> DrawOptions:
    """Check that the model can draw this; where no size is asked for, keep to the limit of sizes."""
    try:
        _, _, size = generator.resolve(options)
    except UsageError as error:
        raise FieldError("image", str(error), error.hint) from error
    longer = max(size)
    if options.size is not None or longer <= limits.side:
        return options
    return replace(options, size=sizes.within(size, limits.side / longer, generator.family.step))


def _picture(part: Part, name: str) -> InputPicture:
    """Read an uploaded picture; the name of its file is the client's own affair."""
    try:
        return InputPicture.of(part.content, name, mask=name == "mask")
    except PictureError as error:
        raise FieldError(name, str(error), error.hint) from error


def _text(part: Part) -> str:
    try:
        return part.content.decode()
    except UnicodeDecodeError as error:
        raise FieldError(part.name[:100], "is not valid UTF-8") from error
