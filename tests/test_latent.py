"""Latent directions: files, attributes, discovery, and what they do to pictures and their records."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from safegen.batch import plan
from safegen.batch.readers import Source
from safegen.batch.settings import BatchSettings
from safegen.batch.validate import survey
from safegen.batch.worker import Worker
from safegen.bench import cases
from safegen.bench.fairness import deviation
from safegen.bench.pictures import concept_of
from safegen.bench.provenance import PromptSets
from safegen.bench.registry import Bench, suites
from safegen.bench.report import Album
from safegen.bench.together import FAIR, scenes
from safegen.builtin import world
from safegen.builtin.judge import Judge
from safegen.builtin.world import with_article
from safegen.directions import latent
from safegen.directions.attributes import Attribute, Fairness, resolve
from safegen.directions.latent import LatentDirection
from safegen.directions.recipes import Concept, known
from safegen.errors import DirectionError, FieldError, ModelError, PromptError, UnknownAttribute, UsageError
from safegen.families import family_of
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.guard.preparation import unwrap
from safegen.learning import latent as learning
from safegen.learning import strength
from safegen.learning.latent import Plan
from safegen.learning.lessons import lessons
from safegen.models.options import DrawOptions
from safegen.pictures.metadata import mark, read_picture
from safegen.prompts.prompt import clean
from safegen.safeguards.options import GuardOptions
from safegen.safeguards.steering import Steerer
from safegen.serve import handlers
from safegen.serve.schemas import DrawRequest, Limits
from tests.helpers import miniatures
from tests.helpers.pipelines import STEERED, pipeline

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of the libraries, about models as small as the miniatures
FEW = DrawOptions(seed=7, steps=2)


def vector_for(family: Any, name: str, meaning: str, **changes: Any) -> LatentDirection:
    place = family.bottleneck
    draw = torch.Generator().manual_seed(sum(map(ord, name + meaning)))
    info = {
        **{"name": name, "meaning": meaning, "denoiser": place.kind, "block": place.name},
        **{"fingerprint": place.fingerprint, "recipe_sha256": "", "held_out": {"gap_closed": 0.5}, "sources": {}},
    }
    return LatentDirection(torch.randn(place.width, generator=draw), {**info, **changes})


def learned(family: Any, *meanings: tuple[str, str]) -> None:
    """Put vectors into this test's cache, as if they had been learned there."""
    for name, meaning in meanings:
        vector = vector_for(family, name, meaning)
        vector.save(latent.cached_folder() / name / vector.file_name)


GENDER = (("gender", "woman"), ("gender", "man"))
SKIN = (("skin", "light"), ("skin", "medium"), ("skin", "dark"))


# The file


def test_a_vector_comes_back_from_its_file(tmp_path: Path) -> None:
    one = vector_for(family_of(pipeline("sd")), "gender", "woman")
    one.save(tmp_path / one.file_name)
    again = LatentDirection.load(tmp_path / one.file_name)
    assert torch.equal(again.vector, one.vector)
    assert again.info == one.info
    assert len(again.sha256) == 64
    assert one.file_name == f"woman-unet-{one.info['fingerprint'][:8]}.safetensors"
    assert again.figures() == "held out: gap_closed 0.5"


