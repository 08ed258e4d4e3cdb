"""Modular pipelines: guarded behind the block that encodes text, by the family of their classic form.

A modular pipeline has no `encode_prompt`. One of its blocks reads the prompt from the state of a call and writes
embeddings into it, and later blocks hand those to the denoiser. For a while, a guard's block stands in that one's
place: it lets it encode, and repairs what it has written. What has to be known of the encoders comes from the classic
pipeline of the same name, put around the very same parts, so fingerprints and directions are the same in both forms.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from safegen.errors import ModelError
from safegen.families.base import Family, Repair, require_parts

LIBRARY = "diffusers.modular_pipelines."  # blocks from here are known; of these encoders write, and others hand on
FIELDS = "denoiser_input_fields"  # the kind of values that blocks hand to the denoiser
# Of guiders: how far a picture is led away from the negative prompt.
SCALES = ("guidance_scale", "guidance_scales", "adaptive_projected_guidance_scale")


@dataclass(frozen=True)
class Form:
    """The classic form of a modular pipeline.

    Attributes:
        kind: its class; empty if there is none.
        step: the class of the block that encodes text.
        told: settings of that block, by the names that they have in the classic form.
    """

    kind: str
    step: str
    told: Mapping[str, str] = field(default_factory=dict)


QWEN = {name: name for name in ("prompt_template_encode", "prompt_template_encode_start_idx", "tokenizer_max_length")}
FORMS: Mapping[str, Form] = {
    f"{name}ModularPipeline": form
    for name, form in {
        "StableDiffusionXL": Form("StableDiffusionXLPipeline", "StableDiffusionXLTextEncoderStep"),
        "StableDiffusion3": Form("StableDiffusion3Pipeline", "StableDiffusion3TextEncoderStep"),
        "Flux": Form("FluxPipeline", "FluxTextEncoderStep"),
        "FluxKontext": Form("FluxKontextPipeline", "FluxTextEncoderStep"),
        # The system message of the block has a space where that of the classic form has a line's end.
        "Flux2": Form("Flux2Pipeline", "Flux2TextEncoderStep", {"system_message": "DEFAULT_SYSTEM_MESSAGE"}),
        "Flux2Klein": Form("Flux2KleinPipeline", "Flux2KleinTextEncoderStep"),
        "Flux2KleinBase": Form("Flux2KleinPipeline", "Flux2KleinBaseTextEncoderStep"),
        "QwenImage": Form("QwenImagePipeline", "QwenImageTextEncoderStep", QWEN),
        "ZImage": Form("ZImagePipeline", "ZImageTextEncoderStep"),
        "ErnieImage": Form("ErnieImagePipeline", "ErnieImageTextEncoderStep"),
        "Flux3": Form("", "Flux3TextEncoderStep"),
        "Flux3Distilled": Form("", "Flux3DistilledTextEncoderStep"),
    }.items()
}


def kind_of(name: str) -> str:
    """Name the class that stands for a pipeline's class: of a modular one its classic form, where it has one."""
    return FORMS[name].kind or name if name in FORMS else name


def is_modular(pipe: Any) -> bool:
    """Tell whether a pipeline is a modular one whose classic form is known."""
    return type(pipe).__name__ in FORMS


def classic(pipe: Any) -> Any:
    """Put the classic form around the parts of a modular pipeline; neither changes the other.

    Raises:
        ModelError: the denoiser is missing, or the block that encodes text, or that one has others to choose from.
    """
    import diffusers

    form, (parent, name) = FORMS[type(pipe).__name__], _place(pipe)
    steps = list(_leaves({name: _unguarded(parent.sub_blocks[name])}).values())
    if len(steps) != 1:
        raise ModelError(
            f"the block {name} of the {type(pipe).__name__} chooses from {len(steps)} blocks {form.step}",
            "Guard a pipeline with one; which of them encodes a prompt is not known.",
        )
    (step,) = steps
    if not form.kind:
        require_parts(pipe, "transformer")
        return BlockPipeline(pipe, step)
    kind, parts = getattr(diffusers, form.kind), {**pipe.config, **pipe.components}
    asked = list(inspect.signature(kind.__init__).parameters.values())[1:]
    require_parts(pipe, *{"unet", "transformer"}.intersection(one.name for one in asked))
    made = kind(**{one.name: parts.get(one.name) for one in asked if one.name in parts or one.default is one.empty})
    for own, told in form.told.items():
        setattr(made, own, getattr(step, told))
    return made


