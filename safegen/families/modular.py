"""Modular pipelines: guarded behind the block that encodes text, by the family of their classic form.

A modular pipeline has no `encode_prompt`. One of its blocks reads the prompt from the state of a call and writes
embeddings into it, and later blocks hand those to the denoiser. For a while, a guard's block stands in that one's
place: it lets it encode, and repairs what it has written. What has to be known of the encoders comes from the classic
pipeline of the same name, put around the very same parts, so fingerprints and directions are the same in both forms.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from safegen.errors import ModelError
from safegen.families.base import Family, Repair, require_parts
from safegen.families.guarded_step import FIELDS, GuardedStep, unguarded, without

LIBRARY = "diffusers.modular_pipelines."  # blocks from here are known; of these encoders write, and others hand on


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
    steps = list(_leaves({name: unguarded(parent.sub_blocks[name])}).values())
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
        parent.sub_blocks[name] = without(parent.sub_blocks[name], own)


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
    block = unguarded(block)  # two guards may be attached
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
