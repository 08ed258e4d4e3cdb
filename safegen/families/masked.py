"""Families whose denoiser reads one language model's states under a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position
from safegen.families.base import Family, Values

if TYPE_CHECKING:
    from torch import Tensor


class MaskedFamily(Family):
    """The base of adapters with a single channel, of which pads are padded but never read."""

    channel: ClassVar[str]
    result: ClassVar[tuple[str, ...]] = (
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    )
    steps = 20
    guidance = 4.5
    pad_position: ClassVar[Position] = Position.UNREAD

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self.patch = int(pipe.transformer.config.patch_size)

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {self.channel: values["prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        channel = conditioning.channels[self.channel]
        mask = (channel.positions != Position.UNREAD).long()
        return {"prompt_embeds": channel.states, "prompt_attention_mask": mask}

    @property
    def size(self) -> int:
        return int(self.pipe.transformer.config.sample_size * self.pipe.vae_scale_factor)
