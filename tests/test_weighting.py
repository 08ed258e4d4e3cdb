"""Weights on embeddings: after the guard, never on what it took out, and dropped where it objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safegen import Guard
from safegen.batch import gallery, run
from safegen.batch.interrupt import Watch
from safegen.batch.local import LocalEngine
from safegen.batch.readers import Source
from safegen.batch.settings import BatchSettings
from safegen.batch.worker import Worker
from safegen.conditioning import Conditioning
from safegen.errors import GuardError
from safegen.families.weights import weigh
from safegen.generator import Generator
from safegen.guard.preparation import Prepared, unwrap
from safegen.models.options import DrawOptions
from safegen.prompts.emphasis import Weight
from safegen.prompts.prompt import Prompt, clean
from tests.helpers.pipelines import BENIGN, CHANNELS, pipeline, prepared, same, told, watched

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of the libraries, about models as small as these

FAST = DrawOptions(seed=3, steps=1, size=(64, 64), guidance=1.0)
OWN, PLAIN = "a (cat:1.4) and a kitchen (knife:1.9)", "a cat and a kitchen knife"
METHODS = pytest.mark.parametrize("safeguard", ["localise", "clamp", "es", "region", "surgery", "safree"])


def states(conditioning: Conditioning, name: str = "text") -> torch.Tensor:
    return conditioning.channels[name].states


def ready(generator: Generator, prompt: Prompt) -> Prepared:
    (found,) = generator.prepare([prompt])
    return unwrap(found)


def final(generator: Generator, prompt: str) -> tuple[Conditioning, Any]:
    prepared = ready(generator, clean(prompt))
    assert prepared.conditioning is not None
    return prepared.conditioning, prepared.report


def factors(one: torch.Tensor, other: torch.Tensor) -> list[float]:
    """What the states (1, T, D) of one are multiplied by in the other."""
    ratio = (other * one).sum(-1) / (one * one).sum(-1)
    assert torch.allclose(one * ratio.unsqueeze(-1), other, atol=1e-5)
    return [round(float(r), 3) for r in ratio[0]]


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_weight_multiplies_the_states_of_its_words_that_the_denoiser_receives(name: str) -> None:
    plain, generator = told(name, BENIGN), Generator(pipeline(name), prepared(name))
    with watched(generator.pipe) as calls:
        (picture,), report = generator.generate("a (dog:1.05) with a [red apple]", FAST)
    assert report is not None
    assert [(w.text, w.weight) for w in report.before.words if w.weight != 1] == [
        ("dog", 1.05), ("red", 0.9091), ("apple", 0.9091),
    ]  # fmt: skip
    assert picture.record.guard["weights"] == [
        {"text": "dog", "weight": 1.05},
        {"text": "red apple", "weight": 0.9091},
    ]
    for channel, read in CHANNELS[name].items():
        if channel.endswith("pooled"):
            assert same(read(calls[0]), plain[channel])
        else:
            found = factors(plain[channel], read(calls[0]))
            assert found == [1, 1, 1.05, 1, 1, 0.909, 0.909] + [1] * 17


def test_without_marks_the_conditioning_is_the_same_object(generator: Generator) -> None:
    read = generator.encode([clean("a cat (on a mat)")])
    assert weigh(read.conditioning, read.weights) is read.conditioning
    assert generator.guard is not None
    sanitized, _ = generator.guard.sanitize(read.conditioning, weights=read.weights, wholes=read.wholes)
    assert sanitized is read.conditioning
    assert read.abreast(read.conditioning)[0].channels["text"].states.data_ptr() == states(read.conditioning).data_ptr()


def test_a_flagged_word_has_no_weight(generator: Generator) -> None:
    without, _ = final(generator, PLAIN)
    for own in (
        "a cat and a kitchen (knife:1.9)",
        "a cat and a kitchen ((((knife))))",
        "a cat and a kitchen k(nif:2)e",
    ):
        guarded, report = final(generator, own)
        assert report.rewritten
        assert report.weights == ()
        assert same(states(guarded), states(without))


def test_words_that_a_rewriting_leaves_keep_theirs(generator: Generator) -> None:
    guarded, report = final(generator, OWN)
    assert [(report.after.prompt[slice(*w.span)], w.value) for w in report.weights] == [("cat", 1.4)]
    assert not report.after.flagged
    found = factors(states(final(generator, PLAIN)[0]), states(guarded))
    assert found[:4] == [1, 1, 1.4, 1]
    assert set(found[4:]) == {1}


@METHODS
def test_no_method_lets_a_weight_get_a_prompt_flagged_again(generator: Generator, safeguard: str) -> None:
    guarded = Generator(generator.pipe, Guard("violence", safeguard=safeguard), "embedded")
    without, unweighted = final(guarded, PLAIN)
    for own in (OWN, "(a cat and a kitchen knife:1.9)"):
        conditioning, report = final(guarded, own)
        word = [report.after.prompt[slice(*w.span)] for w in report.weights]
        assert "knife" not in word
        if report.weights:
            assert not report.after.flagged
        else:
            assert same(states(conditioning), states(without))
            assert report.after.concepts == unweighted.after.concepts


def test_weights_are_dropped_where_the_guard_objects(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = generator.guard.context.scorer  # type: ignore[union-attr]
    monkeypatch.setattr(scorer, "objections", lambda conditioning, _: [["violence"]] * len(conditioning.prompts))
    prepared = ready(generator, clean("a (cat:1.3)"))
    guarded, report = prepared.conditioning, prepared.report
    assert guarded is not None
    assert report is not None
    assert (report.weights, report.objections) == ((), ("violence",))
    assert same(states(guarded), states(generator.family.encode(["a cat"])))
    assert not same(states(prepared.plain), states(guarded))


def test_a_weight_that_makes_a_prompt_harmful_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the miniature the classifier is linear: were there no bound, a benign word's weight could get it flagged."""
    monkeypatch.setattr("safegen.prompts.emphasis.MOST", 9.0)
    generator = Generator(pipeline("sd"), prepared("sd"))
    outcomes = set()
    for word in BENIGN.split():
        guarded, report = final(generator, BENIGN.replace(word, f"({word}:9)", 1))
        outcomes.add(report.objections)
        assert bool(report.objections) != bool(report.weights)
        assert not report.after.flagged
        if report.objections:
            assert same(states(guarded), states(generator.family.encode([BENIGN])))
    assert outcomes == {(), ("violence",)}


