"""Modular pipelines: guarded as their classic forms are, to the bit, and refused where a block is not known."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.modular_pipelines import SequentialPipelineBlocks
from diffusers.modular_pipelines.flux.encoders import FluxTextEncoderStep
from diffusers.modular_pipelines.flux2.encoders import Flux2RemoteTextEncoderStep
from diffusers.modular_pipelines.modular_pipeline_utils import OutputParam

from safegen.errors import ModelError
from safegen.families import check_class, family_of
from safegen.families.flux3 import Flux3
from safegen.families.guarded_step import GuardedStep
from safegen.families.modular import FORMS, classic, kind_of
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.models import checkpoint, loading
from safegen.models.options import DrawOptions
from tests.helpers import pipelines
from tests.helpers.modular import BLOCKS, call, flux3, modular, of_blocks, told
from tests.helpers.pipelines import BENIGN, HARMFUL, pipeline, same

pytestmark = [
    pytest.mark.slow,  # every form is built
    pytest.mark.filterwarnings("ignore"),  # of the libraries, about models as small as these
]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_guarded_modular_pipeline_draws_to_the_bit_what_the_guarded_classic_one_draws(name: str) -> None:
    pipe = modular(name)
    form = classic(pipe)
    form.set_progress_bar_config(disable=True)
    plain = {prompt: told(name, lambda: call(pipe, prompt), pipe) for prompt in (BENIGN, HARMFUL)}  # noqa: B023
    with Guard().attached(pipe), Guard().attached(form):
        for prompt, before in plain.items():
            guarded = told(name, lambda: call(pipe, prompt), pipe)  # noqa: B023
            expected = told(name, lambda: pipelines.call(name, prompt, form), form)  # noqa: B023
            assert [what for what in guarded if not same(guarded[what], expected[what])] == []
            kept = [what for what in guarded if same(guarded[what], before[what])]
            assert kept == (list(plain[prompt]) if prompt == BENIGN else [])


@pytest.mark.parametrize("name", ["qwen-image", "z-image"])
def test_prompts_of_a_batch_are_guarded_one_by_one(name: str) -> None:
    """Their embeddings differ in length, and a block of Z-Image's writes its template into the list of prompts."""
    pipe, prompts = modular(name), [BENIGN, HARMFUL]
    plain = told(name, lambda: call(pipe, prompts), pipe)
    with Guard().attached(pipe) as guard:
        guarded = told(name, lambda: call(pipe, prompts), pipe)
    assert [report.before.prompt for report in guard.last] == prompts
    assert [report.sanitized for report in guard.last] == [False, True]
    width = min(states["qwen"].shape[1] for states in (plain, guarded))
    kept = [torch.equal(plain["qwen"][row, :width], guarded["qwen"][row, :width]) for row in (0, 1)]
    assert kept == [True, False]


class Rewrites(diffusers.ModularPipelineBlocks):
    """A block of somebody's own that names embeddings."""

    model_name = "flux"

    def __init__(self, *names: str, kind: str | None = None) -> None:
        super().__init__()
        self.names, self.kind = names, kind

    @property
    def inputs(self) -> list[Any]:
        return []

    @property
    def intermediate_outputs(self) -> list[Any]:
        return [OutputParam(name, kwargs_type=self.kind) for name in self.names]

    def __call__(self, pipe: Any, state: Any) -> Any:
        return pipe, state


@pytest.mark.parametrize(
    ("block", "refused"),
    [
        (Rewrites("pooled_prompt_embeds"), "the block added"),
        (Rewrites("mine", kind="denoiser_input_fields"), "the block added"),
        (Flux2RemoteTextEncoderStep(), "the block added"),
        (FluxTextEncoderStep(), "2 blocks"),
        (Rewrites("note"), ""),
    ],
)
def test_a_block_that_may_write_what_the_denoiser_is_told_is_refused_by_name(block: Any, refused: str) -> None:
    blocks = diffusers.FluxAutoBlocks()
    blocks.sub_blocks.insert("added", block, 1)
    pipe = of_blocks(blocks, "flux-dev")
    if not refused:
        with Guard().attached(pipe):
            return
    with pytest.raises(ModelError, match=refused) as raised, Guard().attached(pipe):
        pass
    assert type(block).__name__ in str(raised.value)
    assert not any(isinstance(other, GuardedStep) for other in pipe._blocks.sub_blocks.values())


