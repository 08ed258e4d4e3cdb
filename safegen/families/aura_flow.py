"""AuraFlow: T5's states; pads are zeros, which the denoiser reads like all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from safegen.conditioning import Channel, Position
from safegen.families.denoiser import Received
from safegen.families.outputs import WITH_MASK
from safegen.families.single import SingleFamily

if TYPE_CHECKING:
    from torch import Tensor


class AuraFlow(SingleFamily):
    """Adapter around an `AuraFlowPipeline`."""

    pipelines: ClassVar[tuple[str, ...]] = ("AuraFlowPipeline",)
    result: ClassVar[tuple[str, ...]] = WITH_MASK
    channel: ClassVar[str] = "t5"
    mask: ClassVar[str] = "prompt_attention_mask"  # asked for beside embeddings, and never used
    blocks: ClassVar[tuple[str, ...]] = ("joint_transformer_blocks", "single_transformer_blocks")
    passes_sigmas: ClassVar[bool] = True
    patch = 2
    steps = 50
    guidance = 3.5
    pad_position: ClassVar[Position] = Position.UNREAD

    def mask_of(self, channel: Channel) -> Tensor:
        """Give the mask in the pipeline's own form: a number for every number of the states, (B, T * D)."""
        read = (channel.positions < Position.UNREAD).long()
        return read.unsqueeze(-1).expand(channel.states.shape).flatten(1)

    def picture_tokens(self, received: Received) -> slice:
        """Give the last ones: the blocks of a single stream see the text before the picture."""
        height, width = received.args[0].shape[-2:]
        return slice(-(height // self.patch) * (width // self.patch), None)
