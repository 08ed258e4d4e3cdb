"""Encoder outputs: the output of a text encoder that a channel carries, and the fingerprint that identifies it."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

from safegen.errors import ModelError
from safegen.families.textual_inversion import count_added, spell_out

# Weights on which no text output depends; on PROJECTION, only the projected one does.
ASIDE = ("lm_head.", "visual.", "vision_tower.", "multi_modal_projector.")
PROJECTION = "text_projection."
# Weights of a LoRA go into the fingerprint as a whole: they are small, and anyone can make them.
ADAPTERS = (".lora_",)
# More tokens than any encoder sees; a tokenizer without a configuration claims a larger length.
BOUNDLESS = 10**6
# What encode_prompt returns where a mask or a pooled vector goes with the states, by the names of the pipeline's
# arguments.
WITH_MASK = (
    *("prompt_embeds", "prompt_attention_mask"),
    *("negative_prompt_embeds", "negative_prompt_attention_mask"),
)
WITH_POOLED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


@dataclass(frozen=True)
class EncoderOutput:
    """One output of one text encoder, as the denoiser reads it.

    Attributes:
        channel: the channel's name in the family.
        encoder: the text encoder.
        tokenizer: the encoder's tokenizer.
        layer: what is read: `last` or `hidden -2` for a state per token, `pooled` or `projected` for one vector;
            with `unmasked` where the encoder attends to pads.
        width: the width of the states.
        window: how many tokens the encoder sees.

    Raises:
        ModelError: the tokenizer gives no character offsets, or has no length.
    """

    channel: str
    encoder: Any
    tokenizer: Any
    layer: str
    width: int
    window: int

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "is_fast", False):
            raise ModelError(
                f"the tokenizer {type(self.tokenizer).__name__} gives no character offsets",
                "Load the pipeline with a fast tokenizer.",
            )
        if self.window > BOUNDLESS:
            raise ModelError(
                f"the tokenizer {type(self.tokenizer).__name__} names no length (it says {self.window:.0e} tokens)",
                "Load the pipeline with its whole tokenizer, tokenizer_config.json included.",
            )

    @property
    def pooled(self) -> bool:
        """Whether there is one vector per prompt, and no states of words."""
        return self.layer in ("pooled", "projected")

    @property
    def kind(self) -> str:
        """The encoder's architecture, as in file names: `bert`, `clip_text_model` or `t5`."""
        return str(self.encoder.config.model_type)

    @property
    def adapted(self) -> bool:
        """Tell whether a LoRA is part of the encoder."""
        return any(hasattr(module, "lora_A") for module in self.encoder.modules())

    def spelled(self, text: str) -> str:
        """Write out a text with all vectors of its inversions, as the encoder gets it."""
        return spell_out(text, self.tokenizer)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the architecture, the output, the window and sampled weights.

        Weights are compared in bfloat16. So an encoder that is stored in half precision has the same fingerprint in
        every dtype; one that is stored in single precision gets another when it is rounded to float16 first. An encoder
        with a LoRA has another fingerprint, too, and one for every scale. The vectors of textual inversions do not
        count, because they change no other token.
        """
        extra, table = count_added(self.tokenizer), self.encoder.get_input_embeddings().weight.shape
        size = len(self.tokenizer) - extra
        digest = hashlib.sha256(f"{self.kind} {self.layer} {self.window} {size}".encode())
        weights = {canonical(name): (name, weight) for name, weight in self.encoder.state_dict().items()}
        for short, (name, stored) in sorted(weights.items()):
            if short.startswith(ASIDE) or (short.startswith(PROJECTION) and self.layer != "projected"):
                continue
            weight = _offloaded(self.encoder, name) if stored.is_meta else stored
            digest.update(
                sample_weight(name, short, weight[: len(weight) - extra] if weight.shape == table else weight)
            )
        digest.update(adapter_settings(self.encoder))
        return digest.hexdigest()


def sample_weight(name: str, short: str, weight: Any) -> bytes:
    """Write down a weight's shape and eight of its values, the same in every dtype; of a LoRA all of them."""
    import torch

    if type(weight) not in (torch.Tensor, torch.nn.Parameter):  # quantised, in a form that cannot be cut into samples
        weight = weight.dequantize()
    sample = weight.detach().flatten()[:: max(1, weight.numel() // 8)][:8]
    rounded = [f"{v:.2e}" for v in sample.bfloat16().tolist()]
    whole = _bytes(weight) if any(part in name for part in ADAPTERS) else b""
    return whole + f"{short} {tuple(weight.shape)} {rounded}".encode()


def adapter_settings(module: Any) -> bytes:
    """Write down the LoRAs in a module that are at work, with their scales."""
    found = b""
    for name, part in module.named_modules():
        if scaling := getattr(part, "scaling", None) if hasattr(part, "lora_A") else None:
            found += f"{name} {sorted(scaling.items())} {sorted(part.active_adapters)}".encode()
    return found


def canonical(name: str) -> str:
    """Strip from a weight's name what classes around the same encoder add, and what a compiler adds anywhere in it."""
    name = name.replace("_orig_mod.", "")
    for wrapper in ("model.", "text_model.", "language_model."):
        name = name.removeprefix(wrapper)
    return name


def _bytes(weight: Any) -> bytes:
    import torch

    return bytes(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _offloaded(encoder: Any, name: str) -> Any:
    """Fetch a weight that sequential offloading keeps elsewhere while it is not in use."""
    module, _, leaf = name.rpartition(".")
    return encoder.get_submodule(module)._hf_hook.weights_map[leaf]
