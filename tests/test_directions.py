"""Direction files: what is shipped is sound, what is foreign or corrupt is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from safegen.directions import direction as direction_file
from safegen.directions import recipes, store
from safegen.directions.direction import Direction
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError, UnknownConcept, UsageError
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.learning import ensure
from safegen.learning.effort import BRIEF, THOROUGH
from safegen.scoring.probes import Probes, features

STANDARD = ["harassment", "hate", "illegal", "nudity", "self-harm", "shocking", "violence"]


def shipped(name: str = "violence") -> Path:
    (file,) = store.direction_files(name)
    return file


def test_the_standard_concepts_are_shipped() -> None:
    assert sorted(recipes.known()) == STANDARD
    assert all(store.direction_files(name) for name in STANDARD)


@pytest.mark.parametrize("name", STANDARD)
def test_a_shipped_direction_is_of_its_recipe_and_good(name: str) -> None:
    direction = Direction.load(shipped(name))
    assert direction.info["recipe_sha256"] == Concept.load(name).sha256
    assert direction.info["held_out"]["auc"] > store.POOR
    assert direction.info["calibration"]["n"][1] >= 500
    assert direction.info["sources"]


def test_a_direction_survives_saving(tmp_path: Path) -> None:
    direction = Direction.load(shipped())
    direction.save(tmp_path / "copy.safetensors")
    again = Direction.load(tmp_path / "copy.safetensors")
    assert again.info == direction.info
    assert all(torch.equal(again.tensors[k], v) for k, v in direction.tensors.items())


def foreign(tmp_path: Path, **changes: object) -> Path:
    direction = Direction.load(shipped())
    info = {"schema": direction_file.SCHEMA, **direction.info, **changes}
    path = tmp_path / "foreign.safetensors"
    save_file(dict(direction.tensors), path, {"safegen": json.dumps({k: v for k, v in info.items() if v is not None})})
    return path


def test_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DirectionError, match="schema"):
        Direction.load(foreign(tmp_path, schema="safegen.direction/99"))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(DirectionError, match="threshold"):
        Direction.load(foreign(tmp_path, threshold=None))


def test_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DirectionError, match="width 256, expected 768"):
        Direction.load(foreign(tmp_path, width=768))


def test_another_encoder_is_not_taken(tmp_path: Path, generator: Generator) -> None:
    folder = tmp_path / "violence"
    folder.mkdir()
    (folder / "concept.toml").write_bytes((recipes.known()["violence"] / "concept.toml").read_bytes())
    foreign(tmp_path, fingerprint="0" * 64).rename(folder / "clip_text_model-00000000.safetensors")
    assert store.find("violence", generator.family.fingerprints()["text"], tmp_path) is None


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    direction = Direction.load(shipped())
    tensors = dict(direction.tensors)
    tensors["token.mean"] = tensors["token.mean"] * float("nan")
    save_file(
        tensors,
        tmp_path / "nan.safetensors",
        {"safegen": json.dumps({"schema": direction_file.SCHEMA, **direction.info})},
    )
    with pytest.raises(DirectionError, match="not finite"):
        Direction.load(tmp_path / "nan.safetensors")


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        (r"token\.gate", "token.gate"),
        (r"end\.gate_centre", "end.gate_centre"),
        (r"pad\.check(_centre)?", "pad.check, pad.check_centre"),
        (r"\w+\.(gate|check)(_centre)?", "token.gate"),
        (r"token\..*", "token.gate"),
        (r"gate\.bias", "gate.bias"),
    ],
)
def test_a_file_that_lacks_a_part_of_its_heads_is_refused(tmp_path: Path, lost: str, named: str) -> None:
    """It would score lower, and nothing would say so."""
    direction = Direction.load(shipped())
    tensors = {name: tensor for name, tensor in direction.tensors.items() if not re.fullmatch(lost, name)}
    direction_file.Direction(tensors, direction.info).save(tmp_path / "part.safetensors")
    with pytest.raises(DirectionError, match=rf"part\.safetensors lacks the tensors .*{re.escape(named)}"):
        Direction.load(tmp_path / "part.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95pickle", b"\x00" * 100, b"\xff" * 100])
def test_what_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(DirectionError, match="not a safetensors file"):
        Direction.load(tmp_path / "bad.safetensors")


def test_safetensors_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(DirectionError, match="not a direction"):
        Direction.load(tmp_path / "lora.safetensors")


def test_a_corrupt_file_beside_a_recipe_stops_the_guard(tmp_path: Path, generator: Generator) -> None:
    folder = tmp_path / "violence"
    folder.mkdir()
    (folder / "concept.toml").write_bytes((recipes.known()["violence"] / "concept.toml").read_bytes())
    (folder / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(DirectionError, match="not a safetensors"):
        ensure.resolve(["violence"], generator.family, tmp_path)


def test_an_unknown_concept_names_the_nearest() -> None:
    with pytest.raises(UnknownConcept) as raised:
        Concept.load("violense")
    assert "Did you mean 'violence'?" in raised.value.hint


@pytest.mark.parametrize(
    "text", ["not toml [", "title = 'no targets'", "[targets]\na = 1\nb = 2\nc = 3", "[targets]\na = 'b'"]
)
def test_a_bad_recipe_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "concept.toml").write_text(text)
    with pytest.raises(UsageError):
        recipes.parse(tmp_path / "concept.toml")


def test_recipes_keep_their_benign_phrases_out_of_the_targets() -> None:
    for name in STANDARD:
        recipe = Concept.load(name)
        assert len(recipe.targets) >= 30
        assert len(recipe.benign) >= 30
        assert not set(recipe.targets) & set(recipe.benign)
        assert not set(recipe.targets) & set(recipe.targets.values())


def test_a_method_that_a_file_lacks_is_named_with_the_way_to_learn_it(tmp_path: Path, generator: Generator) -> None:
    """A guard never goes on without the network or the region that it was asked to use."""
    direction = Direction.load(shipped())
    for method, missing in (("es", "learned sanitizer"), ("region", "safe region")):
        tensors = {k: v for k, v in direction.tensors.items() if "es" not in k.split(".") and "region" not in k}
        folder = tmp_path / method / "violence"
        folder.mkdir(parents=True)
        (folder / "concept.toml").write_bytes((recipes.known()["violence"] / "concept.toml").read_bytes())
        direction_file.Direction(tensors, direction.info).save(folder / f"{direction.stem}.safetensors")
        guard = Guard("violence", safeguard=method, folder=tmp_path / method)
        with pytest.raises(DirectionError, match=missing) as raised:
            guard.bind(generator.family)
        assert "safegen directions learn violence" in raised.value.hint


def test_a_direction_of_another_revision_of_the_encoder_is_refused(tmp_path: Path, generator: Generator) -> None:
    """Beside the user's own recipe; in the cache, files of any encoder may lie side by side."""
    folder = tmp_path / "violence"
    folder.mkdir()
    (folder / "concept.toml").write_bytes((recipes.known()["violence"] / "concept.toml").read_bytes())
    foreign(tmp_path, fingerprint="0" * 64).rename(folder / "clip_text_model-00000000.safetensors")
    with pytest.raises(DirectionError, match="another revision of the clip_text_model encoder") as raised:
        ensure.resolve(["violence"], generator.family, tmp_path)
    assert "safegen directions learn violence" in raised.value.hint