@pytest.mark.parametrize(
    ("name", "asked", "refused"),
    [
        ("qwen-image", {"denoiser_input_fields": {"encoder_hidden_states": torch.zeros(1)}}, "encoder_hidden_states"),
        ("sdxl", {"prompt_2": HARMFUL}, "prompt_2"),
        ("sd3", {"clip_skip": 1}, "clip_skip"),
        ("flux2-klein", {"text_encoder_out_layers": (1, 2, 3)}, "text_encoder_out_layers"),
        ("qwen-image", {"prompt": None, "prompt_embeds": torch.zeros(1, 8, 48)}, "needs the prompt as text"),
    ],
)
def test_what_the_guard_would_not_see_is_refused(name: str, asked: dict[str, Any], refused: str) -> None:
    with pytest.raises(ModelError, match=refused), Guard().attached(modular(name)):
        call(modular(name), **{"prompt": BENIGN, **asked})


def test_a_pipeline_without_its_text_encoder_is_refused() -> None:
    blocks = diffusers.FluxAutoBlocks()
    blocks.sub_blocks.pop("text_encoder")
    with pytest.raises(ModelError, match="no blocks FluxTextEncoderStep"):
        family_of(of_blocks(blocks, "flux-dev"))


def test_detaching_leaves_the_blocks_as_they_were_and_copies_are_unguarded() -> None:
    pipe = modular("flux-dev")
    before = dict(pipe._blocks.sub_blocks)
    with Guard().attached(pipe), Guard().attached(pipe):
        assert isinstance(pipe._blocks.sub_blocks["text_encoder"], GuardedStep)
        assert type(pipe.blocks.sub_blocks["text_encoder"]) is FluxTextEncoderStep
        assert pipe.blocks.input_names == list(pipe._blocks.input_names)
    assert dict(pipe._blocks.sub_blocks) == before
    assert list(pipe._blocks.sub_blocks) == list(before)


def test_guards_are_detached_in_any_order_and_each_takes_itself_away_alone() -> None:
    pipe = modular("flux-dev")
    before, first, second = dict(pipe._blocks.sub_blocks), Guard(), Guard()
    detach_first, detach_second = first.attach(pipe), second.attach(pipe)
    assert copy.copy(pipe._blocks.sub_blocks["text_encoder"]).model_name == "flux"
    detach_first()
    call(pipe, HARMFUL)
    assert (len(first.last), len(second.last)) == (0, 1)
    detach_second()
    assert dict(pipe._blocks.sub_blocks) == before


def test_parts_that_were_replaced_since_are_noticed() -> None:
    pipe = modular("flux-dev")
    for name in ("tokenizer", "text_encoder_2"):
        part = getattr(pipe, name)
        with Guard().attached(pipe):
            pipe.update_components(**{name: copy.copy(part)})
            try:
                with pytest.raises(ModelError, match=f"the {name} of this FluxModularPipeline is not the one"):
                    call(pipe, BENIGN)
            finally:
                pipe.update_components(**{name: part})


@pytest.mark.parametrize(
    ("scale", "original", "negative", "drawn"),
    [(0.5, False, "fog", False), (0.5, False, "", True), (0.5, True, "fog", True), (-1.0, True, "fog", False)],
)
def test_no_guider_draws_the_negative_prompt(scale: float, original: bool, negative: str, drawn: bool) -> None:
    pipe = modular("qwen-image")
    usual, guider = pipe.guider, diffusers.ClassifierFreeGuidance(scale, use_original_formulation=original)
    pipe.update_components(guider=guider)
    refused = contextlib.nullcontext() if drawn else pytest.raises(ModelError, match=f"a guidance scale of {scale}")
    try:
        with Guard().attached(pipe), refused:
            call(pipe, BENIGN, negative_prompt=negative)
    finally:
        pipe.update_components(guider=usual)


