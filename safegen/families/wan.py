"""Wan and Helios, which make video: UMT5's states; after the text come zeros, which the denoiser reads."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import ClassVar

from safegen.conditioning import Position
from safegen.families.base import Values
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text


class Wan(SingleFamily):
    """Adapter around a `WanPipeline` (2.1 and 2.2), a `HeliosPipeline` and their relatives.

    A picture or a video to begin with has channels of its own, which are not guarded.
    """

    pipelines: ClassVar[tuple[str, ...]] = (
        "WanPipeline",
        "WanImageToVideoPipeline",
        "WanVideoToVideoPipeline",
        "WanVACEPipeline",
        "HeliosPipeline",
        "HeliosPyramidPipeline",
    )
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "negative_prompt_embeds")
    channel: ClassVar[str] = "umt5"
    pad_position: ClassVar[Position] = Position.UNREAD
    patch = 2
    steps = 50
    guidance = 5.0

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Clean the prompts, as the pipeline does it."""
        clean = inspect.getmodule(type(self.pipe)).prompt_clean  # type: ignore[union-attr]
        return [Text.plain(clean(prompt)) for prompt in prompts]