class BlockPipeline:
    """A modular pipeline that has no classic form, with its block in the place of an `encode_prompt`.

    To the block it is a pipeline without a negative branch, and it has all parts of the modular one.
    """

    requires_unconditional_embeds, guider = False, None

    def __init__(self, pipe: Any, step: Any) -> None:
        self.modular, self.step = pipe, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.modular, name)

    def __call__(self, **asked: Any) -> Any:
        """Draw with the modular pipeline."""
        return self.modular(**asked)

    def encode_prompt(self, prompt: Any, **asked: Any) -> Any:
        """Encode one prompt, and give what the block has written."""
        from diffusers.modular_pipelines import PipelineState

        (text,) = [prompt] if isinstance(prompt, str) else prompt
        state = PipelineState()
        for one in self.step.inputs:
            state.set(one.name, asked.get(one.name, one.default))
        state.set("prompt", text)
        self.step(self, state)
        return state.get("prompt_embeds")


@contextlib.contextmanager
def intercepted(pipe: Any, family: Family, repair: Repair) -> Iterator[None]:
    """Let calls draw from repaired conditioning; **changes the modular pipeline while the context lasts**.

    Args:
        pipe: the modular pipeline.
        family: the family of its classic form.
        repair: what is done to the conditioning of every call.

    Raises:
        ModelError: see `_place` and `_check_blocks`.
    """
    parent, name = _place(pipe)
    step, fields = parent.sub_blocks[name], _fields(pipe)
    _check_blocks(pipe, set(family.result), fields)
    own = parent.sub_blocks[name] = GuardedStep(step, family, fields, repair)
    try:
        yield
    finally:
        parent.sub_blocks[name] = _without(parent.sub_blocks[name], own)


class GuardedStep:
    """A block that lets another one encode the prompt, and repairs what that has written.

    To its pipeline it looks like the other. A deep copy is one of the other alone: a guard belongs to one pipeline.
    """

    def __init__(self, step: Any, family: Family, fields: set[str], repair: Repair) -> None:
        self.step, self._family, self._fields, self._repair = step, family, fields, repair
        names = {one.name for one in step.expected_components} - {"guider"}
        self._parts = {name: getattr(family.pipe, name, None) for name in sorted(names)}

    def __getattr__(self, name: str) -> Any:
        if name == "step":  # of an object that is not made yet
            raise AttributeError(name)
        return getattr(self.step, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.step, memo)

    def __call__(self, pipe: Any, state: Any) -> Any:
        """Encode the prompt of a call, and repair its states.

        Raises:
            ModelError: the call has no text, or anything else that the guard would not see; or a tokenizer or an
                encoder is another than when the guard was attached.
        """
        if other := [name for name, part in self._parts.items() if getattr(pipe, name, None) is not part]:
            raise ModelError(
                f"the {', '.join(other)} of this {type(pipe).__name__} is not the one that the guard knows",
                "Detach the guard, and attach it anew: it belongs to the encoders that it was attached with.",
            )
        _check_guider(getattr(pipe, "guider", None), state)
        request = self._request(state)
        prompts = self._family.prompts_of(request)  # first: Z-Image's block writes its template into a list of them
        result = self.step(pipe, state)
        values = {name: state.get(name) for name in self._family.result}
        for name, value in self._family.mended(prompts, values, request, self._repair).items():
            # A mask that leaves nothing out is None to classic pipelines; blocks count on one.
            state.set(name, values[name].new_ones(state.get("prompt_embeds").shape[:2]) if value is None else value)
        return result

    def _request(self, state: Any) -> dict[str, Any]:
        """Give what a call asks for, by the names of the arguments of `encode_prompt`."""
        told = state.get_by_kwargs(FIELDS)
        if unknown := [name for name, value in told.items() if value is not None and name not in self._fields]:
            raise ModelError(
                f"a guarded pipeline cannot take {', '.join(unknown)}", "It is not known what that tells the denoiser."
            )
        asked = {one.name: state.get(one.name) for one in self.step.inputs}
        extras = asked.get("joint_attention_kwargs") or asked.get("cross_attention_kwargs") or {}
        named = {name: value for name, value in asked.items() if value is not None}
        return self._family.default_request | {"prompt": None, "lora_scale": extras.get("scale")} | named


