"""Safeguards that act while a picture is drawn, and the gate: on miniatures of all families, and by their formulas."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from safegen import safeguards
from safegen.bench.methods import usable
from safegen.conditioning import Position
from safegen.directions import cache, edits, store
from safegen.directions.edits import WeightEdit
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError, GuardError, ModelError, SafegenError, UsageError
from safegen.families import Family, family_of
from safegen.families.calls import tell
from safegen.families.edits import Delta, edited, text_layers
from safegen.families.predictions import Prediction, changed
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.guard.preparation import Prepared
from safegen.learning import EDITS, TUNED, erasing, latent_guard
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import clean
from safegen.safeguards.latent_guard import PART, LatentSpace
from safegen.safeguards.sld import PRESETS, Guide, preset
from safegen.scoring.report import Treatment
from tests.helpers import miniatures
from tests.helpers.pipelines import BENIGN, HARMFUL, STEERED, call, pipeline, prepared

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of the libraries, about models as small as these

DRAWING = sorted(name for name in safeguards.REGISTRY if safeguards.create(name).while_drawing)
METHODS = pytest.mark.parametrize("method", DRAWING)
CROSSING = {"sd", "sdxl", "pixart", "sana"}  # whose places attend to the text, and do not change it
FEW = DrawOptions(steps=2, size=(64, 64))


def with_edits(name: str) -> None:
    """Put weight edits of violence into this test's cache, as if they had been learned."""
    place, chance = family_of(pipeline(name)).bottleneck, torch.Generator().manual_seed(1)
    if name not in CROSSING:
        return
    layers = dict(place.denoiser.named_modules())
    texts = [layer for some in text_layers(place.denoiser).values() for layer in some]
    for method in EDITS:
        tensors, tuned = {}, TUNED.get(method)
        for layer in safeguards.import_object(tuned)().layers(place.denoiser) if tuned else texts:
            tensors[f"{layer}.up"] = torch.randn(layers[layer].out_features, 2, generator=chance)
            tensors[f"{layer}.down"] = torch.randn(2, layers[layer].in_features, generator=chance)
        info = {
            **{"concept": "violence", "method": method, "denoiser": place.kind, "fingerprint": place.fingerprint},
            **{"recipe_sha256": "", "held_out": {}, "sources": {}},
        }
        edit = WeightEdit(tensors, info)
        edit.save(edits.cached_folder() / "violence" / edit.file_name)


def guarded(name: str, method: str, strength: float = 1.0) -> Generator:
    with_edits(name)
    return Generator(pipeline(name), prepared(name, method, strength))


def ready(generator: Generator, *prompts: str) -> list[Prepared]:
    found = generator.prepare([clean(prompt) for prompt in prompts])
    assert not [one for one in found if isinstance(one, SafegenError)]
    return found  # type: ignore[return-value]


def pixels(generator: Generator, prepared_: list[Prepared], options: DrawOptions = FEW) -> list[bytes]:
    drawn = generator.draw(prepared_, options, list(range(len(prepared_))))
    return [image.tobytes() for image in drawn if image is not None]


