"""PixArt-Sigma and PixArt-Alpha: T5's states under a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from safegen.families.base import Values
from safegen.families.masked import MaskedFamily
from safegen.families.tokens import Text


class PixArt(MaskedFamily):
    """Adapter around a `PixArtSigmaPipeline` and its relatives; Alpha's window is shorter."""

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtSigmaPipeline", "PixArtSigmaPAGPipeline", "PixArtAlphaPipeline")
    channel: ClassVar[str] = "t5"
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Lower-case or clean the prompts, as the pipeline does it."""
        cleaned = self.pipe._text_preprocessing(list(prompts), clean_caption=request["clean_caption"])
        return [Text.plain(text) for text in cleaned]
