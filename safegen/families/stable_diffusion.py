"""Stable Diffusion 1.x and 2.x, and the embedded model: one text encoder, one sequence channel."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Channel, Conditioning, Position, Token
from safegen.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

CHANNEL = "text"


class StableDiffusion:
    """Adapter around a `StableDiffusionPipeline`."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)

    def __init__(self, pipe: Any) -> None:
        if pipe.tokenizer is None or pipe.text_encoder is None:
            raise ModelError("the pipeline has no text encoder to guard", "Load it with tokenizer and text_encoder.")
        if not pipe.tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(pipe.tokenizer).__name__} gives no character offsets",
                "Load the pipeline with a fast tokenizer.",
            )
        self.pipe = pipe

    @property
    def encoder_kind(self) -> str:
        """The text encoder's `model_type`."""
        return str(self.pipe.text_encoder.config.model_type)

    @property
    def _device(self) -> Any:
        """Where the text encoder runs; the pipeline is asked, which takes long, only when it is offloaded."""
        offloaded = hasattr(self.pipe.text_encoder, "_hf_hook")
        return self.pipe._execution_device if offloaded else self.pipe.text_encoder.device

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode with the pipeline's own `encode_prompt`, so that benign prompts stay bit-identical."""
        import torch

        with torch.no_grad():
            states, _ = self.pipe.encode_prompt(list(prompts), self._device, 1, do_classifier_free_guidance=False)
        return self.describe(prompts, states)

    def encode_words(self, prompts: Sequence[str]) -> Conditioning:
        """Encode without pads beyond the longest prompt, where they change no other state.

        They change none in a causal encoder, nor in one that masks them.
        """
        import torch

        encoder, tokenizer = self.pipe.text_encoder, self.pipe.tokenizer
        masked = bool(getattr(encoder.config, "use_attention_mask", False))
        if not masked and not self.encoder_kind.startswith("clip"):
            return self.encode(prompts)
        tokens = tokenizer(list(prompts), padding="longest", truncation=True, return_tensors="pt")
        tokens = tokens.to(self._device)
        with torch.no_grad():
            states = encoder(tokens.input_ids, attention_mask=tokens.attention_mask if masked else None)[0]
        return self.describe(prompts, states)

    def describe(self, prompts: Sequence[str], states: Tensor) -> Conditioning:
        """Name the positions of already encoded states (B, T, D)."""
        import torch

        tokenizer = self.pipe.tokenizer
        encoded = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=states.shape[1],
            truncation=True,
            return_offsets_mapping=True,
        )
        rows = [
            _tokens(tokenizer, text, ids, mask, offsets)
            for text, ids, mask, offsets in zip(
                prompts, encoded["input_ids"], encoded["attention_mask"], encoded["offset_mapping"], strict=True
            )
        ]
        positions = torch.tensor([[t.position for t in row] for row in rows], device=states.device)
        truncated = tuple(_unseen(tokenizer, text, row) for text, row in zip(prompts, rows, strict=True))
        return Conditioning(tuple(prompts), {CHANNEL: Channel(states, positions, tuple(rows), truncated)})

    def arguments(self, conditioning: Conditioning, negative: str, guidance: float) -> dict[str, Any]:
        """`prompt_embeds` and, under guidance, the embeddings of the negative prompt, never sanitized."""
        embeds = conditioning.channels[CHANNEL].states
        if guidance <= 1:
            return {"prompt_embeds": embeds}
        absent = self.encode([negative]).channels[CHANNEL].states
        return {"prompt_embeds": embeds, "negative_prompt_embeds": absent.expand_as(embeds)}

    @contextlib.contextmanager
    def intercepted(self, repair: Callable[[Conditioning], Conditioning]) -> Iterator[None]:
        """**Changes the pipeline while the context lasts**: `encode_prompt` returns repaired states."""
        original = self.pipe.encode_prompt

        def encode_prompt(prompt: Any, device: Any, copies: int, *rest: Any, **named: Any) -> Any:
            if prompt is None:
                raise ModelError("a guarded pipeline needs the prompt as text", "Pass prompt, not prompt_embeds.")
            prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            states, negative = original(prompt, device, copies, *rest, **named)
            repeated = [p for p in prompts for _ in range(copies)]
            conditioning = repair(self.describe(repeated, states))
            return conditioning.channels[CHANNEL].states, negative

        self.pipe.encode_prompt = encode_prompt
        try:
            yield
        finally:
            del self.pipe.encode_prompt

    @functools.cached_property
    def _fingerprint(self) -> str:
        encoder, tokenizer = self.pipe.text_encoder, self.pipe.tokenizer
        digest = hashlib.sha256(type(encoder).__name__.encode())
        digest.update(f"{tokenizer.model_max_length} {len(tokenizer)}".encode())
        for name, weight in sorted(encoder.state_dict().items()):
            # A few numbers of every tensor tell any two encoders apart, whatever the dtype.
            sample = weight.detach().flatten()[:: max(1, weight.numel() // 8)][:8]
            rounded = [f"{v:.2e}" for v in sample.float().tolist()]
            digest.update(f"{name} {tuple(weight.shape)} {rounded}".encode())
        return digest.hexdigest()

    def fingerprints(self) -> dict[str, str]:
        """The encoder's class, shapes, sampled weights and window, as one hash."""
        return {CHANNEL: self._fingerprint}


def _tokens(
    tokenizer: Any, text: str, ids: list[int], mask: list[int], offsets: list[tuple[int, int]]
) -> tuple[Token, ...]:
    last = sum(mask) - 1
    specials = set(tokenizer.all_special_ids)
    tokens = []
    for i, (token, (start, end)) in enumerate(zip(ids, offsets, strict=True)):
        if i > last:
            tokens.append(Token("[pad]", Position.PAD))
        elif i == 0 and token in specials:
            tokens.append(Token("[start]", Position.START))
        elif i == last and token in specials:
            tokens.append(Token("[end]", Position.END))
        else:
            tokens.append(Token(text[start:end], Position.TOKEN, (start, end)))
    return tuple(tokens)


def _unseen(tokenizer: Any, text: str, row: tuple[Token, ...]) -> str:
    seen = max((t.span[1] for t in row if t.span), default=0)
    if row[-1].position is Position.PAD:
        return ""
    return text[seen:].strip()