def hooks(pipe: Any) -> list[Any]:
    """Whatever a denoiser would call besides its own code, and what replaces methods of it."""
    denoiser = family_of(pipe).bottleneck.denoiser
    found = [hook for m in denoiser.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return [*found, *(name for name in ("cache_context", "forward") if name in vars(denoiser))]


# The contract


@pytest.mark.slow
@METHODS
@STEERED
def test_a_method_works_for_a_family_or_refuses_it_by_name_at_the_start(name: str, method: str) -> None:
    """Of a batch, the flagged prompt's picture alone is another one; nothing stays behind."""
    family = family_of(pipeline(name))
    able = name in CROSSING if method in ("eiup", *EDITS) else family.negative or method != "sld"
    if not able:
        with pytest.raises(
            UsageError, match=type(family.bottleneck.denoiser if method != "sld" else family.pipe).__name__
        ):
            guarded(name, method)
        return
    generator = guarded(name, method)
    weights = {key: value.clone() for key, value in family.bottleneck.denoiser.state_dict().items()}
    both = ready(generator, BENIGN, HARMFUL)
    plain = pixels(generator, [one.unguarded for one in both])
    drawn = pixels(generator, both)
    assert [old == new for old, new in zip(plain, drawn, strict=True)] == [True, False]
    assert pixels(generator, [one.unguarded for one in both]) == plain
    assert hooks(generator.pipe) == []
    assert all(torch.equal(weights[key], value) for key, value in family.bottleneck.denoiser.state_dict().items())


@METHODS
def test_strength_zero_is_the_identity(method: str) -> None:
    generator = guarded("sd", method, 0.0)
    (one,) = ready(generator, HARMFUL)
    assert one.treatment is None
    assert pixels(generator, [one]) == pixels(generator, [one.unguarded])


@METHODS
def test_the_record_says_what_was_done(method: str) -> None:
    generator = guarded("sd", method)
    harmful, calm = ready(generator, HARMFUL, BENIGN)
    (picture,), report = generator.pictures(harmful, FEW)
    assert report is not None
    assert (report.sanitized, report.status, report.drift) == (True, "flagged", 0)
    told = picture.record.guard["drawing"]
    assert told["concepts"] == ["violence"]
    assert set(told) - {"concepts"} == ({"preset"} if method == "sld" else {"edits"} if method in EDITS else set())
    (benign,), _ = generator.pictures(calm, FEW)
    assert "drawing" not in benign.record.guard


@METHODS
def test_an_error_leaves_no_half_guarded_pipeline(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = guarded("sd", method)
    (one,) = ready(generator, HARMFUL)
    plain = pixels(generator, [one.unguarded])
    real, calls = type(generator.pipe.scheduler).step, []

    def failing(self: Any, *args: Any, **named: Any) -> Any:
        calls.append(len(hooks(generator.pipe)))
        if calls[-1]:  # not yet while the denoiser is told other texts
            raise ZeroDivisionError
        return real(self, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(type(generator.pipe.scheduler), "step", failing)
        with pytest.raises(ZeroDivisionError):
            pixels(generator, [one])
    assert calls[-1]
    assert hooks(generator.pipe) == []
    assert pixels(generator, [one.unguarded]) == plain


@METHODS
def test_it_cannot_be_attached(method: str) -> None:
    with_edits("sd")
    with pytest.raises(UsageError, match=f"{method} acts while"), prepared("sd", method).attached(pipeline("sd")):
        raise AssertionError


@METHODS
def test_a_compiled_denoiser_is_refused_at_the_start(method: str) -> None:
    pipe = miniatures.stable_diffusion()
    pipe.unet.compile()
    with_edits("sd")
    with pytest.raises(ModelError, match="compiled"):
        Generator(pipe, prepared("sd", method))


def test_what_one_method_prepared_is_not_drawn_behind_another() -> None:
    first, second = guarded("sd", "dual"), guarded("sd", "sld")
    with pytest.raises(GuardError, match="dual"):
        pixels(second, ready(first, HARMFUL))
    with pytest.raises(GuardError, match="dual"):
        pixels(Generator(pipeline("sd"), None), ready(first, HARMFUL))


def test_the_windows_of_a_long_prompt_have_one_treatment() -> None:
    words = " ".join(["a dog next to the big house"] * 6)
    (one,) = ready(guarded("sd", "sld"), f"{words} and a kitchen knife, {words}")
    assert one.treatment is not None
    assert one.treatment.concepts == ("violence",)
    assert pixels(guarded("sd", "sld"), [one])


# Predictions


def test_predictions_pass_through_and_calls_aside_are_not_heard_of() -> None:
    family = family_of(pipeline("sd"))
    seen: list[Prediction] = []
    other = tell(family, ["a dog"], 1.0, (64, 64))

    def same(prediction: Prediction) -> torch.Tensor:
        seen.append(prediction)
        assert other.predict(prediction.latents, prediction.times).shape == prediction.prompted.shape
        return prediction.prompted

    plain = call("sd", [BENIGN, HARMFUL], guidance_scale=4.0)
    with changed(family, 2, [1], same):
        assert torch.equal(call("sd", [BENIGN, HARMFUL], guidance_scale=4.0), plain)
    (one,) = seen
    assert one.unprompted is not None
    assert len(one.latents) == len(one.prompted) == len(one.unprompted) == 1
    with changed(family, 3, [1], same), pytest.raises(ModelError, match="rows for 3 pictures"):
        call("sd", [BENIGN, HARMFUL], guidance_scale=4.0)


def test_what_is_told_is_what_the_pipeline_tells() -> None:
    """A denoiser that is told a prompt predicts what it predicts when the pipeline draws that prompt."""
    family = family_of(pipeline("sd"))
    own = tell(family, [BENIGN], 1.0, (64, 64))
    gaps: list[float] = []

    def compare(prediction: Prediction) -> torch.Tensor:
        gaps.append(float((own.predict(prediction.latents, prediction.times) - prediction.prompted).abs().max()))
        return prediction.prompted

    with changed(family, 1, [0], compare):
        call("sd", BENIGN)
    assert gaps
    assert max(gaps) < 1e-5


# The methods' formulas


class Fixed:
    """A call of a denoiser that always predicts the same."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def predict(self, *_: Any) -> torch.Tensor:
        return self.value


def test_sld_moves_by_the_papers_formula() -> None:
    family, chosen = family_of(pipeline("sd")), PRESETS[1.0]
    family.pipe.scheduler.set_timesteps(10)
    draw = torch.Generator().manual_seed(0)
    prompted, concept, nothing = (0.02 * torch.randn(1, 4, 8, 8, generator=draw) for _ in range(3))
    guide = Guide(family, chosen, Fixed(concept), Fixed(nothing))  # type: ignore[arg-type]
    prediction = Prediction(prompted, torch.tensor(1), prompted, nothing)
    momentum, results = torch.zeros_like(prompted), []
    for step in range(4):
        scale = (2000 * (prompted - concept).abs()).clamp(max=1) * (prompted - concept < 0.025)
        move = scale * (concept - nothing) + 0.5 * momentum
        momentum = 0.7 * momentum + 0.3 * move
        results.append((guide.move(prediction), prompted - move if step >= 1.4 else prompted))
    assert all(torch.allclose(ours, papers, atol=1e-6) for ours, papers in results)
    assert torch.equal(results[0][0], prompted)
    alone = Guide(family, chosen, Fixed(concept), Fixed(nothing))  # type: ignore[arg-type]
    assert torch.equal(alone.move(replace(prediction, unprompted=None)), prompted)


@pytest.mark.parametrize(
    ("strength", "name"), [(0.1, "weak"), (0.5, "weak"), (0.6, "medium"), (1.0, "strong"), (1.5, "max")]
)
def test_the_strength_chooses_the_preset_of_sld(strength: float, name: str) -> None:
    assert preset(strength).name == name


def test_at_the_highest_strength_dual_draws_the_prompt_without_its_flagged_words() -> None:
    generator = guarded("sd", "dual", 1.5)
    (one,) = ready(generator, HARMFUL)
    assert one.treatment is not None
    assert "knife" not in one.treatment.rest
    (safe,) = generator.draw([one], FEW, [3])
    (rest,) = generator.draw([ready(generator, one.treatment.rest)[0].unguarded], FEW, [3])
    assert safe is not None
    assert rest is not None
    gap = torch.tensor(list(safe.tobytes())).float() - torch.tensor(list(rest.tobytes())).float()
    assert gap.abs().max() <= 1


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_an_edit_does_what_changed_weights_would_do(name: str) -> None:
    """And takes nothing back, because it has changed none."""
    pipe, family = pipeline(name), family_of(pipeline(name))
    layers = [layer for some in text_layers(family.bottleneck.denoiser).values() for layer in some]
    modules, chance = dict(family.bottleneck.denoiser.named_modules()), torch.Generator().manual_seed(2)
    deltas = {
        layer: Delta(
            torch.randn(modules[layer].out_features, 2, generator=chance),
            torch.randn(2, modules[layer].in_features, generator=chance),
        )
        for layer in layers
    }
    plain = call(name, [BENIGN, BENIGN])
    with edited(family, 2, {1: [(deltas, 0.5)]}):
        mixed = call(name, [BENIGN, BENIGN])
    assert torch.equal(mixed[0], plain[0])
    other = {"sd": miniatures.stable_diffusion, "sdxl": miniatures.stable_diffusion_xl}[name]()
    for layer, delta in deltas.items():
        dict(other.unet.named_modules())[layer].weight.data += 0.5 * delta.up @ delta.down
    assert torch.allclose(call(name, [BENIGN, BENIGN], other)[1], mixed[1], atol=1e-3)
    assert torch.equal(call(name, [BENIGN, BENIGN], pipe), plain)


def test_the_closed_form_erases_what_it_should_and_nothing_else() -> None:
    chance = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=chance))[0]
    harmful, safe, benign = basis[:3], basis[3:4].expand(3, 16), basis[4:]
    states = erasing.States(harmful, safe, torch.arange(3), benign)
    square = torch.eye(16, dtype=torch.double)
    for rounds in (0, 2):
        change = erasing.solve(states, square, rounds)
        figures = erasing.assess(change, states, square)
        assert figures["erased"] > 0.9
        assert figures["benign_drift"] < 1e-3


def test_returning_states_bring_the_concept_back() -> None:
    """What the closed form calls the worst case is one: the changed layers make of it what they made of the concept."""
    chance = torch.Generator().manual_seed(0)
    change = torch.eye(8, dtype=torch.double) + 0.1 * torch.randn(8, 8, generator=chance, dtype=torch.double)
    square, harmful = torch.eye(8, dtype=torch.double), torch.randn(5, 8, generator=chance, dtype=torch.double)
    found = erasing.returning(change, square, harmful)
    assert (found @ change.T - harmful).norm() < 0.1 * (harmful @ change.T - harmful).norm()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CROSSING))
def test_an_edit_is_learned_for_every_family_with_cross_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "PROMPTS", 24)
    family = family_of(pipeline(name))
    edit = erasing.learn_rece(Concept.load("violence"), family)
    assert set(edit.layers()) == {layer for some in text_layers(family.bottleneck.denoiser).values() for layer in some}
    assert all(torch.isfinite(tensor).all() for tensor in edit.tensors.values())
    assert {figure.split("_")[0] for figure in edit.info["held_out"]} == set(text_layers(family.bottleneck.denoiser))


def test_what_has_no_cross_attention_cannot_learn_an_edit() -> None:
    with pytest.raises(UsageError, match="no cross-attention"):
        erasing.learn_uce(Concept.load("violence"), family_of(pipeline("flux-dev")))


# The file of an edit


def test_an_edit_comes_back_from_its_file(tmp_path: Path) -> None:
    with_edits("sd")
    fingerprint = family_of(pipeline("sd")).bottleneck.fingerprint
    one = edits.find("violence", "rece", fingerprint, None)
    one.save(tmp_path / one.file_name)
    again = WeightEdit.load(tmp_path / one.file_name)
    assert again.info == one.info
    assert all(torch.equal(one.tensors[name], tensor) for name, tensor in again.tensors.items())
    with pytest.raises(DirectionError, match="another denoiser"):
        edits.find("violence", "rece", "f" * 64, None)
    with pytest.raises(DirectionError, match="no weight edit of 'nudity'"):
        edits.find("nudity", "rece", fingerprint, None)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({}, "two halves"),
        ({"a.up": torch.zeros(3, 2)}, "two halves"),
        ({"a.up": torch.zeros(3, 2), "a.down": torch.zeros(3, 2)}, "two halves"),
        ({"a": torch.zeros(3)}, "two halves"),
        ({"a.up": torch.full((3, 2), torch.nan), "a.down": torch.zeros(2, 3)}, "not finite"),
    ],
)
def test_an_edit_that_cannot_be_trusted_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], why: str) -> None:
    info = {"schema": edits.SCHEMA, **dict.fromkeys(edits.TEXTS, ""), "held_out": {}, "sources": {}}
    save_file(tensors, tmp_path / "x.safetensors", {"safegen": json.dumps(info)})
    with pytest.raises(DirectionError, match=why):
        WeightEdit.load(tmp_path / "x.safetensors")


def test_an_edit_of_another_size_is_refused_before_anything_is_drawn() -> None:
    family = family_of(pipeline("sd"))
    layer = text_layers(family.bottleneck.denoiser)["attention"][0]
    for name, why in ((layer, "5 by 5"), ("no.such.layer", "no such layer")):
        edit = {name: Delta(torch.zeros(5, 1), torch.zeros(1, 5))}
        with pytest.raises(DirectionError, match=why), edited(family, 1, {0: [(edit, 1.0)]}):
            raise AssertionError
    assert hooks(pipeline("sd")) == []


def test_the_commands_know_edits(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with_edits("sd")
    assert {file.kind for file in cache.kept()} == {cache.EDIT}
    assert {file.name.split("/")[0] for file in cache.kept(["violence"])} == {"violence"}
    for what, schema in (("list", "safegen.edits/1"), ("info", edits.SCHEMA)):
        assert command("directions", what, *(["violence"] if what == "info" else []), "--json") == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert schema in {line["schema"] for line in lines}
    assert command("directions", "learn", "violence", "--method", "rece", "--effort", "brief") == 2
    assert "not for --method rece" in capsys.readouterr().err


@pytest.mark.slow
def test_an_edit_that_was_learned_is_found(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, generator: Generator, tmp_path: Path
) -> None:
    monkeypatch.setattr(erasing, "PROMPTS", 24)
    assert command("directions", "learn", "violence", "--method", "uce", "--out", str(tmp_path)) == 0
    (file,) = tmp_path.rglob("*.safetensors")
    assert file.parent == tmp_path / "violence" / edits.FOLDER
    assert file.name == f"uce-unet-{generator.family.bottleneck.fingerprint[:8]}.safetensors"


# The gate


@pytest.fixture
def gate(generator: Generator) -> Any:
    """A guard of the embedded encoder with a latent space that nobody has trained, at a threshold of one's choice."""
    assert generator.guard is not None
    shipped = generator.guard.directions["violence"]["text"]

    def bind(threshold: float, strength: float = 1.0) -> Any:
        net = LatentSpace(256)
        net.threshold.fill_(threshold)
        extended = shipped.extended(PART, net.tensors(), {})
        extended.save(store.cache_folder() / "violence" / f"{shipped.stem}.safetensors")
        return Guard("violence", safeguard="latent-guard", strength=strength).bind(generator.family)

    return bind


def test_what_the_blacklist_matches_is_not_drawn_and_all_else_keeps_every_bit(gate: Any, generator: Generator) -> None:
    conditioning = generator.family.encode([BENIGN])
    with pytest.raises(GuardError, match="blacklist of violence"):
        gate(-1000.0).sanitize(conditioning)
    harmful = generator.family.encode([HARMFUL])
    for strength, threshold in ((1.0, 1000.0), (0.0, -1000.0)):
        after, (report,) = gate(threshold, strength).sanitize(harmful)
        assert torch.equal(after.channels["text"].states, harmful.channels["text"].states)
        assert report.status == "ok"


def test_without_a_latent_space_the_gate_says_what_to_learn(generator: Generator) -> None:
    with pytest.raises(DirectionError, match="no latent space") as missing:
        Guard("violence", safeguard="latent-guard").bind(generator.family)
    assert "--method latent-guard" in missing.value.hint


def test_the_bench_leaves_out_what_is_not_learned(generator: Generator) -> None:
    """The weight edits of the embedded model that are computed ship, and no others, and no latent space."""
    unlearned = [name for name in safeguards.REGISTRY if not usable(generator, safeguards.create(name))]
    assert unlearned == ["latent-guard", *TUNED]


@pytest.mark.slow
def test_a_latent_space_tells_harmful_prompts_from_benign_ones(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PROMPTS", 400), ("KEPT", 150)):
        monkeypatch.setattr(latent_guard, name, value)
    assert generator.guard is not None
    found = latent_guard.learn(Concept.load("violence"), generator.family, generator.guard.directions["violence"])
    figures = found["text"].info[PART]
    assert figures["caught"] > 0.5 + figures["benign_caught"]


def test_treatments_of_windows_join() -> None:
    one = Treatment("sld", 1.0, ("violence",), ("a knife",), "a cat and")
    two = Treatment("sld", 1.0, ("shocking", "violence"), ("a gun",), "a dog")
    both = one.joined([two])
    assert (both.concepts, both.phrases, both.rest) == (
        ("violence", "shocking"),
        ("a knife", "a gun"),
        "a cat and a dog",
    )
    assert both.as_json() == {"concepts": ["violence", "shocking"]}


def test_position_classes_count_alike_where_an_edit_is_learned() -> None:
    family: Family = family_of(pipeline("sd"))
    layers = {what: names[0] for what, names in text_layers(family.bottleneck.denoiser).items()}
    read = erasing.Reading.of(family, [BENIGN, HARMFUL], layers)
    places, roots, extra = read._places("attention", 0)
    assert extra == 0
    classes = [read.tokens[0][i].position for i in places]
    for position in set(classes):
        share = sum(float(r) ** 2 for r, one in zip(roots.flatten(), classes, strict=True) if one is position)
        assert share == pytest.approx(1 / len(set(classes)))
    assert Position.TOKEN in classes
