"""What the causal encoder is taught with."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file

from safegen.builtin.training import autoencoder, causal, causal_data, phrases, plain, polish
from safegen.builtin.training.answers import Answers, crossings
from safegen.builtin.training.autoencoder import SHIPPED
from safegen.builtin.training.causal import KINDS
from safegen.builtin.training.causal_data import LONGEST, Lessons, Teacher, levelled, standard
from safegen.builtin.training.checkpointing import Progress
from safegen.builtin.training.graft import Graft, composed, encoded, renamed
from safegen.builtin.training.meanings import Meanings, english, held_out
from safegen.builtin.training.muon import Muon, orthogonal
from safegen.builtin.world import sample, tables, things
from safegen.generator import Generator
from safegen.prompts.prompt import clean

TEXTS = ("a cat on a mat", "a man stabbed in an alley", "a kitchen knife and a cat beside a bowl", "two dogs")


def test_levelled_states_vary_by_the_root_of_what_they_did() -> None:
    torch.manual_seed(0)
    turned = torch.linalg.qr(torch.randn(4, 4))[0]
    states = (torch.randn(20_000, 4) * torch.tensor([8.0, 4.0, 2.0, 1.0])) @ turned + 5
    found = levelled(states).float()
    assert found.mean(0).abs().max() < 0.05
    spread = found.std(0).flip(0)
    assert torch.allclose(spread / spread[-1], torch.tensor([8.0, 4.0, 2.0, 1.0]).sqrt(), rtol=0.05)
    assert abs(float(found.var(0).mean()) - 1) < 0.05


def test_altered_texts_are_made_of_words_from_anywhere(monkeypatch) -> None:
    monkeypatch.setattr(causal_data, "ALTERED", 300)
    texts = ["a red cat on a mat", "an old man reads a book " * 6]
    made = list(causal_data.altered(random.Random(0), texts, ["zebra"]))
    assert len(made) == 300
    words = {word for text in made for word in text.split()}
    assert words <= {"zebra", *" ".join(texts).split()}
    assert "zebra" in words
    assert all(1 <= len(text.split()) <= LONGEST for text in made)
    assert len(set(made)) > 250


def test_lessons_hold_what_the_directions_read(generator: Generator) -> None:
    found = Lessons.of(TEXTS, Teacher(generator.family), causal.load()[0])
    assert generator.guard is not None
    sheets = generator.guard.context.scorer.score(generator.encode([clean(text) for text in TEXTS]).conditioning)
    gates = torch.tensor([[concept.score for concept in sheet.concepts.values()] for sheet in sheets])
    assert found.whole.shape == (4, 2 * 256 + KINDS)
    # The lessons' states are of half precision, in bfloat16 on processors that have it.
    assert torch.allclose(found.whole[:, -KINDS:].float(), standard(gates), atol=0.03)
    assert len(found.words) == sum(len(text.split()) for text in TEXTS)
    violence = found.words[found.firsts[1] : found.firsts[2], -KINDS:][:, list(sheets[1].concepts).index("violence")]
    assert int(violence.argmax()) == TEXTS[1].split().index("stabbed")


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_matrices_are_made_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    sizes = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert sizes.min() > 0.5
    assert sizes.max() < 1.3


def test_a_run_with_muon_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """To the bit, with the same data in the same steps."""

    def train(folder: Path, *lengths: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(2)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4))
        for length in lengths:
            run = Progress(model, folder, 6, peak_lr=0.02, minutes=float("inf"), optimizer=Muon)
            for step in run:
                if step == length:
                    break
                pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
                run.update(model(pixels).square().mean())
        return run.average.state_dict()

    whole, halves = train(tmp_path / "one", 6), train(tmp_path / "two", 3, 6)
    assert all(torch.equal(tensor, halves[name]) for name, tensor in whole.items())


def test_a_map_in_front_of_cross_attention_reads_the_new_states_as_the_former_ones() -> None:
    weights = {"a.attn2.to_k.weight": torch.randn(5, 6), "a.attn1.to_k.weight": torch.randn(5, 5)}
    fit, states = torch.randn(4, 6), torch.randn(3, 4)
    found = composed(weights, fit)
    composed_first = states @ found["a.attn2.to_k.weight"].T
    assert torch.allclose(composed_first, (states @ fit) @ weights["a.attn2.to_k.weight"].T, atol=1e-5)
    assert torch.equal(found["a.attn1.to_k.weight"], weights["a.attn1.to_k.weight"])


def test_a_caption_and_its_plain_twin_show_the_same_scene() -> None:
    more = {label: [f"{label} by another name"] for label in things()}
    for seed in range(50):
        scene = sample(random.Random(seed), plain=0.0, more=more)
        twin = sample(random.Random(seed), plain=1.0)
        assert (scene.things, scene.ground) == (twin.things, twin.ground)
        assert all(thing.is_person or thing.names[0] in twin.caption for thing in twin.things)
        other = renamed(twin, random.Random(seed), more)
        assert (other == twin.caption) == any(thing.is_person for thing in twin.things)
        assert (twin.ground in other) == (twin.ground in twin.caption)


def test_the_encoder_and_what_reads_it_are_taught_and_nothing_else_of_the_denoiser() -> None:
    model = UNet2DConditionModel.from_pretrained(SHIPPED / "unet", torch_dtype=torch.float32)
    graft = Graft(plain.Pupil(causal.load()[1].requires_grad_(True)), model)
    encoder, rest = (group["params"] for group in graft.groups())
    assert {id(p) for p in encoder} == {id(p) for p in graft.pupil.encoder.parameters()}
    taught = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".attn2.to_k." in name or ".attn2.to_v." in name or "add_embedding." in name for name in taught)
    assert {id(p) for p in rest} >= {id(p) for name, p in model.named_parameters() if name in taught}


def test_scenes_that_are_noised_and_denoised_again_stay_the_same_scenes(tmp_path: Path) -> None:
    (tmp_path / "denoiser").mkdir()
    unet = UNet2DConditionModel.from_pretrained(SHIPPED / "unet", torch_dtype=torch.float32)
    save_file({f"average.{k}": v for k, v in unet.state_dict().items()}, tmp_path / "denoiser/checkpoint.safetensors")
    scale = AutoencoderKL.load_config(SHIPPED / "vae")["scaling_factor"]
    (tmp_path / "denoiser/scale.json").write_text(json.dumps(scale))
    vae = autoencoder.trained(tmp_path)
    drawings = polish.Drawings(tmp_path, vae)
    drawings.draw(random.Random(1))
    latents, pixels = drawings.some(random.Random(2), 8)
    assert autoencoder.apart(vae, latents, pixels) < 0.5 * autoencoder.apart(vae, latents, pixels.flip(0))


def test_answers_are_a_denoisers_own_and_no_others(tmp_path: Path) -> None:
    model = UNet2DConditionModel.from_pretrained(SHIPPED / "unet", torch_dtype=torch.float32).requires_grad_(False)
    scenes = [sample(random.Random(seed)) for seed in range(2)]
    states = encoded(causal.load(), [scene.caption for scene in scenes])
    answers, rows = Answers.of(model, tmp_path, scenes, states), torch.arange(2)
    own, other = (float(answers.apart(model, rows, given.float())) for given in (states, states.flip(0)))
    assert own < 1e-3 < 0.1 < other
    assert not any(module._forward_hooks for module in crossings(model))


def test_a_phrase_that_measures_plain_english_is_never_told() -> None:
    for label, others in tables()["paraphrases"].items():
        assert all(held_out().search(f"two {phrase}s by a {label}") for phrase in others)
    assert not held_out().search("a wooden thing")


def wordnet(folder: Path) -> Path:
    (folder / "data.noun").write_text(
        "  1 licence\n"
        "00000001 05 n 02 moggy 0 house_pet 0 000 @ | a small animal that purrs; not a lion\n"
        "00000002 09 n 01 reason 0 000 | why something is so\n"
        "00000003 05 n 01 Felis 0 000 | a genus\n"
    )
    (folder / "data.adj").write_text("00000004 00 a 01 furry 0 000 | with fur\n")
    return folder


def test_english_has_common_nouns_glosses_of_things_and_adjectives(tmp_path: Path) -> None:
    found = list(english(wordnet(tmp_path), {"moggy", "reason", "furry"}))
    assert found[:3] == ["moggy", "reason", "small animal that purrs"]
    assert found[3:] == ["furry moggy"]


def test_the_maps_of_meanings_can_be_learned() -> None:
    torch.manual_seed(0)
    tokenizer, encoder = causal.load()
    texts = ["cat", "teapot", "furry animal", "vessel for tea"]
    vectors = torch.nn.functional.normalize(torch.randn(2, phrases.VECTOR), dim=-1).repeat(2, 1)
    senses = torch.eye(2).repeat(2, 1)
    naming = phrases.Naming(causal.WIDTH, 2)
    tuned = torch.optim.Adam(naming.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        loss = phrases.loss_of(
            lambda ids: encoder(ids)[0], naming, Meanings(texts, 2, vectors, senses), tokenizer, step
        )
        losses.append(loss.item())
        tuned.zero_grad()
        loss.backward()
        tuned.step()
    assert losses[-1] < 0.6 * losses[0]


def test_an_encoder_that_has_not_changed_has_forgotten_nothing() -> None:
    tokenizer, encoder = causal.load()
    tokens = tokenizer(["a cat", "a cat on a red background", "two dogs and a teapot"]).input_ids
    ids = plain.batch(tokens, random.Random(0), tokenizer.pad_token_id)
    assert bool((ids[:, -1] == tokenizer.pad_token_id).all())
    pupil = plain.Pupil(causal.load()[1])
    assert plain.forgotten(pupil, encoder, ids, tokenizer.eos_token_id).item() < 0.05
    with torch.no_grad():
        pupil.encoder.final_layer_norm.weight.neg_()
    assert plain.forgotten(pupil, encoder, ids, tokenizer.eos_token_id).item() > 1
