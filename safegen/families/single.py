"""Families with a single channel: one layer of one text encoder, with or without a mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Channel, Conditioning, Position
from safegen.families.base import Family, Values, require_parts
from safegen.families.outputs import EncoderOutput

if TYPE_CHECKING:
    from torch import Tensor


class SingleFamily(Family):
    """The base of adapters that differ in their encoder, in its layer and in what becomes of pads."""

    channel: ClassVar[str]
    layer: ClassVar[str] = "last"
    mask: ClassVar[str] = ""  # the argument that tells the denoiser which states to read; none where it reads all

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the layer of the only encoder."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        width = encoder.config.get_text_config().hidden_size
        yield EncoderOutput(self.channel, encoder, tokenizer, self.layer, width, self.window)

    @property
    def window(self) -> int:
        """The number of tokens that the pipeline reads of a prompt, unless it is asked for another."""
        return int(self.default_request["max_sequence_length"])

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request.get("max_sequence_length") or output.window)

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {self.channel: values["prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        channel = conditioning.channels[self.channel]
        masks = {self.mask: self.mask_of(channel)} if self.mask else {}
        return {"prompt_embeds": channel.states, **masks}

    def mask_of(self, channel: Channel) -> Tensor | None:
        """Give the mask (B, T) of the states that the denoiser reads, or None where it reads all of them."""
        return (channel.positions < Position.UNREAD).long()

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        """Let the pipeline encode the negative prompt, with the positive states given: both may have to be as long."""
        prompts = [negative] * len(positive["prompt_embeds"])
        if self.encodes_negative_apart:
            return self.join(self.encode(prompts), self.default_request)
        return self._beside(positive, prompts if negative else None)

    def refit(self, joined: Values, request: Values) -> dict[str, Any]:
        if not self.variable_length or not request.get("do_classifier_free_guidance"):
            return {}
        asked = request.get("negative_prompt")
        prompts = [asked] if isinstance(asked, str) else asked
        copies = len(joined["prompt_embeds"]) // len(prompts) if prompts else 0
        each = [prompt for prompt in prompts or () for _ in range(copies)]
        return {f"negative_{name}": value for name, value in self._beside(joined, each or None).items()}

    def _beside(self, positive: Values, negatives: list[str] | None) -> dict[str, Any]:
        """Encode negative prompts beside positive states; None is what the pipeline takes for an absent one."""
        import torch

        given = {name: positive[name] for name in self.result if name in positive}
        asked = {"prompt": None, "negative_prompt": negatives, "do_classifier_free_guidance": True}
        with torch.no_grad():
            values = self._named(self._encode_prompt(**self.default_request | {"device": self.device} | given | asked))
        return {name: values[f"negative_{name}"] for name in given}