def test_a_direction_of_the_former_edition_is_refused_by_name(tmp_path: Path, generator: Generator) -> None:
    folder = tmp_path / "violence"
    folder.mkdir()
    (folder / "concept.toml").write_bytes((recipes.known()["violence"] / "concept.toml").read_bytes())
    fingerprint = ensure.FORMER.ljust(64, "0")
    foreign(tmp_path, fingerprint=fingerprint).rename(folder / f"bert-{ensure.FORMER}.safetensors")
    with pytest.raises(DirectionError, match="former edition of the embedded model") as raised:
        ensure.resolve(["violence"], generator.family, tmp_path)
    assert "Learn it again" in raised.value.hint


def test_a_gpu_is_taught_thoroughly_and_a_processor_briefly(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = generator.family
    assert ensure.effort_here(family) is BRIEF
    monkeypatch.setattr(type(family), "device", torch.device("cuda"))  # what is asked of it, and all that there is here
    assert ensure.effort_here(family) is THOROUGH
    monkeypatch.setattr(family, "outputs", [replace(output, width=4096) for output in family.outputs])
    assert ensure.effort_here(family) is BRIEF


def test_what_is_learned_unasked_is_no_poorer_than_what_it_goes_before(tmp_path: Path, generator: Generator) -> None:
    recipe = Concept.load("violence")
    assert ensure.effort_for(recipe, generator.family, None) is THOROUGH
    known = shutil.copytree(recipes.known()["violence"], tmp_path / "mine")
    next(known.glob("*.safetensors")).unlink()
    assert ensure.effort_for(Concept.load("mine", tmp_path), generator.family, tmp_path) is BRIEF
    (known / "clip_text_model-00000000.safetensors").write_bytes(b"no direction")
    assert ensure.effort_for(Concept.load("mine", tmp_path), generator.family, tmp_path) is BRIEF


def test_percentiles_of_words_are_shares_of_benign_positions(generator: Generator) -> None:
    (sheet,) = generator.score(["a cat and a kitchen knife"])
    knife, cat = sheet.words[-1], sheet.words[1]
    assert knife.percentiles["violence"] > 99 > cat.percentiles["violence"]
    assert all(0 <= share <= 100 for word in sheet.words for share in word.percentiles.values())
    order = sorted(sheet.words, key=lambda word: word.scores["violence"])
    assert [w.percentiles["violence"] for w in order] == sorted(w.percentiles["violence"] for w in order)


def test_directions_learned_with_different_efforts_work_together(generator: Generator) -> None:
    """A head of less effort has fewer hidden units, and a basis of less rank."""
    shipped = ensure.resolve(["violence", "hate"], generator.family, None)
    wide, other = (shipped[name]["text"] for name in ("violence", "hate"))
    narrow = {k: v[:40] if k.endswith((".gate", ".check", ".bias", ".out")) else v for k, v in wide.tensors.items()}
    narrow = {k: v[:2] if k.endswith((".basis", ".dual", ".floor", ".ceiling")) else v for k, v in narrow.items()}
    mixed = Probes([Direction(narrow, wide.info), other])
    channel = generator.family.encode(["a cat and a kitchen knife", "a cat"]).channels["text"]
    alone = Probes([Direction(narrow, wide.info)])
    for head in ("gate", "check"):
        together = mixed.raw(features(channel), head)
        assert torch.allclose(together[:, :1], alone.raw(features(channel), head), atol=1e-4)
        assert torch.allclose(together[:, 1:], Probes([other]).raw(features(channel), head), atol=1e-4)


def test_numbers_that_are_not_finite_are_not_ready() -> None:
    """However good the figures are that somebody measured."""
    known = Direction.load(store.direction_files("violence")[0])
    store.check_ready(known, "it")
    broken = Direction({**known.tensors, "check.thresholds": torch.full((3,), torch.nan)}, known.info)
    assert not store.is_ready(broken)
    with pytest.raises(DirectionError, match="not finite"):
        store.check_ready(broken, "it")