def test_states_that_are_not_finite_are_no_picture(generator: Generator) -> None:
    huge = replace(clean("a (cat:2)"), weights=(Weight((2, 5), float("inf")),))
    with pytest.raises(GuardError, match="not finite"):
        ready(generator, huge)


@pytest.mark.parametrize("guard", [None, 0.0])
def test_without_a_guard_weights_apply_to_every_word(generator: Generator, guard: float | None) -> None:
    free = Generator(generator.pipe, None if guard is None else Guard("violence", strength=guard), "embedded")
    found = factors(states(free.family.encode([PLAIN])), states(final(free, OWN)[0]))
    assert (found[2], found[6]) == (1.4, 1.9)
    assert found.count(1) == len(found) - 2


@pytest.mark.parametrize("name", ["sd3", "flux-dev", "sana", "z-image", "flux2"])
def test_models_that_know_no_weights_read_the_marks_as_text(name: str) -> None:
    own = "a (dog:1.3) with a red [apple]"
    generator = Generator(pipeline(name), None)
    prompt = clean(own)
    read = generator.encode([prompt])
    assert read.conditioning.prompts == (own,)
    assert not any(read.weights)
    (picture,), _ = generator.generate(own, replace(FAST, guidance=None))
    assert picture.record.text == own
    assert "weights" not in picture.record.guard


def test_weights_in_a_long_prompt_stay_with_their_words(generator: Generator) -> None:
    own = "a red apple on a blue background , " * 12 + "a (cat:1.3) and (a dog:0.8)"
    plain, _ = final(generator, clean(own).text)
    guarded, report = final(generator, own)
    assert [(report.after.prompt[slice(*w.span)], w.value) for w in report.weights] == [("cat", 1.3), ("a dog", 0.8)]
    found = factors(states(plain), states(guarded))
    tokens = guarded.channels["text"].tokens[0]
    assert {t.text: f for t, f in zip(tokens, found, strict=True) if f != 1} == {"cat": 1.3, "a": 0.8, "dog": 0.8}


@pytest.mark.slow
def test_a_batch_keeps_the_users_own_text(generator: Generator, tmp_path: Path) -> None:
    lines = ["a cat", "a (cat:1.3)", OWN, "a (dog:1.2) " + "on a blue background , " * 20]
    for redact in (False, True):
        settings, folder = BatchSettings.of(steps=1, batch_size=4, redact=redact), tmp_path / str(redact)
        with run.prepare_run(Source("-", "txt", "\n".join(lines).encode()), settings, folder) as ready:
            summary = ready.run(LocalEngine(lambda settings=settings: Worker(generator, settings)), Watch())
        assert summary.exit_code == 0
        records = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        if redact:
            assert "cat" not in json.dumps(records)
            assert "dog" not in json.dumps(records)
            continue
        assert {record["text"] for record in records} == {line.strip() for line in lines}
        assert len({record["id"] for record in records}) == 4
        (repaired,) = (record for record in records if record["text"] == OWN)
        assert repaired["guard"]["weights"] == [{"text": "cat", "weight": 1.4}]
        assert all(OWN[slice(*word["span"])] == word["text"] for word in repaired["guard"]["words"])
        assert any(text == "knife" and "violence" in over for text, over in gallery.card(repaired)["parts"])


def test_skipping_the_flagged_draws_no_weight_that_is_objected_to(generator: Generator) -> None:
    prompts = [clean("a (cat:1.3)"), clean(OWN)]
    for on_flag, drawn in (("warn", [1, 2]), ("skip", [1, None])):
        found = [unwrap(one) for one in generator.prepare(prompts, on_flag)]  # type: ignore[arg-type]
        weights = [len(f.report.weights) if f.conditioning is not None and f.report else None for f in found]
        assert weights == drawn


def test_the_table_shows_weights(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("generate", OWN, "--steps", "1", "--seed", "1", "--json", "--out", str(tmp_path)) == 0
    done = capsys.readouterr()
    assert "weight" in done.err
    assert "weights: cat 1.40; words that were flagged or changed have none" in done.err
    assert json.loads(done.out)["text"] == OWN
    assert command("score", OWN, "--json") == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["prompt"] == PLAIN
    assert {w["text"]: w["weight"] for w in scored["words"] if "weight" in w} == {"cat": 1.4, "knife": 1.9}
    assert command("score", PLAIN) == 0
    assert "weight" not in capsys.readouterr().out