def _check_guider(guider: Any, state: Any) -> None:
    """Check that pictures are led away from a call's negative prompt, which no guard repairs, and never to it.

    From the predictions c with the prompt and u with the negative one a guider draws u + s (c - u), of which some is u
    while the scale s is below 1; in the original formulation, c + s (c - u), while it is below 0. Whether it is on
    now says little: SDXL's blocks turn it on later.

    Raises:
        ModelError: they would be led to it.
    """
    least = 0.0 if getattr(guider, "use_original_formulation", False) else 1.0
    scales = [getattr(guider, name, None) for name in SCALES]
    flat = [one for scale in scales for one in (scale if isinstance(scale, (list, tuple)) else [scale])]
    low = [scale for scale in flat if scale is not None and not scale >= least]
    named = [name for name, value in state.values.items() if name.startswith("negative_prompt") and _says(value)]
    if low and named:
        raise ModelError(
            f"with a guidance scale of {low[0]} a guarded pipeline would draw its {', '.join(named)}",
            f"Leave it out, or give the guider a scale of at least {least:g}.",
        )


def _says(value: Any) -> bool:
    """Tell whether a negative prompt, or its embedding, says anything."""
    texts = [value] if isinstance(value, str) else value
    return value is not None and (not isinstance(texts, (list, tuple)) or any(text != "" for text in texts))


def _without(block: Any, own: GuardedStep) -> Any:
    """Take the block of one guard out of those that stand around the encoder's; the others stay."""
    if block is own:
        return own.step
    if isinstance(block, GuardedStep):
        block.step = _without(block.step, own)
    return block


def _unguarded(block: Any) -> Any:
    return _unguarded(block.step) if isinstance(block, GuardedStep) else block


def _place(pipe: Any) -> tuple[Any, str]:
    """Find where the text encoder's block stands: the block that it is part of, and its name there.

    A choice of blocks that might pass it over stands for it, so that a call without a prompt does not pass over the
    guard.

    Raises:
        ModelError: there is none, or more than one.
    """
    kind = FORMS[type(pipe).__name__].step
    places = list(_places(pipe._blocks, kind))
    if len(places) != 1:
        raise ModelError(
            f"the {type(pipe).__name__} has {len(places) or 'no'} blocks {kind} of diffusers' own; it has to be one",
            "Guard the pipeline that both encodes the prompt and draws, made of the blocks of its class.",
        )
    return places[0]


def _places(blocks: Any, kind: str) -> Iterator[tuple[Any, str]]:
    from diffusers.modular_pipelines import ConditionalPipelineBlocks

    for name, block in blocks.sub_blocks.items():
        leaves = _leaves({name: block}).values()
        if all(_is(leaf, kind) for leaf in leaves):
            yield blocks, name
        elif not isinstance(block, ConditionalPipelineBlocks):
            yield from _places(block, kind)


def _leaves(blocks: Mapping[str, Any]) -> dict[str, Any]:
    """Give the blocks that do the work, by their names, however deep they lie in others."""
    found: dict[str, Any] = {}
    for name, block in blocks.items():
        inner = _leaves({f"{name}.{own}": other for own, other in block.sub_blocks.items()})
        found |= inner or {name: block}
    return found


def _is(block: Any, kind: str) -> bool:
    block = _unguarded(block)  # two guards may be attached
    return type(block).__name__ == kind and type(block).__module__.startswith(LIBRARY)


def _values(block: Any) -> list[Any]:
    return [*block.inputs, *block.intermediate_outputs]


def _fields(pipe: Any) -> set[str]:
    """Name what a pipeline's blocks hand to its denoiser."""
    values = [value for block in _leaves(pipe._blocks.sub_blocks).values() for value in _values(block)]
    return {value.name for value in values if value.name and value.kwargs_type == FIELDS}


def _check_blocks(pipe: Any, embeddings: set[str], fields: set[str]) -> None:
    """Check that no block but the guarded one can write what the denoiser is told of a text.

    Diffusers' other encoders could, where they name the embeddings, and so could any block that is not diffusers' own
    and names whatever the denoiser is told.

    Raises:
        ModelError: one could.
    """
    kind = FORMS[type(pipe).__name__].step
    for name, block in _leaves(pipe._blocks.sub_blocks).items():
        module = type(block).__module__
        if _is(block, kind) or (module.startswith(LIBRARY) and not module.endswith(".encoders")):
            continue
        known, values = module.startswith(LIBRARY), _values(block)
        told = {value.name or FIELDS for value in values if value.kwargs_type == FIELDS and not known}
        watched = embeddings if known else embeddings | fields
        if named := told | watched.intersection(value.name for value in values):
            raise ModelError(
                f"a guarded pipeline cannot have the block {name} ({type(block).__name__})",
                f"It names {', '.join(sorted(named))}, and what it tells the denoiser is not known.",
            )
