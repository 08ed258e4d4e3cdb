"""Sharing direction files: what is exported arrives whole, and nothing else is let in."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safegen.directions import attributes, bundle, cache, edits, latent, recipes, store
from safegen.directions.direction import Direction
from safegen.directions.edits import WeightEdit
from safegen.directions.latent import LatentDirection
from safegen.errors import DirectionError, OutputError, PromptError, UnknownConcept
from safegen.learning import corpus
from safegen.learning.effort import BRIEF
from safegen.prompts import datasets

Command = Callable[..., int]
STRANGER = "ab" * 32  # the fingerprint of an encoder that nothing is shipped for
NAME = "violence/clip_text_model-abababab.safetensors"
WOMAN, UCE = "woman-unet-abababab.safetensors", "uce-unet-abababab.safetensors"


def direction(**changes: Any) -> Direction:
    """The shipped direction of violence, as if it had been learned for another encoder."""
    (path,) = (p for p in store.direction_files("violence") if p.parent.parent == recipes.directions_folder())
    found = Direction.load(path)
    return Direction(found.tensors, {**found.info, "fingerprint": STRANGER, **changes})


@pytest.fixture
def learned() -> Path:
    path = store.cache_folder() / NAME
    direction().save(path)
    return path


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Go to a machine with an empty cache."""
    return lambda: monkeypatch.setenv("SAFEGEN_CACHE", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("target", ["bundle.zip", "bundle"])
def test_what_is_exported_arrives(
    command: Command, learned: Path, elsewhere: Any, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, content = tmp_path / target, learned.read_bytes()
    assert command("directions", "export", "--encoder", "clip_text_model", "--out", str(out)) == 0
    assert str(out) in capsys.readouterr().out
    assert command("directions", "export", "--out", str(out)) == 1  # it exists
    elsewhere()
    assert store.find("violence", STRANGER, None) is None
    assert command("directions", "import", str(out)) == 0
    shown = capsys.readouterr()
    assert str(store.cache_folder() / NAME) in shown.out
    assert "held out (recipe lines): auc" in shown.err
    assert (store.cache_folder() / NAME).read_bytes() == content
    found = store.find("violence", STRANGER, None)
    assert found is not None
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert command("directions", "import", str(out)) == 0  # nothing new in it
    assert "kept already" in capsys.readouterr().err


def test_what_belongs_to_a_denoiser_travels_too(command: Command, elsewhere: Any, tmp_path: Path) -> None:
    """Vectors of attributes, and weight edits."""
    vector = LatentDirection.load(next(latent.files("gender", "woman", attributes.known()["gender"])))
    replace(vector, info={**vector.info, "fingerprint": STRANGER}).save(latent.cached_folder() / "gender" / WOMAN)
    edit = WeightEdit.load(next(edits.files("violence", "uce", recipes.known()["violence"])))
    replace(edit, info={**edit.info, "fingerprint": STRANGER}).save(edits.cached_folder() / "violence" / UCE)
    assert command("directions", "export", "--out", str(tmp_path / "b.zip")) == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as file:
        assert set(file.namelist()) == {f"gender/latent/{WOMAN}", f"violence/edits/{UCE}", bundle.MANIFEST}
    elsewhere()
    assert command("directions", "import", str(tmp_path / "b.zip")) == 0
    assert latent.find("gender", "woman", STRANGER, None).vector.equal(vector.vector)
    assert edits.find("violence", "uce", STRANGER, None).layers() == edit.layers()
    replace(vector, info={**vector.info, "held_out": {"way_gone": 0.01}}).save(tmp_path / WOMAN)
    with pytest.raises(DirectionError, match="useless"):
        bundle.read(tmp_path / WOMAN)


def test_one_file_may_come_alone(command: Command, learned: Path, elsewhere: Any, tmp_path: Path) -> None:
    alone = Path(shutil.copy(learned, tmp_path / "any name.safetensors"))
    elsewhere()
    assert command("directions", "import", str(alone)) == 0
    assert (store.cache_folder() / NAME).is_file()


def test_nothing_is_overwritten_unasked(
    command: Command, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    direction(title="Another").save(other)
    before = learned.read_bytes()
    assert command("directions", "import", str(other)) == 1
    assert "--replace" in capsys.readouterr().err
    assert learned.read_bytes() == before
    assert command("directions", "import", str(other), "--replace") == 0
    assert Direction.load(learned).info["title"] == "Another"


def test_what_ships_needs_no_sharing(tmp_path: Path) -> None:
    with pytest.raises(DirectionError, match="nothing is learned here for any concept"):
        bundle.learned((), "", None)
    with pytest.raises(UnknownConcept, match="violense"):
        bundle.learned(("violense",), "", None)


def test_a_broken_file_is_not_exported(learned: Path, tmp_path: Path) -> None:
    learned.write_bytes(b"no")
    with pytest.raises(DirectionError, match="not a safetensors file"):
        bundle.write({NAME: learned}, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def manifest(files: dict[str, bytes]) -> bytes:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return json.dumps({"schema": bundle.SCHEMA, "files": hashes}).encode()


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../violence/clip_text_model-abababab.safetensors", "no direction file"),
        ("/violence/clip_text_model-abababab.safetensors", "no direction file"),
        ("../clip_text_model-abababab.safetensors", "no direction file"),
        ("violence\\..\\clip_text_model-abababab.safetensors", "no direction file"),
        ("violence/clip_text_model-abababab.pt", "no direction file"),
        ("violence/learn.py", "no direction file"),
        ("hate/clip_text_model-abababab.safetensors", "holds violence/clip_text_model-abababab"),
        ("violence/clip_text_model-00000000.safetensors", "holds violence/clip_text_model-abababab"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(learned: Path, tmp_path: Path, name: str, reason: str) -> None:
    files = {name: learned.read_bytes()}
    with pytest.raises(DirectionError, match=reason):
        bundle.read(packed(tmp_path / "b.zip", {**files, bundle.MANIFEST: manifest(files)}))


def test_a_bundle_is_what_its_manifest_says(learned: Path, tmp_path: Path) -> None:
    content = learned.read_bytes()
    good = manifest({NAME: content})
    cases = {
        "is not what was exported": {NAME: content[:-1] + b"\x01", bundle.MANIFEST: good},
        "lacks violence/": {bundle.MANIFEST: good},
        "holds, unnamed, hate/": {
            NAME: content,
            "hate/clip_text_model-abababab.safetensors": content,
            bundle.MANIFEST: good,
        },
        "has no bundle.json": {NAME: content},
        "is not of safegen.bundle/1": {NAME: content, bundle.MANIFEST: b"[]"},
    }
    for reason, files in cases.items():
        with pytest.raises(DirectionError, match=reason):
            bundle.read(packed(tmp_path / "b.zip", files))
    whole = packed(tmp_path / "b.zip", {NAME: content, bundle.MANIFEST: good})
    assert [arrival.name for arrival in bundle.read(whole)] == [NAME]
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(DirectionError, match="no bundle"):
        bundle.read(whole)
    with pytest.raises(DirectionError, match="there is no"):
        bundle.read(tmp_path / "none.zip")


def test_links_in_a_folder_are_not_followed(learned: Path, tmp_path: Path) -> None:
    bundle.write({NAME: learned}, tmp_path / "bundle")
    (tmp_path / "bundle" / NAME).unlink()
    (tmp_path / "bundle" / NAME).symlink_to(learned)
    with pytest.raises(DirectionError, match="is a link"):
        bundle.read(tmp_path / "bundle")


def test_what_is_too_large_is_not_read(learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.write({NAME: learned}, tmp_path / "b.zip")
    monkeypatch.setattr(bundle, "LARGEST", 1000)
    for source in (tmp_path / "b.zip", learned):
        with pytest.raises(DirectionError, match="has more than"):
            bundle.read(source)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"concept": "../../evil"}, "cannot be named"),
        ({"concept": "."}, "cannot be named"),
        ({"encoder": "../clip"}, "cannot be named"),
        ({"fingerprint": "ab"}, "cannot be named"),
        ({"fingerprint": 7}, "wrong type"),
        ({"recipe_sha256": "0" * 64}, "another recipe"),
        ({"held_out": {"auc": 0.7}}, "AUC of only 0.7"),
        ({"held_out": {"auc": float("nan")}}, "not ready"),
        ({"held_out": None}, "not ready"),
    ],
)
def test_a_direction_that_cannot_be_trusted_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = tmp_path / "d.safetensors"
    direction(**changes).save(path)
    with pytest.raises(DirectionError, match=reason):
        bundle.read(path)
    assert not store.cache_folder().exists()


def test_a_concept_without_a_recipe_and_a_pickle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    direction(concept="unheard-of").save(path)
    with pytest.raises(UnknownConcept):
        bundle.read(path)
    path.write_bytes(pickle.dumps({"violence": 1}))
    with pytest.raises(DirectionError, match="not a safetensors file"):
        bundle.read(path)


def test_the_cache_is_listed_and_cleaned(
    command: Command, learned: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store.cache_folder().parent
    for name in ("background/00.safetensors", "direction-1/hate/clip_text_model-00.safetensors", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * 1000)
    (root / "link.safetensors").symlink_to(learned)
    assert command("directions", "list") == 0
    shown = capsys.readouterr().out
    assert all(
        text in shown for text in ("violence/clip_text_model-abababab", "of another version", "encoded benign text")
    )
    assert command("directions", "list", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "clip_text_model-abababab" in next(line for line in lines if line["name"] == "violence")["encoders"]
    kinds = {line["name"]: line["kind"] for line in lines if line["schema"] == "safegen.cached/1"}
    assert kinds == {
        "violence/clip_text_model-abababab": cache.LEARNED,
        "background/00": cache.TEXT,
        "direction-1/hate/clip_text_model-00": cache.OLD,
    }
    assert command("directions", "clean", "hate") == 0
    assert "nothing to remove" in capsys.readouterr().err
    assert command("directions", "clean") == 2  # nobody is there to ask
    assert "would free" in capsys.readouterr().err
    assert learned.exists()
    assert command("directions", "clean", "violence", "--yes") == 0
    assert not learned.parent.exists()
    assert (root / "background" / "00.safetensors").exists()
    assert command("directions", "clean", "--yes") == 0
    assert "freed" in capsys.readouterr().err
    assert sorted(p.name for p in root.iterdir()) == ["link.safetensors", "notes.txt"]


def test_what_was_learned_here_goes_before_what_is_shipped_while_its_recipe_is_todays() -> None:
    (path,) = store.direction_files("violence")
    shipped = Direction.load(path)
    own = store.cache_folder() / "violence" / path.name
    Direction(shipped.tensors, {**shipped.info, "title": "Own"}).save(own)
    found = store.find("violence", shipped.info["fingerprint"], None)
    assert found is not None
    assert found.info["title"] == "Own"
    Direction(shipped.tensors, {**shipped.info, "title": "Own", "recipe_sha256": "0" * 64}).save(own)
    found = store.find("violence", shipped.info["fingerprint"], None)
    assert found is not None
    assert found.sha256 == shipped.sha256


def test_benign_prompts_of_ones_own(tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "benign.csv"
    file.write_text("caption\n" + "\n".join(f"a plate of {n} figs" for n in range(40)))
    own = datasets.training_prompts(file)
    assert 20 < len(own) < 36
    assert not any(datasets.is_validation(prompt) for prompt in own)
    assert set(corpus.benign_prompts(BRIEF, own)) == {*corpus.benign_prompts(BRIEF), *own}
    file.write_text("unsafe_prompt,safe_prompt,category\na blunt knife,a spoon,violence\n")
    with pytest.raises(PromptError, match="set of pairs"):
        datasets.training_prompts(file)
    assert command("directions", "learn", "violence", "--benign", str(file)) == 2
    assert "Give it as --pairs" in capsys.readouterr().err


def test_what_is_learned_with_poor_figures_is_shown_and_not_kept(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}

    def background(_family: Any, _effort: Any, more: list[str], _progress: Any) -> dict[str, Any]:
        seen["more"] = more
        return {}

    def learn(*given: Any) -> dict[str, Direction]:
        seen["sources"] = next(some for some in given if isinstance(some, dict) and "benign" in some)
        return {"text": direction(held_out={"auc": seen["auc"], "caught": 0.1})}

    monkeypatch.setattr("safegen.learning.features.background", background)
    monkeypatch.setattr("safegen.learning.contrastive.learn", learn)
    (tmp_path / "calm.csv").write_text("prompt\na\nb\nc\nd\ne\nf\n")
    seen["auc"] = 0.6
    assert command("directions", "learn", "violence", "--benign", str(tmp_path / "calm.csv")) == 1
    told = capsys.readouterr()
    assert "violence, held out (recipe lines): auc 0.6, caught 0.1" in told.err
    assert "not ready" in told.err
    assert told.out == ""
    assert not (store.cache_folder() / NAME).exists()
    assert seen["more"]
    assert seen["sources"] == {"pairs": "", "benign": "calm.csv"}
    seen["auc"] = 0.95
    assert command("directions", "learn", "violence") == 0
    told = capsys.readouterr()
    assert "violence, held out (recipe lines): auc 0.95, caught 0.1" in told.err
    assert told.out.strip() == str(store.cache_folder() / NAME)
    assert Direction.load(store.cache_folder() / NAME).info["held_out"]["auc"] == 0.95


def test_a_target_in_use_is_left_alone(learned: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        bundle.write({NAME: learned}, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"]
