"""ERNIE-Image: the last layer but one of a Mistral 3; embeddings are as long as their prompts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position, Token
from safegen.errors import ModelError
from safegen.families.base import Repair, Values
from safegen.families.intercept import replace_method
from safegen.families.single import SingleFamily

if TYPE_CHECKING:
    from torch import Tensor


class ErnieImage(SingleFamily):
    """Adapter around an `ErnieImagePipeline`.

    Where its own language model rewrites a prompt (`use_pe`), what that has written is guarded. safegen draws without.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("ErnieImagePipeline",)
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds",)
    channel: ClassVar[str] = "mistral"
    layer: ClassVar[str] = "hidden -2"
    passes_sigmas: ClassVar[bool] = True
    variable_length: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.ABSENT
    steps = 50
    guidance = 4.0

    @property
    def window(self) -> int:
        """The length, in tokens, that the tokenizer names as its own."""
        return int(self.pipe.tokenizer.model_max_length)

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Count the token that the pipeline makes up for an empty prompt."""
        return row or (Token("[start]", Position.START),)

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        import torch

        return {self.channel: torch.nn.utils.rnn.pad_sequence(values["prompt_embeds"], batch_first=True)}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        channel = conditioning.channels[self.channel]
        counts = (channel.positions != Position.ABSENT).sum(1).tolist()
        return {"prompt_embeds": [states[:count] for states, count in zip(channel.states, counts, strict=True)]}

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        (one,) = self.join(self.encode([negative]), {})["prompt_embeds"]
        return {"prompt_embeds": [one] * len(positive["prompt_embeds"])}

    @contextlib.contextmanager
    def intercepted(self, repair: Repair) -> Iterator[None]:
        """Let calls draw from repaired conditioning, and refuse calls that encode no prompt.

        A call's second encoding is the negative prompt's. `_pad_text`, which comes next, ends with the states that the
        picture is drawn from: they have to be those of the first.
        """
        guarded: list[Tensor] = []
        inner, pad = self.pipe.encode_prompt, self.pipe._pad_text
        with super().intercepted(repair):
            repaired = self.pipe.encode_prompt

            def encode_prompt(prompt: Sequence[str], device: Any, num_images_per_prompt: int = 1) -> list[Tensor]:
                if guarded:
                    return list(inner(prompt, device, num_images_per_prompt))
                guarded.extend(repaired(prompt, device, num_images_per_prompt))
                return list(guarded)

            def pad_text(text_hiddens: Sequence[Tensor], *args: Any, **named: Any) -> Any:
                known, own = list(guarded), text_hiddens[-len(guarded) :]
                guarded.clear()
                if not known or any(one is not other for one, other in zip(known, own, strict=True)):
                    raise ModelError("a guarded pipeline needs the prompt as text", "Pass prompt, not prompt_embeds.")
                return pad(text_hiddens, *args, **named)

            with (
                replace_method(self.pipe, "encode_prompt", encode_prompt),
                replace_method(self.pipe, "_pad_text", pad_text),
            ):
                yield
