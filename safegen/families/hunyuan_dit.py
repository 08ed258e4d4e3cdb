"""Hunyuan-DiT: BERT's states and T5's, both under masks, from two calls to `encode_prompt`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position
from safegen.families.base import Family, Repair, Values, require_parts
from safegen.families.intercept import replace_method
from safegen.families.outputs import EncoderOutput

if TYPE_CHECKING:
    from torch import Tensor

HALF = ("prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask")
WINDOWS = (77, 256)  # of the two encoders, where encode_prompt is not told otherwise


class HunyuanDiT(Family):
    """Adapter around a `HunyuanDiTPipeline`, which encodes a prompt once for each encoder: here, both are one call."""

    pipelines: ClassVar[tuple[str, ...]] = ("HunyuanDiTPipeline", "HunyuanDiTPAGPipeline")
    result: ClassVar[tuple[str, ...]] = (*HALF, *(f"{name}_2" for name in HALF))
    pad_position: ClassVar[Position] = Position.UNREAD
    patch = 2
    steps = 50
    guidance = 5.0

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self._encode_prompt = _encode_both(self._encode_prompt)
        self.default_request["dtype"] = pipe.transformer.dtype

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the last layers of BERT and T5."""
        for i, (channel, suffix) in enumerate({"bert": "", "t5": "_2"}.items()):
            encoder, tokenizer = require_parts(self.pipe, f"text_encoder{suffix}", f"tokenizer{suffix}")
            yield EncoderOutput(channel, encoder, tokenizer, "last", encoder.config.hidden_size, WINDOWS[i])

    def arguments(self, conditioning: Conditioning, negative: str, guidance: float) -> dict[str, Any]:
        """Ask for the very size as well: else the pipeline draws the nearest of its own."""
        return super().arguments(conditioning, negative, guidance) | {"use_resolution_binning": False}

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {"bert": values["prompt_embeds"], "t5": values["prompt_embeds_2"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        joined = {}
        for name, suffix in (("bert", ""), ("t5", "_2")):
            channel = conditioning.channels[name]
            joined[f"prompt_embeds{suffix}"] = channel.states
            joined[f"prompt_attention_mask{suffix}"] = (channel.positions != Position.UNREAD).long()
        return joined

    @contextlib.contextmanager
    def intercepted(self, repair: Repair) -> Iterator[None]:
        """Let calls draw from repaired conditioning: the first call repairs both halves, the second gets the other.

        Raises:
            ModelError: one of the two calls has embeddings instead of text.
        """
        later: list[tuple[Any, ...]] = []
        with contextlib.ExitStack() as stack:
            both = _encode_both(self.pipe.encode_prompt)
            stack.enter_context(replace_method(self.pipe, "encode_prompt", both))
            stack.enter_context(super().intercepted(repair))
            repaired = self.pipe.encode_prompt

            def encode_prompt(*args: Any, text_encoder_index: int = 0, **named: Any) -> Any:
                if text_encoder_index == 0:
                    values = repaired(*args, **named)
                    later[:] = [values[len(HALF) :]]
                    return values[: len(HALF)]
                self.prompts_of({"prompt": None, **named})
                return later.pop()

            stack.enter_context(replace_method(self.pipe, "encode_prompt", encode_prompt))
            yield


def _encode_both(encode: Callable[..., Any]) -> Callable[..., Any]:
    """Make one call of the two, with the windows that the pipeline asks for."""

    @functools.wraps(encode)
    def encode_prompt(*args: Any, **named: Any) -> tuple[Any, ...]:
        for name in ("text_encoder_index", "max_sequence_length"):
            named.pop(name, None)
        first, second = (encode(*args, **named, text_encoder_index=i, max_sequence_length=WINDOWS[i]) for i in (0, 1))
        return (*first, *second)

    return encode_prompt