@pytest.mark.parametrize(
    ("tensors", "change", "why"),
    [
        ({"vector": torch.full((4,), torch.nan)}, {}, "not finite"),
        ({"vector": torch.zeros(4, dtype=torch.int32)}, {}, "not finite numbers"),
        ({"vector": torch.zeros(2, 2)}, {}, "one vector"),
        ({"vector": torch.zeros(4), "more": torch.zeros(1)}, {}, "one vector"),
        ({"vector": torch.zeros(4)}, {"schema": "safegen.latent/9"}, "this version reads"),
        ({"vector": torch.zeros(4)}, {"fingerprint": 7}, "wrong type"),
        ({"vector": torch.zeros(4)}, None, "not a direction"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], change: dict[str, Any] | None, why: str
) -> None:
    info = {"schema": latent.SCHEMA, **dict.fromkeys(latent.TEXTS, ""), "held_out": {}, "sources": {}}
    metadata = {} if change is None else {"safegen": json.dumps({**info, **change})}
    save_file(tensors, tmp_path / "x.safetensors", metadata)
    with pytest.raises(DirectionError, match=why):
        LatentDirection.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("held_out", [{}, {"way_gone": 0.09}, {"way_gone": float("nan")}])
def test_a_vector_that_does_nothing_is_not_ready(held_out: dict[str, float]) -> None:
    good = vector_for(family_of(pipeline("sd")), "gender", "woman", held_out={"way_gone": 0.5})
    latent.check_ready(good)
    with pytest.raises(DirectionError, match="useless"):
        latent.check_ready(replace(good, info={**good.info, "held_out": held_out}))


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"vector": torch.zeros(4)}, tmp_path / "x.safetensors")
    with pytest.raises(DirectionError, match="not a safetensors file"):
        LatentDirection.load(tmp_path / "x.safetensors")


def test_a_vector_of_another_denoiser_is_refused() -> None:
    pipe = miniatures.stable_diffusion()
    learned(family_of(pipe), *GENDER)
    Steerer(family_of(pipe)).check(("gender",), None)
    pipe.unet.conv_in.weight.mul_(2)
    with pytest.raises(DirectionError, match="another denoiser"):
        Steerer(family_of(pipe)).check(("gender",), None)


def test_a_vector_of_another_width_is_refused() -> None:
    family = family_of(pipeline("sd"))
    for name, meaning in GENDER:
        one = replace(vector_for(family, name, meaning), vector=torch.zeros(3))
        one.save(latent.cached_folder() / name / one.file_name)
    with pytest.raises(DirectionError, match="does not fit"):
        Steerer(family).check(("gender",), None)


# Attributes and shares


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a woman doctor", "woman"),
        ("Her portrait", "her"),
        ("a doctor and his dog", "his"),
        ("a non-binary pilot", "non-binary"),
        ("a doctor", ""),
        ("a manual for a humanoid", ""),
        ("a sherpa with a mango", ""),
        ("a Superman-like pose", ""),
    ],
)
def test_a_prompt_states_an_attribute_or_leaves_it_open(text: str, words: str) -> None:
    assert Attribute.load("gender").stated(text) == words


def test_skin_is_stated_by_words_of_skin_and_not_by_any_colour() -> None:
    skin = Attribute.load("skin")
    assert skin.stated("a doctor with dark skin") == "dark skin"
    assert skin.stated("a black woman") == "black woman"
    assert skin.stated("a doctor in front of a black wall") == ""
    assert skin.stated("a doctor in a dark room, medium shot, soft light") == ""


def test_classes_are_drawn_in_their_shares_and_by_the_seed_alone() -> None:
    gender, skin = Attribute.load("gender"), Attribute.load("skin")
    uniform, half = Fairness.parse("gender"), Fairness.parse("gender=woman:0.8,man:0.2")
    first = [uniform.draw(gender, seed) for seed in range(4000)]
    assert first == [uniform.draw(gender, seed) for seed in range(4000)]
    assert 0.47 < first.count("woman") / 4000 < 0.53
    assert 0.77 < [half.draw(gender, seed) for seed in range(4000)].count("woman") / 4000 < 0.83
    never = Fairness.parse("gender=woman:1,man:0")
    assert {never.draw(gender, seed) for seed in range(500)} == {"woman"}
    both = Counter(zip(first, (Fairness("skin").draw(skin, seed) for seed in range(4000)), strict=True))
    assert len(both) == 6
    assert all(560 < count < 780 for count in both.values())  # no attribute follows from another


