"""Families whose denoiser reads one text encoder's states under a mask, and draws squares of a size that it names."""

from __future__ import annotations

from typing import Any, ClassVar

from safegen.conditioning import Position
from safegen.families.base import Family, Values
from safegen.families.outputs import WITH_MASK
from safegen.families.single import SingleFamily


class MaskedFamily(SingleFamily):
    """The base of PixArt's and Sana's adapters: pads are padded but never read."""

    result: ClassVar[tuple[str, ...]] = WITH_MASK
    mask: ClassVar[str] = "prompt_attention_mask"
    steps = 20
    guidance = 4.5
    pad_position: ClassVar[Position] = Position.UNREAD

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self.patch = int(pipe.transformer.config.patch_size)

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        """Encode the negative prompt once for all: it is as long as any other."""
        return Family.negative_arguments(self, negative, positive)

    @property
    def size(self) -> int:
        return int(self.pipe.transformer.config.sample_size * self.pipe.vae_scale_factor)
