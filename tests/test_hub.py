"""The hub's cache without a network, and what the hub's errors mean."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from safegen.errors import ModelError
from safegen.families import family_of
from safegen.models import catalog, loading
from safegen.models.hub import Repository
from tests.helpers import miniatures

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about models as small as these
COMMIT = "c" * 40
NAME = "owner/miniature"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "miniature"
    pipe = miniatures.stable_diffusion()
    pipe.save_pretrained(folder)
    shutil.rmtree(folder / "unet")
    pipe.unet.save_pretrained(folder / "unet", max_shard_size="50KB")
    return folder


@pytest.fixture
def snapshot(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The miniature as the hub's own client would have put it into its cache."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    home = cache / "models--owner--miniature"
    for name in ("blobs", "refs"):
        (home / name).mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    for path in (p for p in saved.rglob("*") if p.is_file()):
        blob = home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        link = home / "snapshots" / COMMIT / path.relative_to(saved)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return home / "snapshots" / COMMIT


@pytest.mark.parametrize("how", [{"offline": True}, {"offline": True, "revision": COMMIT}, {}])
def test_a_whole_snapshot_is_loaded_without_a_network(snapshot: Path, how: dict[str, Any]) -> None:
    pipe = loading.load(NAME, device="cpu", **how)
    assert family_of(pipe).fingerprints() == family_of(miniatures.stable_diffusion()).fingerprints()


def shard(snapshot: Path) -> None:
    sorted((snapshot / "unet").glob("*.safetensors"))[-1].unlink()


def encoder(snapshot: Path) -> None:
    shutil.rmtree(snapshot / "text_encoder")


def vocabulary(snapshot: Path) -> None:
    (snapshot / "tokenizer" / "tokenizer.json").unlink()


def pickled(snapshot: Path) -> None:
    weights = snapshot / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


@pytest.mark.parametrize("how", [{"offline": True}, {}], ids=["offline", "unreachable"])
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (shard, "half-downloaded: unet/.* is missing"),
        (encoder, "half-downloaded: text_encoder/ is missing"),
        (vocabulary, "half-downloaded: tokenizer/ has no vocabulary"),
        (pickled, "pickled weights only"),
    ],
)
def test_a_half_downloaded_snapshot_names_what_is_missing(
    snapshot: Path, harm: Callable[[Path], None], words: str, how: dict[str, Any]
) -> None:
    harm(snapshot)
    with pytest.raises(ModelError, match=f"{NAME}.*{words}"):
        loading.load(NAME, **how)


def test_what_is_not_in_the_cache_is_named_with_its_revision_and_variant(snapshot: Path) -> None:
    with pytest.raises(
        ModelError, match=r"\(owner/miniature, revision old, variant fp16\) is not in the local"
    ) as raised:
        loading.load(NAME, offline=True, revision="old", variant="fp16")
    assert f"safegen pull {NAME} --revision old --variant fp16" in raised.value.hint
    with pytest.raises(ModelError, match=f"{NAME} has no weights of the variant 'fp16'"):
        loading.load(NAME, offline=True, variant="fp16")


def test_pulling_checks_the_class_and_that_all_is_there(
    snapshot: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("pull", NAME) == 0
    assert capsys.readouterr().out.strip() == str(snapshot)
    vocabulary(snapshot)
    assert command("pull", NAME) == 1
    assert "has no vocabulary" in capsys.readouterr().err
    index = snapshot / "model_index.json"
    values = json.loads(index.read_text())
    index.unlink()
    index.write_text(json.dumps({**values, "_class_name": "KandinskyPipeline"}))
    assert command("pull", NAME) == 1
    assert "cannot guard a KandinskyPipeline" in capsys.readouterr().err


def test_code_that_comes_with_the_weights_is_refused(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look is at the index alone."""
    monkeypatch.setattr(Repository, "fetch", lambda _, folder: (folder / "modular_config.json").write_text("{}"))
    with pytest.raises(ModelError, match="code of its own"):
        loading.load(NAME, device="cpu")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a hub on this machine, which has nothing, is asked."""
    seen: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(404)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nobody listens."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    here, files = f"http://127.0.0.1:{server.server_port}", huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        *(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE"),
        files.replace(huggingface_hub.constants.ENDPOINT, here),
    )
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", here)
    yield seen
    server.shutdown()
    server.server_close()
    thread.join()


# Weights by which checkpoints in one file are known, and the models of the hub whose configuration they are read by.
ONE_FILE = {
    "cond_stage_model.transformer.text_model.embeddings.position_ids": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": "stabilityai/stable-diffusion-xl-base-1.0",
    "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias": (
        "stabilityai/stable-diffusion-xl-refiner-1.0"
    ),
}


@pytest.mark.parametrize("key", ONE_FILE)
def test_offline_asks_nobody_about_a_checkpoint_in_one_file(
    snapshot: Path,
    tmp_path: Path,
    asked: list[str],
    key: str,
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "model.safetensors"
    save_file({key: torch.zeros(1, 77)}, file)
    for arguments in (("generate", "a cat"), ("score", "a cat"), ("directions", "verify", "hate")):
        assert command(*arguments, "--model", str(file), "--offline") == 1
        said = capsys.readouterr().err
        assert f"is read by ({ONE_FILE[key]}) is not in the local cache" in said
        assert f"safegen pull {file}" in said
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert command("pull", str(file)) == 1
    monkeypatch.delenv("HF_HUB_OFFLINE")
    # Where the configuration is here, and its weights are not in the file.
    home = snapshot.parent.parent
    shutil.copytree(home, home.with_name(f"models--{ONE_FILE[key].replace('/', '--')}"))
    with pytest.raises(ModelError, match="cannot load the model"):
        loading.load(str(file), offline=True)
    assert asked == []
    assert command("pull", str(file)) == 0  # the hub is asked for news, has none, and what is here is kept
    assert any(ONE_FILE[key] in path for path in asked)


def test_offline_asks_nobody_about_folders_and_names(snapshot: Path, asked: list[str]) -> None:
    for name in (NAME, str(snapshot), catalog.EMBEDDED):
        assert loading.load(name, device="cpu", offline=True) is not None
    for name in ("owner/other", "sd15"):
        with pytest.raises(ModelError, match="is not in the local cache"):
            loading.load(name, offline=True)
    assert asked == []
    with pytest.raises(ModelError):
        loading.load("owner/other")
    assert any("owner/other" in path for path in asked)


def said(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    request = httpx.Request("GET", "https://huggingface.co/owner/m403")
    return kind("no", response=httpx.Response(status, request=request))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (said(errors.GatedRepoError, 403), "does not hand out owner/m403"),
        (said(errors.HfHubHTTPError, 401), "does not hand out owner/m403"),
        (said(errors.RepositoryNotFoundError, 401), "has no model owner/m403"),
        (said(errors.RevisionNotFoundError, 404), "has no owner/m403, revision old"),
        (said(errors.HfHubHTTPError, 503), "cannot fetch the model 'owner/m403'"),
        (errors.EntryNotFoundError("gated 401"), "has no model_index.json"),
        (errors.LocalEntryNotFoundError("gated 401"), "is not in the local cache"),
        (OSError("the folder m403 is gated"), "cannot fetch the model 'owner/m403': the folder"),
    ],
)
def test_errors_of_the_hub_are_told_apart_by_their_type(error: Exception, words: str) -> None:
    repository = Repository("owner/m403", "owner/m403", "old")
    assert words in str(repository.explained(error))
    if type(error) is not OSError:
        wrapped = OSError("gated, 401, as diffusers wraps it")
        wrapped.__cause__ = error
        assert words in str(repository.explained(wrapped))