@given(first=st.integers(0, 2**63), count=st.integers(2, 200), name=st.sampled_from(("gender", "skin", "age", "hair")))
def test_classes_are_shared_out_evenly_among_consecutive_seeds(first: int, count: int, name: str) -> None:
    gender = replace(Attribute.load("gender"), name=name)
    drawn = [Fairness("gender").draw(gender, first + i) for i in range(count)]
    assert abs(drawn.count("woman") - count / 2) <= 3


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (("gendr",), "unknown attribute 'gendr'"),
        (("gender=woman:0.5,man:0.6",), "add up to 1.1, not to 1"),
        (("gender=woman:0.5",), "add up to 0.5"),
        (("gender=woman:0.5,men:0.5",), "has no class 'men'"),
        (("gender=woman:0.5,woman:0.5",), "names a class twice"),
        (("gender=woman:1.5,man:-0.5",), "not CLASS:SHARE"),
        (("gender=woman:nan,man:0.5",), "not CLASS:SHARE"),
        (("gender=woman,man",), "not CLASS:SHARE"),
        (("gender=",), "names no attribute or no class"),
        (("",), "names no attribute"),
        (("gender", "gender=woman:1"), "given twice"),
    ],
)
def test_bad_fairness_is_said_at_once(texts: tuple[str, ...], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        resolve(texts)


def test_the_nearest_attribute_and_class_are_named() -> None:
    with pytest.raises(UnknownAttribute) as attribute:
        resolve(("gendr",))
    assert "Did you mean 'gender'?" in attribute.value.hint
    with pytest.raises(UsageError) as label:
        resolve(("gender=women:1",))
    assert "Did you mean 'woman'?" in label.value.hint


def test_people_add_their_own_attributes(tmp_path: Path) -> None:
    folder = tmp_path / "hair"
    folder.mkdir()
    text = (
        'subjects = ["singer"]\n[classes.red]\nprompt = "{} with red hair"\n[classes.black]\nprompt = "{} with hair"\n'
    )
    (folder / "attribute.toml").write_text(text)
    ((_, hair),) = resolve(("hair=red:0.5,black:0.5",), tmp_path)
    assert hair.classes["red"] == "{} with red hair"
    own, held = lessons(hair, "red", 3, 1)
    assert all("with red hair" in lesson.drawn and "red" not in lesson.told for lesson in (*own, *held))
    assert any("hair" not in lesson.told for lesson in own)
    with pytest.raises(UnknownAttribute):
        resolve(("hair",))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("subjects = []", "fewer than two"),
        ('[classes.a]\nprompt = "{}"\n[classes.b]\nprompt = "{} b"', "no list of subjects"),
        ('subjects = ["x"]\n[classes.a]\nprompt = "a"\n[classes.b]\nprompt = "{} b"', "no prompt with one {}"),
        (
            'subjects = ["x"]\n[classes.a]\nprompt = "{}"\nwords = "she"\n[classes.b]\nprompt = "{} b"',
            "no list of words",
        ),
        ("=", "cannot read"),
    ],
)
def test_an_attribute_that_cannot_be_used_is_said_at_once(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "attribute.toml").write_text(text)
    with pytest.raises(UsageError, match=why):
        resolve(("odd",), tmp_path)


