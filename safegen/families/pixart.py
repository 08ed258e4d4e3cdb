"""PixArt-Sigma and PixArt-Alpha: T5's states under a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from safegen.families.base import Values, require_parts
from safegen.families.masked import MaskedFamily
from safegen.families.outputs import EncoderOutput
from safegen.families.tokens import Text


class PixArt(MaskedFamily):
    """Adapter around a `PixArtSigmaPipeline` and its relatives; Alpha's window is shorter."""

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtSigmaPipeline", "PixArtSigmaPAGPipeline", "PixArtAlphaPipeline")
    channel: ClassVar[str] = "t5"

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find T5's last layer."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        length = self.default_request["max_sequence_length"]
        yield EncoderOutput(self.channel, encoder, tokenizer, "last", encoder.config.d_model, length)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Lower-case or clean the prompts, as the pipeline does it."""
        cleaned = self.pipe._text_preprocessing(list(prompts), clean_caption=request["clean_caption"])
        return [Text.plain(text) for text in cleaned]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request["max_sequence_length"])
