"""Wan and Helios, which make video: UMT5's states; after the text come zeros, which the denoiser reads."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

from safegen.conditioning import Position
from safegen.errors import ModelError
from safegen.families.base import Values
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text


class Wan(SingleFamily):
    """Adapter around a `WanPipeline`, a `HeliosPipeline` and their relatives.

    A picture or a video to begin with has channels of its own, which are not guarded. Pipelines with two denoisers are
    refused: the second one's guidance has no lowest value, so that it can draw from the negative prompt.

    Raises:
        ModelError: see `Family`; or there are two denoisers.
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

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        if getattr(pipe, "transformer_2", None) is not None:
            raise ModelError(
                f"this {type(pipe).__name__} has two denoisers, and the second can be made to draw its negative prompt",
                "Take a model with one denoiser.",
            )

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Clean the prompts, as the pipeline does it."""
        clean = inspect.getmodule(type(self.pipe)).prompt_clean  # type: ignore[union-attr]
        return [Text.plain(clean(prompt)) for prompt in prompts]
