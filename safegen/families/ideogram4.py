"""Ideogram 4: thirteen layers of a Qwen3-VL, packed with room for the picture into one sequence."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position, Token
from safegen.families.base import Values, require_parts
from safegen.families.outputs import EncoderOutput
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class Ideogram4(SingleFamily):
    """Adapter around an `Ideogram4Pipeline`, which takes no embeddings: it draws behind a guard that is attached.

    Where its own language model rewrites the prompt first (`prompt_upsampling`), what that has written is guarded.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("Ideogram4Pipeline",)
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "position_ids", "segment_ids", "indicator")
    channel: ClassVar[str] = "qwen"
    output_sign: ClassVar[int] = -1
    pad_position: ClassVar[Position] = Position.UNREAD
    patch = 2
    steps = 48
    guidance = 7.0

    def _default_request(self) -> dict[str, Any]:
        return {**super()._default_request(), "grid_h": 1, "grid_w": 1}  # no text depends on the picture's size

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the layers that the pipeline takes, put one after the other in every state."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        layers = inspect.getmodule(type(self.pipe)).QWEN3_VL_ACTIVATION_LAYERS  # type: ignore[union-attr]
        width = len(layers) * encoder.config.get_text_config().hidden_size
        layer = f"layers {' '.join(map(str, layers))}"
        yield EncoderOutput(self.channel, encoder, tokenizer, layer, width, self.window)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the chat template."""
        head = self._rendered("\0").split("\0")[0]
        return [Text.inside(head, prompt, self._rendered(prompt)) for prompt in prompts]

    def _rendered(self, prompt: str) -> str:
        messages = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        return str(self.pipe.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def padded(self, output: EncoderOutput, row: tuple[Token, ...], length: int) -> tuple[Token, ...]:
        """Fill the beginning, on whichever side the tokenizer puts pads."""
        return (*(Token("[pad]", self.pad_position),) * (length - len(row)), *row)

    def encode(self, prompts: Sequence[str], **asked: Any) -> Conditioning:
        """Encode prompts without the thousands of pads before them, which no state depends on, and put these back."""
        import torch

        whole = {**self.default_request, **asked}["max_sequence_length"]
        read = self.outputs[0].tokenizer([text.whole for text in self.texts(prompts, {})])["input_ids"]
        short = super().encode(prompts, **{**asked, "max_sequence_length": min(whole, max(map(len, read)))})
        channel = short.channels[self.channel]
        missing = whole - channel.states.shape[1]
        filled = replace(
            channel,
            states=torch.nn.functional.pad(channel.states, (0, 0, missing, 0)),
            positions=torch.nn.functional.pad(channel.positions, (missing, 0), value=int(self.pad_position)),
            tokens=tuple(self.padded(self.outputs[0], row, whole) for row in channel.tokens),
        )
        return replace(short, channels={self.channel: filled})

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {self.channel: values["prompt_embeds"][:, : request["max_sequence_length"]]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        """Join the states with room for the picture, and name the place of every position."""
        import torch

        channel = conditioning.channels[self.channel]
        states, grid = channel.states, (request["grid_h"], request["grid_w"])
        room = states.new_zeros(len(states), grid[0] * grid[1], states.shape[2])
        lengths = (channel.positions < Position.UNREAD).sum(1).tolist()
        ids = self.pipe._prepare_ids(lengths, *grid, states.shape[1], states.device)
        return dict(zip(self.result, (torch.cat([states, room], dim=1), *ids), strict=True))