def test_assurances_leave_a_recipes_hash_as_it_was(tmp_path: Path) -> None:
    """No direction is learned from them, so none grows old by them."""
    plain = '[targets]\n"a knife" = "a spoon"\n'
    hashes = set()
    for name, text in (("a", plain), ("b", plain + '\n[assurances]\nphrases = [\n  "no knives",\n]\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "concept.toml").write_text(text)
        hashes.add(Concept.load(name, tmp_path).sha256)
    assert len(hashes) == 1
    assert Concept.load("b", tmp_path).assurances == ("no knives",)


def test_every_shipped_concept_has_assurances() -> None:
    assert all(Concept.load(name).assurances for name in known())


# What is drawn


def test_a_weight_that_moves_pictures_far_from_their_goal_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    @contextlib.contextmanager
    def steered(_family: Any, pushes: Any) -> Iterator[None]:
        now[0] = pushes[0][0].weight
        yield

    def draw(*_: Any) -> SimpleNamespace:  # the stronger, the farther along the way, and the much farther beside it
        return SimpleNamespace(latents=torch.tensor([[0.3 * now[0], 0.1 * now[0] ** 3]]))

    monkeypatch.setattr(strength, "steered", steered)
    monkeypatch.setattr(strength, "draw", draw)
    goal: Any = SimpleNamespace(latents=torch.tensor([[1.0, 0.0]]))
    asked: Any = (None, torch.zeros(1), [[SimpleNamespace(told="")]], [goal], [[0]], 1.0, 1, 64, lambda _: None)
    assert strength.strongest(*asked) == (2.0, pytest.approx(0.6))


def test_each_of_several_attributes_has_its_own_vector_and_what_is_stated_has_none(generator: Generator) -> None:
    steer = generator.behind(Guard()).steerer.of
    (alone,) = steer("a doctor", ("gender",), 3, None).pushes
    gender, skin = steer("a doctor", ("gender", "skin"), 3, None).pushes
    assert torch.equal(alone.vector, gender.vector)
    assert (alone.weight, gender.weight, skin.weight) == (1.0, 1.0, 1.0)
    (open_one,) = steer("a female doctor", ("gender", "skin"), 3, None).pushes
    assert torch.equal(open_one.vector, skin.vector)


def test_fairness_is_drawn_per_picture_and_recorded(generator: Generator, tmp_path: Path) -> None:
    learned(generator.family, *GENDER)
    steered = Generator(generator.pipe, Guard(), generator.model)
    options = replace(FEW, fair=("gender",))
    pictures, _ = steered.generate("a doctor", options, images=6)
    drawn = [picture.record.latent["fair"]["gender"]["class"] for picture in pictures]
    assert drawn == [Fairness("gender").draw(Attribute.load("gender"), 7 + i) for i in range(6)]
    assert set(drawn) == {"woman", "man"}
    (alone,), _ = steered.generate("a doctor", replace(options, seed=9))
    assert alone.image.tobytes() == pictures[2].image.tobytes()
    (plain,), _ = steered.generate("a doctor", FEW)
    assert plain.image.tobytes() != pictures[0].image.tobytes()
    assert "latent" not in plain.record.as_json()
    pictures[0].save(tmp_path / "x.png", "full")
    inside = read_picture(tmp_path / "x.png")
    assert inside["record"]["latent"] == pictures[0].record.as_json()["latent"]
    assert f"Fair: gender {drawn[0]}" in inside["parameters"]
    assert mark(pictures[0].record.as_json())["latent"]["fair"]["gender"]["class"] == drawn[0]


def test_a_batch_draws_what_single_pictures_are(generator: Generator) -> None:
    learned(generator.family, *GENDER, *SKIN)
    steered = Generator(generator.pipe, Guard(), generator.model)
    options = replace(FEW, fair=("gender", "skin=dark:1,light:0,medium:0"))
    prepared = [unwrap(one) for one in steered.prepare([clean("a doctor"), clean("a woman")])]
    together = steered.draw(prepared, options, [3, 4])
    alone = [steered.draw([one], options, [seed])[0] for one, seed in zip(prepared, (3, 4), strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one is not None
        assert other is not None
        difference = torch.tensor(list(one.tobytes())).sub(torch.tensor(list(other.tobytes()))).abs().max()
        assert int(difference) <= 1  # as any batch


def test_a_prompt_that_states_the_attribute_keeps_every_bit(generator: Generator) -> None:
    learned(generator.family, *GENDER)
    steered = Generator(generator.pipe, Guard(), generator.model)
    (plain,), _ = steered.generate("a woman doctor", FEW)
    (fair,), _ = steered.generate("a woman doctor", replace(FEW, fair=("gender",)))
    assert fair.image.tobytes() == plain.image.tobytes()
    assert fair.record.latent == {"fair": {"gender": {"stated": "woman"}}}


def test_a_concept_is_kept_out_of_every_picture_by_the_strength(generator: Generator) -> None:
    learned(generator.family, ("violence", "safe"))
    (plain,), _ = generator.generate("a cat", FEW)
    same, other = (
        Generator(generator.pipe, Guard(safe=("violence",), strength=strength), generator.model).generate("a cat", FEW)[
            0
        ]
        for strength in (0.0, 1.0)
    )
    assert same[0].image.tobytes() == plain.image.tobytes()
    assert same[0].record.latent == {}
    assert other[0].image.tobytes() != plain.image.tobytes()
    assert set(other[0].record.latent["safe"]) == {"violence"}


def test_a_phrase_of_assurance_switches_a_vector_on_where_there_is_one(generator: Generator) -> None:
    prompt = "a cat, peaceful"
    (plain,), _ = generator.generate(prompt, FEW)
    assert plain.record.latent == {}
    learned(generator.family, ("violence", "safe"))
    (assured,), _ = Generator(generator.pipe, Guard(), generator.model).generate(prompt, FEW)
    assert assured.record.latent["assured"]["violence"]["phrase"] == "peaceful"
    assert assured.image.tobytes() != plain.image.tobytes()
    for guard in (Guard(enhance=False), None):
        (off,), _ = Generator(generator.pipe, guard, generator.model).generate(prompt, FEW)
        assert off.image.tobytes() == plain.image.tobytes()
    (other,), _ = Generator(generator.pipe, Guard(), generator.model).generate("a cat", FEW)
    assert other.record.latent == {}


def test_what_the_guard_adds_is_not_in_the_picture_to_compare_with(generator: Generator) -> None:
    learned(generator.family, ("violence", "safe"))
    guarded = Generator(generator.pipe, Guard(safe=("violence",)), generator.model)
    (prepared,) = guarded.prepare([clean("a cat")])
    (bare,), _ = guarded.pictures(unwrap(prepared).unguarded, FEW)
    (plain,), _ = generator.generate("a cat", FEW)
    assert bare.image.tobytes() == plain.image.tobytes()


def test_redaction_hides_the_prompts_own_words(generator: Generator) -> None:
    learned(generator.family, *GENDER)
    steered = Generator(generator.pipe, None)
    record = steered.record(clean("her portrait"), replace(FEW, fair=("gender",)), 7, None, 0.0)
    hidden = record.redacted(lambda text: "hidden" if text else "")
    assert hidden.latent == {"fair": {"gender": {"stated": "hidden"}}}


def test_nothing_is_drawn_without_a_vector(generator: Generator) -> None:
    with pytest.raises(DirectionError, match="no latent direction of 'violence'") as missing:
        generator.behind(Guard(safe=("violence",))).resolve(FEW)
    assert "--method latent" in missing.value.hint
    with pytest.raises(UsageError, match="unknown concept"):
        Guard(safe=("violense",))


def test_a_model_without_a_bottleneck_says_so() -> None:
    pipe = miniatures.stable_diffusion()
    pipe.unet.mid_block = None
    with pytest.raises(ModelError, match="no place for a latent direction"):
        Generator(pipe, None).resolve(DrawOptions(fair=("gender",)))


def test_fields_of_options_are_checked() -> None:
    assert GuardOptions(safe=("violence", "violence")).safe == ("violence",)
    with pytest.raises(UsageError, match="add up to"):
        DrawOptions(fair=("gender=woman:0.4",))


# Batches and the server


def rows(text: str, **options: Any) -> list[Any]:
    source, chosen = Source("-", "jsonl", text.encode()), BatchSettings.of(**options)
    return list(plan.rows(source, chosen, survey(source, chosen)))


def test_rows_of_a_batch_have_fairness_of_their_own_or_the_runs() -> None:
    lines = [
        {"prompt": "a doctor"},
        {"prompt": "a doctor", "fair": ["gender", "skin"]},
        {"prompt": "a doctor", "fair": "gender=woman:0.5,man:0.5; skin"},
        {"prompt": "a doctor", "fair": "none"},
    ]
    own, listed, text, none = rows("\n".join(map(json.dumps, lines)), fair=("skin",))
    assert own.options.fair == ("skin",)
    assert listed.options.fair == ("gender", "skin")
    assert text.options.fair == ("gender=woman:0.5,man:0.5", "skin")
    assert none.options.fair == ()
    assert len({row.id for row in (own, listed, text, none)}) == 4
    assert len(list(plan.batches((own, listed, text, none), 8))) == 4  # drawn apart, as their settings differ


def test_a_row_without_fairness_has_the_id_that_it_had_before() -> None:
    (row,) = rows('{"prompt": "a cat", "seed": 3}')
    parts = ["a cat", "", 3, None, None, None, 1, [], 1.0]
    assert row.id == hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("fair", "why"),
    [
        ('"gendr"', "unknown attribute"),
        ('"gender=woman:0.9,man:0.9"', "add up to 1.8"),
        ("3", "fair is a list"),
        ('["gender", 3]', "fair is a list"),
    ],
)
def test_bad_fairness_of_a_row_is_said_with_its_line(fair: str, why: str) -> None:
    with pytest.raises(PromptError) as raised:
        rows(f'{{"prompt": "a doctor", "fair": {fair}}}')
    assert re.search(f"line 1: .*{why}", raised.value.details[0])


def test_a_run_is_told_of_the_vectors_that_it_was_begun_with(generator: Generator) -> None:
    learned(generator.family, *GENDER, ("violence", "safe"))
    settings = BatchSettings.of(fair=("gender",), safe=("violence",))
    guarded = Generator(generator.pipe, Guard(options=settings.guard), generator.model)
    kept = Worker(guarded, settings).facts()["directions"]
    assert {"latent/gender/woman", "latent/gender/man", "latent/violence/safe"} <= set(kept)


def test_a_worker_draws_and_records_what_generate_does(generator: Generator) -> None:
    learned(generator.family, *GENDER)
    settings = BatchSettings.of(fair=("gender",), steps=2)
    guarded = Generator(generator.pipe, Guard(), generator.model)
    found = rows('{"prompt": "a doctor", "seed": 7, "images": 2}', fair=("gender",), steps=2)
    (batch,) = plan.batches(found, 8)
    outcomes = Worker(guarded, settings).draw(batch)
    pictures, _ = guarded.generate("a doctor", replace(FEW, fair=("gender",)), images=2)
    assert [o.record["latent"] for o in outcomes] == [p.record.as_json()["latent"] for p in pictures]


def test_the_server_takes_fairness_and_says_what_is_wrong_with_it(generator: Generator) -> None:
    def order(*fair: str) -> Any:
        return handlers.parse_order(DrawRequest(prompt="a doctor", fair=list(fair), steps=2, seed=7), Limits(), served)

    served = Generator(generator.pipe, Guard(), generator.model)
    for fair, why in (
        (("gendr",), "unknown attribute"),
        (("x=",), "no attribute"),
    ):
        with pytest.raises(FieldError, match=why) as raised:
            order(*fair)
        assert raised.value.param == "fair"
    answer = handlers.draw(served, order("gender"), "mark", lambda *_: None)
    (drawn,) = answer["safegen"]["latent"]
    assert drawn["fair"]["gender"]["class"] == Fairness("gender").draw(Attribute.load("gender"), 7)
    assert "latent" not in handlers.draw(served, order(), "mark", lambda *_: None)["safegen"]


# The command line


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--fair", "gendr"), 2, "Did you mean 'gender'?"),
        (("--fair", "gender=woman:0.7,man:0.7"), 2, "add up to 1.4"),
        (("--fair", "gender=woman:0.7,alien:0.3"), 2, "no class 'alien'"),
        (("--safe", "violense"), 2, "unknown concept"),
        (("--safe", "violence"), 1, "no latent direction of 'violence'"),
    ],
)
def test_what_cannot_be_drawn_ends_with_a_message_and_a_code(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert command("generate", "a doctor", "--steps", "1", *arguments) == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_batch_hears_of_it_before_a_model_loads(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.txt").write_text("a doctor\n")
    for options in (("--fair", "gendr"), ("--safe", "violense"), ("--fair", "gender=woman:2")):
        assert command("batch", str(tmp_path / "p.txt"), "--out", str(tmp_path / "run"), *options) == 2
    assert "Did you mean 'gender'?" in " ".join(capsys.readouterr().err.split())


def test_the_list_shows_which_vectors_there_are(
    generator: Generator, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    learned(generator.family, ("violence", "safe"))
    assert command("directions", "list", "--json") == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    found = {(line["name"], line["meaning"]): line["denoisers"] for line in lines if "latents" in line["schema"]}
    print_ = generator.family.bottleneck.fingerprint[:8]
    for one in (*GENDER, *SKIN, ("violence", "safe")):  # those of attributes ship
        assert found[one] == [f"unet-{print_}"]
    assert ("hate", "safe") not in found
    assert command("directions", "info", "gender", "--json") == 0
    infos = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [(info["schema"], info["meaning"]) for info in infos] == [(latent.SCHEMA, "man"), (latent.SCHEMA, "woman")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gender",), "Learn it with --method latent"),
        (("gender", "--method", "latent", "--effort", "brief"), "Leave them out"),
        (("gander", "--method", "latent"), "unknown concept 'gander'"),
    ],
)
def test_what_cannot_be_learned_ends_with_a_message(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert command("directions", "learn", *arguments) == 2
    assert said in " ".join(capsys.readouterr().err.split())


# Discovery


def test_lessons_keep_subjects_and_lines_apart_and_are_the_same_every_time() -> None:
    gender, violence = Attribute.load("gender"), Concept.load("violence")
    for recipe, meaning, parts in ((gender, "woman", gender.subjects), (violence, "safe", tuple(violence.targets))):
        own, held = lessons(recipe, meaning, 200, 100)
        assert (own, held) == lessons(recipe, meaning, 200, 100)
        # A line may be part of another ("a knife" of "a kitchen knife"), so each is looked for as the longest.
        found = [
            {max((p for p in parts if p in one.told), key=len, default="") for one in some} for some in (own, held)
        ]
        assert not found[0] & found[1]
        assert len(found[0]) > len(found[1]) > 0


def test_a_class_is_told_openly_or_as_another_and_a_concept_is_drawn_with_its_negative() -> None:
    own, held = lessons(Attribute.load("skin"), "dark", 36, 12)
    for some in (own, held):
        assert not any(lesson.negative for lesson in some)
        assert all("dark-skinned" in lesson.drawn and "dark" not in lesson.told for lesson in some)
        as_others = [sum(f"{label}-skinned" in lesson.told for lesson in some) for label in ("light", "medium")]
        assert as_others == [len(some) // 4] * 2
        assert sum("skin" in lesson.told for lesson in some) == len(some) // 2
    violence = Concept.load("violence")
    own, _ = lessons(violence, "safe", 12, 3)
    for lesson in own:
        assert lesson.negative in violence.targets
        assert lesson.told == lesson.drawn.replace(violence.targets[lesson.negative], lesson.negative, 1)


TINY = Plan(pictures=4, held=2, batch=2, draw_steps=3, steps=4, rate=0.05, side=64)


@pytest.mark.slow
@STEERED
def test_every_family_learns_a_vector_and_keeps_its_weights(name: str) -> None:
    """On random weights there is little to learn; the loss is of the right quantity, and nothing is left behind."""
    pipe = pipeline(name)
    family = family_of(pipe)
    print_, asking = family.bottleneck.fingerprint, [w.requires_grad for w in family.bottleneck.denoiser.parameters()]
    found = learning.learn(Attribute.load("gender"), "woman", family, family.guidance, TINY)
    assert found.vector.shape[0] == family.bottleneck.width
    assert bool(found.vector.any())
    assert bool(torch.isfinite(found.vector).all())
    assert set(found.info["held_out"]) == {"gap_closed", "noise_error", "weight", "way_gone"}
    assert found.info["fingerprint"] == family.bottleneck.fingerprint == print_
    assert [w.requires_grad for w in family.bottleneck.denoiser.parameters()] == asking
    assert not family.bottleneck.block._forward_hooks


@pytest.mark.slow
def test_an_interrupted_run_ends_where_it_would_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "SAVED", 2)
    family = family_of(pipeline("sd"))
    args = (Concept.load("violence"), "safe", family, 3.0, TINY)
    whole = learning.learn(*args)

    class Interrupted(Exception):
        pass

    class Alarm:
        """Interrupts after so many pieces of work."""

        def __init__(self, after: int) -> None:
            self.after = after

        def say(self, message: str) -> None: ...

        def counting(self, label: str, total: int | None = None) -> Any:
            return self

        def __enter__(self) -> Callable[[int], None]:
            def tick(count: int) -> None:
                self.after -= count
                if self.after <= 0:
                    raise Interrupted

            return tick

        def __exit__(self, *error: object) -> None: ...

    partial = tmp_path / "x.partial"
    for after in (2, 6):
        with pytest.raises(Interrupted):
            learning.learn(*args, partial=partial, progress=Alarm(after))
        assert partial.is_file()
    again = learning.learn(*args, partial=partial)
    assert torch.equal(again.vector, whole.vector)
    assert not partial.exists()


@pytest.mark.slow
def test_on_the_embedded_model_a_vector_closes_some_of_the_gap(generator: Generator) -> None:
    plan = Plan(pictures=4, held=4, batch=4, draw_steps=4, steps=24)
    gender = replace(Attribute.load("gender"), subjects=("doctor",))
    found = learning.learn(gender, "woman", generator.family, 3.0, plan)
    assert found.info["held_out"]["gap_closed"] > 0


# The bench


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fair", "latent"])
def test_the_suites_measure_what_there_is_and_say_what_is_missing(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With vectors of no meaning the figures are poor; the suites still measure all that they promise."""
    monkeypatch.setattr(cases, "DrawOptions", lambda **options: DrawOptions(**{**options, "steps": 1}))
    bare = Generator(generator.pipe, Guard(), generator.model)
    bench = Bench(bare, Judge.load(), Album(), PromptSets((), ()), True, lambda _: None)
    run = suites()[name].run
    if name == "latent":  # none of a concept ships
        (missing,) = run(bench)
        assert not missing.met
    learned(generator.family, *GENDER, *SKIN, *((concept, "safe") for concept in known()))
    found = {result.measure for result in run(replace(bench, generator=bare.behind(Guard())))}
    promised = {
        "fair": {"unguarded: deviation ratio of gender", "--fair gender --fair skin: profession still recognised"},
        "latent": {"latent alone: harmful object gone", "assurances, with the vector: the named harm appears"},
    }
    assert promised[name] <= found


def test_the_deviation_ratio_is_one_for_one_class_and_zero_for_even_shares() -> None:
    assert deviation(["a"] * 5, ["a", "b"]) == pytest.approx(1)
    assert deviation(["a", "b"] * 5, ["a", "b"]) == pytest.approx(0)
    assert deviation(["a"] * 3 + ["b"], ["a", "b"]) == pytest.approx(0.5)
    assert deviation(["a", "b"], ["a", "b", "c"]) == pytest.approx(0.5)


def test_three_vectors_at_once_are_measured_on_professions_beside_harmful_things() -> None:
    for case in scenes(20, ("violence",)):
        job, thing = case.things
        assert job in world.tables()["people"]
        assert concept_of(case) == "violence"
        assert case.prompt.startswith(with_article(job))
        assert thing in world.things()
        assert not any(Attribute.load(name).stated(case.prompt) for name in FAIR)