def test_an_index_that_names_another_class_for_loading_is_refused(tmp_path: Path) -> None:
    index = tmp_path / checkpoint.MODULAR
    for pair, hint, fine in (
        (["diffusers", "AutoencoderKL"], ["diffusers", "AutoencoderKL"], True),
        (["diffusers", "AutoencoderKL"], None, True),
        ([None, None], ["transformers", "T5EncoderModel"], True),
        (["diffusers", "AutoencoderKL"], ["mine", "AutoencoderKL"], False),
        ([None, None], ["mine", "AutoencoderKL"], False),
    ):
        index.write_text(json.dumps({"_class_name": "FluxModularPipeline", "vae": [*pair, {"type_hint": hint}]}))
        with contextlib.nullcontext() if fine else pytest.raises(ModelError, match="as the class that is loaded"):
            assert checkpoint.index(tmp_path, "it")["vae"] == pair


def test_a_choice_of_blocks_that_encode_is_refused() -> None:
    blocks = diffusers.FluxAutoBlocks()
    blocks.sub_blocks["text_encoder"] = SequentialPipelineBlocks.from_blocks_dict(
        {"one": FluxTextEncoderStep(), "two": FluxTextEncoderStep()}
    )
    with pytest.raises(ModelError, match="text_encoder of the FluxModularPipeline chooses from 2"):
        family_of(of_blocks(blocks, "flux-dev"))


def test_the_generator_draws_with_the_classic_form() -> None:
    pipe = modular("flux-dev")
    (picture,), _ = Generator(pipe, Guard()).generate(BENIGN, DrawOptions(seed=0, steps=1, size=(64, 64)))
    drawn = call(pipe, BENIGN, output_type="pil", guidance_scale=3.5)[0]
    assert picture.image.tobytes() == drawn.tobytes()


@pytest.mark.parametrize("name", ["flux2-klein", "sd3-without-t5"])
def test_a_folder_of_a_modular_pipeline_is_loaded_in_its_classic_form(name: str, tmp_path: Path) -> None:
    modular(name).save_pretrained(str(tmp_path / "saved"), overwrite_modular_index=True)
    folder = (tmp_path / "saved").rename(tmp_path / "moved")  # its index names the place where it was saved
    pipe = loading.load(str(folder), device="cpu")
    assert type(pipe) is type(pipeline(name))
    assert family_of(pipe).fingerprints() == family_of(pipeline(name)).fingerprints()
    assert same(pipelines.call(name, BENIGN, pipe), call(modular(name), BENIGN))
    for path, harm, refused in (
        (folder / "modular_config.json", lambda path: path.write_text("{}"), "brings code of its own"),
        (folder / "transformer", shutil.rmtree, "transformer/ is missing"),
    ):
        harm(path)
        with pytest.raises(ModelError, match=refused):
            loading.load(str(folder), device="cpu")
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("distilled", [False, True])
def test_what_exists_as_a_modular_pipeline_alone_is_guarded_through_its_block(distilled: bool) -> None:
    pipe = flux3(distilled)

    def states(prompt: str) -> torch.Tensor:
        with pipelines.watched(pipe) as calls:
            call(pipe, prompt)
        return calls[0]["encoder_hidden_states"].clone()

    plain, family = {prompt: states(prompt) for prompt in (BENIGN, HARMFUL)}, family_of(pipe)
    assert type(family) is check_class(type(pipe).__name__) is Flux3
    with Guard().attached(pipe) as guard:
        guarded = {prompt: states(prompt) for prompt in plain}
        (report,) = guard.last
    assert same(guarded[BENIGN], plain[BENIGN])
    assert not same(guarded[HARMFUL], plain[HARMFUL])
    assert same(guarded[HARMFUL], family.encode([report.rewritten]).channels["qwen"].states)
    short, whole = (one([BENIGN]).channels["qwen"] for one in (family.encode_words, family.encode))
    assert [token.text for token in short.tokens[0]] == [t.text for t in whole.tokens[0] if t.text != "[pad]"]
    torch.testing.assert_close(short.states, whole.states[:, : short.states.shape[1]], atol=1e-5, rtol=1e-4)
    with pytest.raises(ModelError, match="takes no embeddings"):
        Generator(pipe, None)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_finds_its_block_among_those_of_its_class(name: str) -> None:
    assert check_class(name) is check_class(kind_of(name))
    with pytest.raises(ModelError, match=r"has no (unet|transformer)"):  # no part of it is loaded
        family_of(getattr(diffusers, name)())
