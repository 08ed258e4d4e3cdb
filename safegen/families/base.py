"""The base of all families: encode with the pipeline's own method, name every position, hand the states back.

A family splits what the pipeline's `encode_prompt` returns into channels, one per output of a text
encoder, and joins repaired channels into the same form again. Everything is encoded as diffusers would
encode it, so a prompt that is not edited keeps every bit.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Channel, Conditioning, Position, Token
from safegen.errors import ModelError, UsageError
from safegen.families import bottleneck, shortcuts, sizes, textual_inversion
from safegen.families.bottleneck import Bottleneck
from safegen.families.denoiser import Received
from safegen.families.intercept import Branch, is_replaced, replace_method
from safegen.families.outputs import EncoderOutput
from safegen.families.pictured import Kinds, PictureDrawing
from safegen.families.textual_inversion import tokens_read
from safegen.families.tokens import Text, find_unseen, pad_tokens
from safegen.families.weights import cut_weights, weigh
from safegen.families.windows import WindowedPrompts, cut
from safegen.prompts import emphasis
from safegen.prompts.emphasis import Marked

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.prompts.prompt import Prompt

Repair = Callable[[Conditioning], Conditioning]
Values = Mapping[str, Any]  # what encode_prompt returns, or its arguments, by name
# Marks in the names of classes that need a picture to draw from.
PICTURED = (
    *("Img2Img", "Inpaint", "Control", "Fill", "Adapter", "Upscale", "Pix2Pix", "Depth2Img"),
    *("Edit", "Layered"),
)
# Arguments that change the text, what stands around it or the layers that are read: the directions no longer fit.
UNSUPPORTED = (
    *("prompt_2", "prompt_3", "clip_skip", "text_encoder_out_layers", "return_index"),
    *("complex_human_instruction", "system_prompt"),
)


class Family(abc.ABC):
    """An adapter that gives safegen what it needs of a pipeline.

    Args:
        pipe: a diffusers pipeline of one of the classes in `pipelines`.

    Raises:
        ModelError: a text encoder is missing, or its tokenizer gives no character offsets; or a guard is attached to
            the pipeline, so that its encoders cannot be seen.
    """

    pipelines: ClassVar[tuple[str, ...]]
    result: ClassVar[tuple[str, ...]]  # what encode_prompt returns, by the names of the pipeline's arguments
    steps: int = 30
    guidance: float = 7.5
    documented_defaults: ClassVar[bool] = (
        False  # whether the model's files say its steps and guidance, or its class leaves no choice
    )
    patch: int = 1  # side of the square of latent pixels that the denoiser takes as one
    passes_sigmas: ClassVar[bool] = False  # whether the pipeline tells its scheduler the noise of every step
    negative: bool = True  # whether the model has a negative branch, and its class takes a negative prompt
    variable_length: ClassVar[bool] = False  # whether embeddings are as long as their prompts
    windows: ClassVar[int] = 1  # how many windows of the text encoder a prompt may fill
    weighted: ClassVar[bool] = False  # whether marks of weight are taken out of prompts, and obeyed
    # What a call passes beside its prompt that goes into every further encoding as well.
    carried: ClassVar[tuple[str, ...]] = ("max_sequence_length", "clean_caption")
    encodes_negative_apart: ClassVar[bool] = False  # whether encode_prompt is called once more, for the negative prompt
    blocks: ClassVar[tuple[str, ...]] = ()  # the denoiser's middle block, or its lists of blocks; none if not known
    output_sign: ClassVar[int] = 1  # -1 where the pipeline turns the denoiser's output round
    negative_first: ClassVar[bool] = True  # whether the negative half comes first, where both halves are one batch
    # For a loaded class, the classes that draw from a picture and from a picture with a mask, around the same parts.
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {}
    pad_position: ClassVar[Position] = Position.PAD  # UNREAD where the denoiser masks pads, ABSENT where they are cut
    read_pads: ClassVar[int] = 0  # how many pads the denoiser reads of those that it masks

    def __init__(self, pipe: Any) -> None:
        if is_replaced(pipe, "encode_prompt"):
            raise ModelError(
                f"a guard is attached to this {type(pipe).__name__} already",
                "Detach it first; one guard takes all concepts: Guard(...) with their names.",
            )
        self.pipe = pipe
        self._encode_prompt = pipe.encode_prompt  # the pipeline's own, even once a guard is attached
        self._call = inspect.signature(type(pipe).__call__).parameters
        self.negative = type(self).negative and "negative_prompt" in self._call
        self.default_request = self._default_request()
        self.outputs = tuple(self.find_outputs())

    @abc.abstractmethod
    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find every output of a text encoder that reaches the denoiser."""

    @abc.abstractmethod
    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        """Split what encode_prompt returned into states (B, T, D) and pooled vectors (B, P), by channel."""

    @abc.abstractmethod
    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        """Join channels into the pipeline's arguments for the positive prompt: the inverse of `split`."""

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Give the prompts as the tokenizer gets them."""
        return [Text.plain(prompt) for prompt in prompts]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        """Give the number of tokens at which the tokenizer cuts a text."""
        return output.window

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Keep those of a text's tokens whose states the pipeline hands on."""
        return row

    def padded(self, output: EncoderOutput, row: tuple[Token, ...], length: int) -> tuple[Token, ...]:
        """Fill a text's tokens up to the number of its states."""
        return pad_tokens(output.tokenizer, row, length, self.pad_position)

    def check_from_text(self) -> None:
        """Check that the pipeline draws from text alone, without a picture to begin with.

        Raises:
            ModelError: its class, or the number of channels that its denoiser takes, says that it needs a picture; or
                it draws in a way of its own.
        """
        kind = type(self.pipe).__name__
        if any(mark in kind for mark in PICTURED):
            raise ModelError(
                f"a {kind} draws from a picture, not from text alone",
                "Call it yourself, with a guard attached: safegen.Guard().attached(pipe).",
            )
        if "prompt_embeds" not in self._call or not hasattr(self.pipe, "image_processor"):
            raise ModelError(
                f"a {kind} takes no embeddings, or gives no pictures that could be written",
                "Call it yourself, with a guard attached: safegen.Guard().attached(pipe).",
            )
        parts = {name: getattr(self.pipe, name, None) for name in ("unet", "transformer", "vae")}
        config = {name: part.config for name, part in parts.items() if part is not None}
        vae = config.pop("vae", {})
        latents = vae.get("latent_channels") or vae.get("z_dim")
        for name, own in config.items():
            taken = own.get("in_channels")
            # Transformers may take four neighbouring pixels as one.
            if latents and taken and taken not in (latents, latents * 4 if name == "transformer" else latents):
                raise ModelError(
                    f"this {kind} draws from a picture, not from text alone: its {name} takes {taken} channels, "
                    f"and latents have {latents}",
                    "Take the text-to-image model of its kind.",
                )

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

    def learned_words(self, text: str) -> list[tuple[int, int]]:
        """Find the textual inversions that a text names; the text does not show what they mean."""
        return sorted({span for output in self.outputs for span in textual_inversion.found(output.tokenizer, text)})

    @property
    def adapted(self) -> bool:
        """Whether a LoRA changes what an encoder makes of text."""
        return any(output.adapted for output in self.outputs)

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

    def fingerprints(self) -> dict[str, str]:
        """Give the fingerprint of each channel's encoder and output; direction files carry the same."""
        return {output.channel: output.fingerprint for output in self.outputs}

    def encode(self, prompts: Sequence[str], *, gradients: bool = False, **asked: Any) -> Conditioning:
        """Encode prompts as the denoiser would receive them, in every channel.

        Args:
            prompts: any number.
            gradients: whether the states keep how they were computed, so that gradients run back from them.
            asked: arguments of `encode_prompt` that replace its usual ones.
        """
        import torch

        request = self.default_request | {"prompt": list(prompts), "device": self.device} | asked
        with torch.set_grad_enabled(gradients):
            values = self._named(self._encode_prompt(**request))
        return self.describe(prompts, values, request)

    def encode_windows(self, prompts: Sequence[Prompt]) -> WindowedPrompts:
        """Encode prompts in as many windows as they need, up to what the family allows."""
        return WindowedPrompts.of(prompts, self.outputs, self.windows, self.encode)

    def encode_words(self, prompts: Sequence[str], pads: int = 0) -> Conditioning:
        """Encode like `encode`, but cheaper, where no other state depends on pads: with few pads or none.

        Prompts that begin as the first one does are cheapest. States are those of `encode` but for rounding.

        Args:
            prompts: any number.
            pads: how many pads stand for all.
        """
        pads = pads if self.pad_position is Position.PAD else self.read_pads
        encoders = {id(output.encoder): output for output in self.outputs if not output.layer.endswith("unmasked")}
        with contextlib.ExitStack() as stack:
            for output in encoders.values():
                stack.enter_context(shortcuts.taken(output, pads))
            found = self.encode(prompts).without_gaps()
        # A word that is spelled as the pad is may have been left out with the pads.
        whole = all(bool(channel.states.isfinite().all()) for channel in found.channels.values())
        return found if whole else self.encode(prompts)

    def _default_request(self) -> dict[str, Any]:
        """Give the arguments of `encode_prompt`, besides prompts, when the pipeline is called with prompts alone."""
        parameters = inspect.signature(self._encode_prompt).parameters
        usual = {name: self._call[name].default for name in parameters if name in self._call}
        if "do_classifier_free_guidance" in parameters:
            usual["do_classifier_free_guidance"] = False
        return {name: value for name, value in usual.items() if value is not inspect.Parameter.empty}

    @property
    def device(self) -> Any:
        """The device of the text encoders; the pipeline is asked only if they are offloaded, as it answers slowly."""
        encoder = self.outputs[0].encoder
        return self.pipe._execution_device if hasattr(encoder, "_hf_hook") else encoder.device

    def _named(self, result: Any) -> dict[str, Any]:
        return dict(zip(self.result, result, strict=True)) if len(self.result) > 1 else {self.result[0]: result}

    def _unnamed(self, values: Values) -> Any:
        """Give what encode_prompt would return."""
        return tuple(values[name] for name in self.result) if len(self.result) > 1 else values[self.result[0]]

    def describe(self, prompts: Sequence[str], values: Values, request: Values) -> Conditioning:
        """Name the positions of already encoded states.

        Raises:
            ModelError: the number of states does not fit the number of prompts or tokens.
        """
        texts, states = self.texts(prompts, request), self.split(values, request)
        channels = {r.channel: self._channel(r, texts, states[r.channel], request) for r in self.outputs}
        # Spans count in the text that the encoder reads, where that is stripped or cleaned.
        read = (p if p.lower() == t.prompt.lower() else t.prompt for p, t in zip(prompts, texts, strict=True))
        return Conditioning(tuple(read), channels)

    def _channel(self, output: EncoderOutput, texts: Sequence[Text], states: Tensor, request: Values) -> Channel:
        import torch

        seen = tokens_read(self.pipe, output.tokenizer, texts, self.max_length(output, request))
        rows = [self.kept_tokens(row, request) for row in seen]
        truncated = tuple(find_unseen(text, row) for text, row in zip(texts, rows, strict=True))
        lengths = tuple(sum(t.position is Position.TOKEN for t in row) for row in rows)
        if output.pooled:
            positions = torch.full((len(states), 1), int(Position.POOLED), device=states.device)
            return Channel(states.unsqueeze(1), positions, ((),) * len(rows), truncated, lengths)
        if len(states) != len(rows) or states.shape[1] < max(map(len, rows)):
            raise ModelError(
                f"{type(self.pipe).__name__} made {tuple(states.shape)} states of {len(rows)} prompts "
                f"with up to {max(map(len, rows))} tokens",
                "This version of diffusers encodes prompts in another way than safegen knows.",
            )
        rows = [self.padded(output, row, states.shape[1]) for row in rows]
        positions = torch.tensor([[t.position for t in row] for row in rows], device=states.device)
        return Channel(states, positions, tuple(rows), truncated, lengths)

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
        count = 1
        if self.windows > 1:
            count = (
                positive["prompt_embeds"].shape[1] // self.join(encoded, self.default_request)["prompt_embeds"].shape[1]
            )
        if count == 1:
            return weigh(encoded, [read.weights])
        spans = cut(read.text, self.outputs, count)
        spans += [(len(read.text), len(read.text))] * (count - len(spans))
        rows = self.encode([read.text[slice(*span)] for span in spans])
        rows = weigh(rows, [cut_weights(read.weights, span) for span in spans])
        first, *rest = [rows.only(row) for row in range(count)]
        return first.abreast(rest, read.text, [0] * count)

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


def require_parts(pipe: Any, *names: str) -> tuple[Any, ...]:
    """Give parts of a pipeline by their names.

    Raises:
        ModelError: a part was not loaded.
    """
    for name in names:
        if getattr(pipe, name, None) is None:
            raise ModelError(
                f"the {type(pipe).__name__} has no {name}", "Load it whole: without its encoders it cannot be guarded."
            )
    return tuple(getattr(pipe, name) for name in names)
