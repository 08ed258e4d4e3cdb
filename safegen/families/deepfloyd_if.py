"""DeepFloyd IF: T5's states of 77 tokens; the denoiser draws pixels, and reads pads like all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from safegen.families.base import Values
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text


class DeepFloydIF(SingleFamily):
    """Adapter around an `IFPipeline` and its relatives of the first stage."""

    pipelines: ClassVar[tuple[str, ...]] = ("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline")
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "negative_prompt_embeds")
    channel: ClassVar[str] = "t5"
    window = 77
    steps = 100
    guidance = 7.0

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Lower-case or clean the prompts, as the pipeline does it."""
        cleaned = self.pipe._text_preprocessing(list(prompts), clean_caption=request["clean_caption"])
        return [Text.plain(text) for text in cleaned]
