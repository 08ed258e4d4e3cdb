"""The base of all families: encode with the pipeline's own method, and hand the states back.

A family splits what the pipeline's `encode_prompt` returns into channels (`encoding.py`), and joins repaired channels
into the same form again: in the arguments of a call, or in the place of what `encode_prompt` returned. A prompt that is
not edited keeps every bit.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from safegen.conditioning import Conditioning, Position
from safegen.errors import ModelError, UsageError
from safegen.families import bottleneck, sizes
from safegen.families.bottleneck import Bottleneck
from safegen.families.denoiser import Received
from safegen.families.encoding import TextEncoders, Values, require_parts
from safegen.families.intercept import Branch, replace_method
from safegen.families.pictured import Kinds, PictureDrawing
from safegen.families.weights import weigh
from safegen.families.windows import fill
from safegen.prompts import emphasis
from safegen.prompts.emphasis import Marked

__all__ = ["Family", "Repair", "Values", "require_parts"]

Repair = Callable[[Conditioning], Conditioning]
# Arguments that change the text, what stands around it or the layers that are read: the directions no longer fit.
UNSUPPORTED = (
    *("prompt_2", "prompt_3", "clip_skip", "text_encoder_out_layers", "return_index"),
    *("complex_human_instruction", "system_prompt"),
)


class Family(TextEncoders):
    """An adapter that gives safegen what it needs of a pipeline.

    Args:
        pipe: a diffusers pipeline of one of the classes in `pipelines`.

    Raises:
        ModelError: a text encoder is missing, or its tokenizer gives no character offsets; or a guard is attached to
            the pipeline, so that its encoders cannot be seen.
    """

    pipelines: ClassVar[tuple[str, ...]]
    steps: int = 30
    guidance: float = 7.5
    # Whether the model's files say its steps and guidance, or its class leaves no choice.
    documented_defaults: ClassVar[bool] = False
    patch: int = 1  # side of the square of latent pixels that the denoiser takes as one
    passes_sigmas: ClassVar[bool] = False  # whether the pipeline tells its scheduler the noise of every step
    negative: bool = True  # whether the model has a negative branch, and its class takes a negative prompt
    # What a call passes beside its prompt that goes into every further encoding as well.
    carried: ClassVar[tuple[str, ...]] = ("max_sequence_length", "clean_caption")
    encodes_negative_apart: ClassVar[bool] = False  # whether encode_prompt is called once more, for the negative prompt
    blocks: ClassVar[tuple[str, ...]] = ()  # the denoiser's middle block, or its lists of blocks; none if not known
    output_sign: ClassVar[int] = 1  # -1 where the pipeline turns the denoiser's output round
    negative_first: ClassVar[bool] = True  # whether the negative half comes first, where both halves are one batch
    # For a loaded class, the classes that draw from a picture and from a picture with a mask, around the same parts.
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {}

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self.negative = type(self).negative and "negative_prompt" in self._call

    @abc.abstractmethod
    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        """Join channels into the pipeline's arguments for the positive prompt: the inverse of `split`."""

    @property
    def reports_steps(self) -> bool:
        """Whether the pipeline reports its progress to `callback_on_step_end`."""
        return "callback_on_step_end" in self._call

    @property
    def size(self) -> int:
        """The side of the pictures that the model was trained on, in pixels."""
        return 1024

    @property
    def step(self) -> int:
        """The number of pixels that both sides of its pictures are multiples of."""
        return math.lcm(sizes.STEP, int(self.pipe.vae_scale_factor) * self.patch)

    @functools.cached_property
    def drawing(self) -> PictureDrawing:
        """The pipeline's way to draw from pictures."""
        return self.find_drawing(self.picture_kinds.get(type(self.pipe).__name__, ("", "")))

    def find_drawing(self, kinds: Kinds) -> PictureDrawing:
        """Find how the pipeline draws from pictures, given the classes that do so."""
        return PictureDrawing(self.pipe, kinds, self.size, self.step)

    @property
    def bottleneck(self) -> Bottleneck:
        """The place in the denoiser where latent directions are added.

        Raises:
            ModelError: there is none.
        """
        return bottleneck.find(self.pipe, self.blocks)

    def picture_tokens(self, received: Received) -> slice:
        """Give the place of the picture's tokens in a block's states, where the text's are among them."""
        return slice(None)

    def timing(self, steps: int) -> dict[str, Any]:
        """Give the keyword arguments that make the pipeline draw in so many steps."""
        return {"num_inference_steps": steps}

    def arguments(self, conditioning: Conditioning, negative: str, guidance: float) -> dict[str, Any]:
        """Give the keyword arguments that make the pipeline draw from `conditioning`, guidance included.

        Raises:
            UsageError: there is a negative prompt and the model has no negative branch, or the prompts differ in length
                and the denoiser takes one length at a time.
        """
        self._check_lengths(conditioning)
        if negative and not self.negative:
            raise UsageError(
                f"a {type(self.pipe).__name__} has no negative branch",
                "Leave out --negative; its guidance is part of the model.",
            )
        arguments = self.join(conditioning, self.default_request)
        if "guidance_scale" in self._call:
            arguments["guidance_scale"] = guidance
        if not self.negative or not self.guided(guidance):
            return arguments
        absent = self.negative_arguments(negative, arguments)
        # Some pipelines have an empty negative prompt by default, and take either a text or its embedding, not both.
        return {**arguments, "negative_prompt": None, **{f"negative_{name}": v for name, v in absent.items()}}

    def _check_lengths(self, conditioning: Conditioning) -> None:
        if not self.variable_length and any(
            bool((c.positions == Position.ABSENT).any()) for c in conditioning.channels.values()
        ):
            raise UsageError(
                "prompts that fill different numbers of windows cannot be drawn together", "Draw them apart."
            )

    def guided(self, guidance: float) -> bool:
        """Tell whether the pipeline uses a negative prompt at this guidance."""
        return guidance > 1

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        """Give the arguments for the negative prompt, without their prefix `negative_`; it is never sanitized."""
        read = emphasis.parse(negative) if self.weighted else Marked(negative)
        plain = self.join(self._negative_conditioning(read, positive), self.default_request)
        return {name: value.expand_as(positive[name]) for name, value in plain.items()}

    def _negative_conditioning(self, read: Marked, positive: Values) -> Conditioning:
        """Encode the negative prompt with its weights, filled up to the positive one's windows with empty ones."""
        encoded = self.encode([read.text])
        if self.windows > 1:
            one = self.join(encoded, self.default_request)["prompt_embeds"].shape[1]
            if (count := positive["prompt_embeds"].shape[1] // one) > 1:
                return fill(read.text, read.weights, self.outputs, count, self.encode)
        return weigh(encoded, [read.weights])

    def refit(self, joined: Values, request: Values) -> dict[str, Any]:
        """Give the negative prompt's values anew, where they have to be as long as the repaired prompt's."""
        return {}

    @contextlib.contextmanager
    def intercepted(self, repair: Repair) -> Iterator[None]:
        """Let calls draw from repaired conditioning; **changes the pipeline while the context lasts**."""
        inner, branch = self.pipe.encode_prompt, Branch()
        signature = inspect.signature(inner)

        def encode_prompt(*args: Any, **named: Any) -> Any:
            bound = signature.bind(*args, **named)
            bound.apply_defaults()
            request = dict(bound.arguments)
            if self.encodes_negative_apart and branch.is_negative(request["prompt"]):
                return inner(*args, **named)
            prompts = self.prompts_of(request)
            copies = request.get("num_images_per_prompt") or request.get("num_videos_per_prompt") or 1
            result = inner(*args, **named)
            values = self._named(result)
            mended = self.mended([p for p in prompts for _ in range(copies)], values, request, repair)
            return self._unnamed(values | mended) if mended else result

        with contextlib.ExitStack() as stack:
            stack.enter_context(replace_method(self.pipe, "encode_prompt", encode_prompt))
            if self.encodes_negative_apart:
                stack.enter_context(replace_method(self.pipe, "check_inputs", branch.watching(self.pipe.check_inputs)))
            yield

    def mended(self, prompts: Sequence[str], values: Values, request: Values, repair: Repair) -> dict[str, Any]:
        """Give what takes the place of values that encode_prompt returned; nothing where the repair leaves them.

        Args:
            prompts: one for every row of the states.
            values: what encode_prompt returned.
            request: what it was asked for.
            repair: what is done to the conditioning.
        """
        plain = self.describe(prompts, values, request)
        with self._carrying(request):
            repaired = repair(plain)
        if repaired is plain:
            return {}
        self._check_lengths(repaired)
        joined = self.join(repaired, request)
        return joined | self.refit(joined, request)

    @contextlib.contextmanager
    def _carrying(self, request: Values) -> Iterator[None]:
        """Encode variants of a call's prompt as that call encodes the prompt itself."""
        usual = self.default_request
        self.default_request = usual | {name: request[name] for name in self.carried if name in request}
        try:
            yield
        finally:
            self.default_request = usual

    def prompts_of(self, request: Values) -> list[str]:
        """Take the prompts from the arguments of a call to `encode_prompt`.

        Raises:
            ModelError: the call has embeddings instead of text, or anything else that the guard would not see.
        """
        given = [name for name in self.result if not name.startswith("negative") and request.get(name) is not None]
        if given or request["prompt"] is None:
            raise ModelError("a guarded pipeline needs the prompt as text", f"Pass prompt, not {given or 'nothing'}.")
        prompt = request["prompt"]
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        for name in UNSUPPORTED:
            value = request.get(name)
            if value is not None and value not in (prompt, prompts, self.default_request.get(name)):
                raise ModelError(
                    f"a guarded pipeline cannot take {name}", "Its directions belong to one text and to fixed layers."
                )
        if request.get("lora_scale") not in (None, 1) and self.adapted:
            raise ModelError(
                "a guarded pipeline cannot scale a LoRA of its text encoder from call to call",
                "Its directions belong to one scale: pipe.set_adapters(...) before the guard is attached.",
            )
        return prompts
