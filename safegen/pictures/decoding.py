"""Decoding of pictures that nobody vouches for: few formats, bounded sizes, and one form for all of them.

A file's size in pixels stands in its header, so a decompression bomb is refused before a pixel of it is decoded.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from safegen.errors import PictureError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP")  # others have decoders that few people watch, or that run programs
LEAST_SIDE, MOST_SIDE = 64, 16_384
MOST_PIXELS = 50_000_000
MOST_BYTES = 64 * 1024 * 1024
GROUND = "white"  # what shows through where a picture is transparent


def decode_picture(content: bytes, name: str) -> Image.Image:
    """Decode a picture into RGB, upright as its EXIF data say, on white where it is transparent.

    Of 16 bits the upper eight count. CMYK becomes RGB by Pillow's own formula; colour profiles are not applied.

    Raises:
        PictureError: see `open_picture`.
    """
    from PIL import Image

    picture = _to_eight_bits(open_picture(content, name))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    whole = picture.convert("RGBA")
    ground = Image.new("RGB", whole.size, GROUND)
    ground.paste(whole, mask=whole.getchannel("A"))
    return ground


def decode_mask(content: bytes, name: str) -> Image.Image:
    """Decode a mask into 8 bits of grey: white is drawn anew, black stays.

    Of a mask with transparent parts these are drawn anew and all else stays, whatever its colours: so the OpenAI API
    writes masks.

    Raises:
        PictureError: see `open_picture`; or nothing would be drawn anew.
    """
    from PIL import ImageOps

    picture = _to_eight_bits(open_picture(content, name))
    opaque = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    if opaque is not None and opaque.getextrema() != (255, 255):
        mask = ImageOps.invert(opaque)
    else:
        mask = picture.convert("RGB").convert("L")
    if not mask.point(lambda value: value >= 128).getbbox():
        raise PictureError(
            f"the mask {name} leaves nothing to draw: none of it is white or transparent",
            "Paint white what is to be drawn anew.",
        )
    return mask


def open_picture(content: bytes, name: str) -> Image.Image:
    """Open and decode one still picture of bounded size, turned upright.

    Raises:
        PictureError: it is none, is of another format, too small, too large or animated, or its file is damaged.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, "far more than this") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{name} is not a picture that can be read", f"Give one of {', '.join(FORMATS)}.") from error
    except Exception as error:  # decoders raise whatever a damaged header makes them
        raise _damaged(name, error) from error
    _check_header(picture, name)
    try:
        picture.load()
        return ImageOps.exif_transpose(picture)
    except Exception as error:
        raise _damaged(name, error) from error


def _check_header(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if min(width, height) < LEAST_SIDE:
        raise PictureError(
            f"{name} is {width}x{height}, which is too small to draw from", f"Both sides need {LEAST_SIDE} pixels."
        )
    if max(width, height) > MOST_SIDE or width * height > MOST_PIXELS:
        raise _too_large(name, f"{width}x{height}")
    # Phones put a second picture, such as a preview, behind a JPEG: that is MPO, and the first one is meant.
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise PictureError(f"{name} is animated: it has {frames} frames", "Save the one that is meant as a PNG.")


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Take the upper eight bits of a grey picture of sixteen, which Pillow would clip to white."""
    if not picture.mode.startswith("I"):
        return picture
    import numpy as np
    from PIL import Image

    deep: Any = np.asarray(picture)
    return Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8))


def _too_large(name: str, size: str) -> PictureError:
    most = f"{MOST_SIDE} pixels a side and {MOST_PIXELS // 1_000_000} million in all"
    return PictureError(f"{name} is too large to be decoded safely: {size}", f"The most are {most}; make it smaller.")


def _damaged(name: str, error: Exception) -> PictureError:
    return PictureError(f"{name} is damaged: {str(error)[:100] or type(error).__name__}", "Save it again as a PNG.")
