"""Textual inversions and LoRAs: scored like everything else, and never a way around the guard."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from safegen.batch.settings import BatchSettings
from safegen.batch.worker import Worker
from safegen.conditioning import Position
from safegen.directions import recipes, store
from safegen.directions.direction import Direction
from safegen.errors import DirectionError, ModelError, Unread, UsageError
from safegen.families import family_of
from safegen.generator import Generator
from safegen.guard import Guard
from safegen.models import adapters, loading
from safegen.models.adapters import Addition
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import clean
from tests.helpers import miniatures
from tests.helpers.additions import ATTENTION, added, lora, numbers
from tests.helpers.notes import Notes

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about models as small as these
Command = Callable[..., int]
QUERY = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"


def inversion(folder: Path, name: str = "<toy>", count: int = 1, width: int = 64) -> Path:
    path = folder / "toy.safetensors"
    save_file({name: numbers(count, width)}, path)
    return path


@pytest.mark.parametrize("name", ["toy.bin", "toy.pt", "toy.ckpt", "toy.pkl"])
@pytest.mark.parametrize("kind", ["embeddings", "loras"])
def test_a_pickle_is_refused_before_anything_is_opened(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(ModelError, match="is a pickle, which can run code"):
        loading.load("nowhere/at-all", offline=True, **{kind: [str(tmp_path / name)]})


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "renamed.safetensors").write_bytes(pickle.dumps({"<toy>": 1}))
    (tmp_path / "toy.txt").write_text("")
    save_file({}, tmp_path / "empty.safetensors")
    cases = {"renamed.safetensors": "not a safetensors file", "toy.txt": "not a .safetensors file"}
    cases |= {"none.safetensors": "there is no file", "empty.safetensors": "is empty"}
    for file, reason in cases.items():
        for listed in ({"embeddings": [tmp_path / file]}, {"loras": [f"{tmp_path / file}:0.5"]}):
            with pytest.raises(ModelError, match=reason):
                adapters.list_additions(**listed)


def test_scales() -> None:
    assert Addition.lora("a/style.safetensors") == Addition("lora", Path("a/style.safetensors"), 1.0)
    assert Addition.lora("style.safetensors:-0.5") == Addition("lora", Path("style.safetensors"), -0.5)
    assert Addition.lora("C:/style.safetensors") == Addition("lora", Path("C:/style.safetensors"), 1.0)
    for text in ("style.safetensors:much", "style.safetensors:nan", "style.safetensors:"):
        with pytest.raises(UsageError, match="is not a scale"):
            Addition.lora(text)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"<toy>": numbers(1, 80)}, "80 wide, the encoders of this model read 64"),
        ({"<toy>": numbers(1, 64), "other": numbers(1, 64)}, "is no textual inversion"),
        ({"<toy>": numbers(1, 64) * float("inf")}, "not finite"),
        ({"<toy>": numbers(2, 2, 64)}, "has the shape"),
        ({"a toy": numbers(1, 64)}, "cannot be a token"),
        ({"cat</w>": numbers(1, 64)}, "already in tokenizer vocabulary"),
    ],
)
def test_an_inversion_that_does_not_fit(tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str) -> None:
    save_file(tensors, tmp_path / "toy.safetensors")
    with pytest.raises(ModelError, match=reason):
        added("sd", embeddings=[tmp_path / "toy.safetensors"])


def test_pipelines_that_take_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes no textual inversions"):
        added("pixart", embeddings=[inversion(tmp_path)])
    with pytest.raises(ModelError, match="takes no LoRA"):
        added("pixart", loras=[lora(tmp_path, (ATTENTION, 64, 16))])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["sd", "sdxl", "flux-dev"])
def test_tokens_and_spans_agree_with_what_the_encoder_reads(tmp_path: Path, name: str, count: int) -> None:
    pipe = added(name, embeddings=[inversion(tmp_path, count=count)])
    family = family_of(pipe)
    read: dict[Any, list[int]] = {}
    for output in family.outputs:
        output.encoder.register_forward_pre_hook(
            lambda _, args, named, key=output.encoder: read.update(
                {key: (args[0] if args else named["input_ids"])[0].tolist()}
            ),
            with_kwargs=True,
        )
    prompt = "a cat, <toy> and <toy>."
    conditioning = family.encode([prompt])
    for output in family.outputs:
        channel = conditioning.channels[output.channel]
        ids = [i for i in read[output.encoder] if i not in set(output.tokenizer.all_special_ids)]
        assert channel.lengths == (len(ids),)
        assert channel.truncated == ("",)
        if not channel.worded or "<toy>" not in output.tokenizer.get_vocab():
            continue
        spelled = [t for t in channel.tokens[0] if t.position is Position.TOKEN]
        assert output.tokenizer.convert_tokens_to_ids([t.text for t in spelled if "<" in t.text]) == [
            i for i in ids if i in output.tokenizer.added_tokens_decoder
        ]
        words = channel.words(0)
        assert [w.text for w in words] == ["a", "cat", ",", "<toy>", "and", "<toy>", "."]
        assert [len(w.tokens) for w in words] == [1, 1, 1, count, 1, count, 1]
        assert all(prompt[slice(*w.span)] == w.text for w in words)


def test_a_window_that_is_full_of_vectors(tmp_path: Path) -> None:
    family = family_of(added("sd", embeddings=[inversion(tmp_path, count=20)]))
    (channel,) = family.encode(["a cat <toy> dog house"]).channels.values()
    assert channel.truncated == ("dog house",)
    assert channel.words(0)[-1].text == "<toy>"


def test_names_inside_one_another_are_refused_and_not_guessed(tmp_path: Path) -> None:
    first = inversion(tmp_path, "toy", 2).rename(tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="toyshop and toy lie inside one another"):
        added("sd", embeddings=[first, inversion(tmp_path, "toyshop", 2)])
    pipe = added("sd", embeddings=[first])
    pipe.maybe_convert_prompt = lambda prompts, _: [p.replace("toy", "toy of toy_1") for p in prompts]
    with pytest.raises(ModelError, match="lie inside one another"):
        family_of(pipe).encode(["a toy"])


@pytest.mark.parametrize("count", [1, 3])
def test_an_inversion_leaves_the_encoder_and_its_directions_as_they_were(tmp_path: Path, count: int) -> None:
    for name in ("sd", "sdxl"):
        before = family_of(miniatures.BUILDERS[name]()).fingerprints()
        assert family_of(added(name, embeddings=[inversion(tmp_path, count=count)])).fingerprints() == before
    family = family_of(added("sd", embeddings=[inversion(tmp_path, count=count)]))
    whole, words = (f(["a <toy> dog"]).channels["text"] for f in (family.encode, family.encode_words))
    length = words.states.shape[1]
    assert length == count + 4
    assert torch.allclose(whole.states[:, :length], words.states, atol=1e-6)
    assert whole.tokens[0][:length] == words.tokens[0]


def test_both_encoders_take_their_own_vectors_from_one_file(tmp_path: Path) -> None:
    save_file({"clip_l": numbers(2, 64), "clip_g": numbers(2, 80)}, tmp_path / "mytoy.safetensors")
    pipe = added("sdxl", embeddings=[tmp_path / "mytoy.safetensors"])
    assert all("mytoy_1" in t.get_vocab() for t in (pipe.tokenizer, pipe.tokenizer_2))
    assert [w.text for w in family_of(pipe).encode(["a mytoy"]).channels["clip_g"].words(0)] == ["a", "mytoy"]


def ids_read(pipe: Any, **asked: Any) -> dict[str, list[list[int]]]:
    """What each text encoder of a pipeline gets while it draws: the ids of every text."""
    read: dict[str, list[list[int]]] = {}
    hooks = []
    for part in ("text_encoder", "text_encoder_2"):
        if (encoder := getattr(pipe, part, None)) is not None:
            hooks.append(
                encoder.register_forward_pre_hook(
                    lambda _, args, named, part=part: read.setdefault(part, []).extend(
                        (args[0] if args else named["input_ids"]).tolist()
                    ),
                    with_kwargs=True,
                )
            )
    pipe(num_inference_steps=1, height=64, width=64, output_type="latent", **asked)
    for hook in hooks:
        hook.remove()
    return read


def vectors(tokenizer: Any, ids: list[int]) -> list[str]:
    """The names of the vectors of inversions among what is read."""
    known = tokenizer.added_tokens_decoder
    return [known[i].content for i in ids if i in known and not known[i].special]


@pytest.mark.parametrize("name", ["EasyNegative", "<TOY>", "BadHands-V2", "by_\u00dcnder.x"])
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_every_vector_of_a_name_with_capitals_reaches_every_encoder(tmp_path: Path, kind: str, name: str) -> None:
    """In whatever letters it is typed, in prompts and in negative prompts."""
    wide = {"sd": {"clip_l": 64}, "sdxl": {"clip_l": 64, "clip_g": 80}}[kind]
    save_file({key: numbers(3, width) for key, width in wide.items()}, tmp_path / f"{name}.safetensors")
    pipe = added(kind, embeddings=[tmp_path / f"{name}.safetensors"])
    prompts = {"prompt": f"a {name}, {name.upper()} and", "negative_prompt": f"{name.lower()} dog"}
    read = ids_read(pipe, **prompts)
    assert len(read) == len(wide)
    for part, rows in read.items():
        tokenizer = getattr(pipe, part.replace("text_encoder", "tokenizer"))
        every = [name, f"{name}_1", f"{name}_2"]
        assert sorted([vectors(tokenizer, row) for row in rows]) == sorted([every * 2, every])
    channels = family_of(pipe).encode([f"a {name}"]).channels.values()
    assert {channel.words(0)[1].text for channel in channels if channel.worded} == {name}


def test_a_tokenizer_that_tells_capitals_apart_finds_the_name_as_it_is_written(tmp_path: Path) -> None:
    pipe = miniatures.flux()
    pipe.text_encoder_2 = miniatures.t5(48)
    save_file({"t5xxl": numbers(3, 48), "clip_l": numbers(2, 64)}, tmp_path / "MyToy.safetensors")
    adapters.add(pipe, adapters.list_additions([tmp_path / "MyToy.safetensors"]))
    found = {}
    for part in ("tokenizer", "tokenizer_2"):
        tokenizer = getattr(pipe, part)
        texts = pipe.maybe_convert_prompt(["a MyToy cat", "a mytoy cat"], tokenizer)
        found[part] = [len(vectors(tokenizer, tokenizer(text)["input_ids"])) for text in texts]
    assert found == {"tokenizer": [2, 2], "tokenizer_2": [3, 0]}


@pytest.mark.parametrize("key", ["*", "<*>", "emb_params", "text_encoders_0"])
def test_a_placeholder_means_the_name_of_the_file(tmp_path: Path, key: str) -> None:
    save_file({key: numbers(2, 64)}, tmp_path / "Corneo-Style.safetensors")
    pipe = added("sd", embeddings=[tmp_path / "Corneo-Style.safetensors"])
    (row,) = ids_read(pipe, prompt="a corneo-style cat", guidance_scale=1.0)["text_encoder"]
    assert vectors(pipe.tokenizer, row) == ["Corneo-Style", "Corneo-Style_1"]


@pytest.mark.parametrize("name", ["(toy:1.3)", "[toy]", "t\u200boy"])
def test_a_name_that_no_prompt_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"no prompt can name|cannot be a token"):
        added("sd", embeddings=[inversion(tmp_path, name, count=2)])


def test_a_learned_word_is_known_in_all_letters_that_the_tokenizer_takes_for_it(tmp_path: Path) -> None:
    """CLIP's makes them small, and puts a letter and its accent together."""
    pipe = loading.load(device="cpu", offline=True)
    width = pipe.text_encoder.config.hidden_size
    adapters.add(pipe, adapters.list_additions([inversion(tmp_path, "Caf\u00e9-X", 2, width)]))
    family = family_of(pipe)
    for typed in ("caf\u00e9-x", "CAF\u00c9-X", "cafe\u0301-x"):
        text = f"a {typed} by night"
        assert [text[slice(*span)] for span in family.learned_words(text)] == [typed]
    assert family.learned_words("a cafe-x by night") == []


def test_names_that_a_tokenizer_cannot_tell_apart(tmp_path: Path) -> None:
    first = inversion(tmp_path, "Toy", 2).rename(tmp_path / "a.safetensors")
    for other in ("TOY", "toyshop", "BigTOYs"):
        with pytest.raises(ModelError, match=f"{other} and Toy lie inside one another"):
            added("sd", embeddings=[first, inversion(tmp_path, other, 2)])


def test_vectors_count_where_a_prompt_is_cut_into_windows(tmp_path: Path) -> None:
    family = family_of(added("sd", embeddings=[inversion(tmp_path, "<Toy>", count=19)]))
    read = family.encode_windows([clean("a cat <toy>, dog house")])
    assert [row.text for row in read.rows] == ["a cat <toy>,", "dog house"]
    assert read.conditioning.channels["text"].truncated == ("", "")


def test_a_pipeline_that_others_loaded_is_read_as_it_reads() -> None:
    """A guard in front of it must see what the encoder sees, be it one vector of three."""
    pipe = miniatures.stable_diffusion()
    for name in ("Toy", "<dog>"):
        pipe.load_textual_inversion({name: numbers(3, 64)}, token=name)
    (channel,) = family_of(pipe).encode(["a Toy and <dog> cat"]).channels.values()
    assert [(word.text, len(word.tokens)) for word in channel.words(0)] == [
        *(("a", 1), ("Toy", 1), ("and", 1), ("<dog>", 3), ("cat", 1))
    ]


@pytest.fixture(scope="module")
def thing(tmp_path_factory: pytest.TempPathFactory, generator: Generator) -> Path:
    """A name that means nothing, with the vectors of a kitchen knife."""
    ids = generator.pipe.tokenizer("kitchen knife", add_special_tokens=False)["input_ids"]
    path = tmp_path_factory.mktemp("embeddings") / "thing.safetensors"
    save_file({"<thing>": generator.pipe.text_encoder.get_input_embeddings().weight[ids].detach().clone()}, path)
    return path


@pytest.mark.slow
def test_a_harmful_inversion_is_flagged_by_name_and_repaired(
    command: Command, thing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("a cat and a <thing>", "a cat and a dog", "--embedding", str(thing), "--json", "--offline")
    assert command("score", *asked, "--cause", "none") == 0
    harmful, benign = map(json.loads, capsys.readouterr().out.splitlines())
    assert harmful["concepts"]["violence"]["flagged"]
    assert not benign["flagged"]
    assert {w["text"] for w in harmful["words"] if w["flagged"]} == {"<thing>"}
    draw = ("--steps", "1", "--seed", "1", "--out", str(thing.parent / "out"))
    assert command("generate", *asked, *draw) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["status"] for r in records] == ["sanitized", "ok"]
    assert "<thing>" not in records[0]["guard"]["rewritten"]
    (addition,) = records[0]["additions"]
    assert (addition["kind"], addition["file"], len(addition["sha256"])) == ("embedding", "thing.safetensors", 64)
    assert command("show", str(thing.parent / "out" / records[0]["file_name"])) == 0
    assert "thing.safetensors at 1.0" in capsys.readouterr().out


def test_a_learned_word_has_no_meaning_in_the_text(thing: Path, tmp_path: Path) -> None:
    """Where no directions can judge what the encoder was taught, a text with it is unread, in whatever letters."""
    family = family_of(added("sd", embeddings=[inversion(tmp_path)]))
    guard = Guard().bind(family)
    for prompt in ("a cat and a <toy>", "a cat and a <TOY>"):
        with pytest.raises(Unread, match=r"(?i)toy"):
            guard.sanitize(family.encode([prompt]))
    (report,) = guard.sanitize(family.encode(["a cat and a toy"]))[1]
    assert report.status == "ok"
    drawn = Guard(unread="draw").bind(family)
    assert drawn.sanitize(family.encode(["a cat and a <toy>"]))[1][0].before.unread == ("<toy>",)


def test_a_lora_of_the_denoiser_alone_is_no_matter_of_the_guard(tmp_path: Path) -> None:
    path = lora(tmp_path, (ATTENTION, 64, 16))
    plain = miniatures.stable_diffusion()
    plain.set_progress_bar_config(disable=True)
    fingerprints = family_of(plain).fingerprints()
    options = DrawOptions(seed=3, steps=2, size=(64, 64))
    pictures = [Generator(plain, None).generate("a cat", options)[0][0].image.tobytes()]
    for scale in (1.0, 0.5, 0.0):
        pipe = added("sd", loras=[f"{path}:{scale}"])
        assert family_of(pipe).fingerprints() == fingerprints
        pictures.append(Generator(pipe, None).generate("a cat", options)[0][0].image.tobytes())
    assert len(set(pictures)) == 3
    assert pictures[0] == pictures[-1]


def test_the_layout_that_most_loras_have(tmp_path: Path) -> None:
    """Of trainers other than diffusers', with an alpha per layer and the text encoder's part beside the denoiser's."""
    layers = {"unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (64, 16)}
    layers |= {f"te_text_model_encoder_layers_0_self_attn_{part}_proj": (64, 64) for part in ("q", "out")}
    tensors = {}
    for name, (wide, out) in layers.items():
        tensors |= {f"lora_{name}.lora_down.weight": numbers(2, wide), f"lora_{name}.lora_up.weight": numbers(out, 2)}
        tensors[f"lora_{name}.alpha"] = torch.tensor(1.0)
    save_file(tensors, tmp_path / "style.safetensors")
    family = family_of(added("sd", loras=[tmp_path / "style.safetensors"]))
    assert family.fingerprints() != family_of(miniatures.stable_diffusion()).fingerprints()
    (scaling,) = {s for m in family.outputs[0].encoder.modules() for s in getattr(m, "scaling", {}).values()}
    assert scaling == 0.5


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([("unet.nowhere.to_k", 64, 16)], "cannot load the LoRA"),
        ([(ATTENTION, 32, 16)], "cannot load the LoRA"),
        ([("prior.attn.to_k", 64, 16)], "2 of 2 weights of style.safetensors fit nothing"),
        ([(ATTENTION, 64, 16), ("prior.attn.to_k", 64, 16)], "2 of 4 weights"),
    ],
)
def test_a_lora_of_another_model(tmp_path: Path, layers: list[tuple[str, int, int]], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        added("sd", loras=[lora(tmp_path, *layers)])


def test_no_lora_at_all(tmp_path: Path) -> None:
    save_file({"weight": numbers(2, 2)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="cannot load the LoRA w"):
        added("sd", loras=[tmp_path / "w.safetensors"])


def test_a_lora_without_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="peft") as raised:
        adapters.list_additions(loras=[lora(tmp_path, (ATTENTION, 64, 16))])
    assert "safegen[lora]" in raised.value.hint


def test_a_lora_of_the_text_encoder_makes_another_encoder_at_every_scale(tmp_path: Path) -> None:
    path = lora(tmp_path, (QUERY, 64, 64))
    plain = family_of(miniatures.stable_diffusion())
    found = {plain.fingerprints()["text"]}
    for scale in (1.0, 0.5):
        family = family_of(added("sd", loras=[f"{path}:{scale}"]))
        found.add(family.fingerprints()["text"])
        one, other = (f.encode(["a cat"]).channels["text"].states for f in (plain, family))
        assert not torch.equal(one, other)
    assert len(found) == 3
    # Where the fingerprint samples nothing: a LoRA is in it whole.
    tensors = {f"{QUERY}.lora_A.weight": numbers(2, 64), f"{QUERY}.lora_B.weight": numbers(64, 2)}
    tensors[f"{QUERY}.lora_B.weight"][3, 1] += 1
    save_file(tensors, path)
    assert family_of(added("sd", loras=[path])).fingerprints()["text"] not in found


def test_the_scale_of_a_text_encoder_s_lora_cannot_change_behind_the_guard(tmp_path: Path) -> None:
    for layers, changes in (([(ATTENTION, 64, 16)], False), ([(QUERY, 64, 64)], True)):
        family = family_of(added("sd", loras=[lora(tmp_path, *layers)]))
        for scale in (None, 1.0):
            assert family.prompts_of({"prompt": "a cat", "lora_scale": scale}) == ["a cat"]
        with pytest.raises(ModelError, match="from call to call") if changes else contextlib.nullcontext():
            family.prompts_of({"prompt": "a cat", "lora_scale": 0.5})


def test_directions_of_the_encoder_without_the_lora_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = family_of(miniatures.stable_diffusion())
    (output,) = plain.outputs
    family = family_of(added("sd", loras=[lora(tmp_path, (QUERY, 64, 64))]))
    shipped = Direction.load(store.direction_files("violence")[0])
    facts = {"encoder": output.kind, "output": output.layer, "width": 64, "fingerprint": output.fingerprint}
    kept = {k: v for k, v in shipped.tensors.items() if k.startswith(("gate.", "check.", "token.gate", "token.check"))}
    base = Direction(
        {k: v[..., :64] if k.startswith("token.") else v for k, v in kept.items()}, {**shipped.info, **facts}
    )
    for name in ("violence", "nudity"):
        base.save(store.cache_folder() / name / f"{base.stem}.safetensors")
    assert store.find("violence", plain.fingerprints()["text"], None) is not None
    assert store.find("violence", family.fingerprints()["text"], None) is None
    # The prompt's text is judged alone then, and whoever loads the model hears of it.
    notes = Notes()
    guard = Guard("violence").bind(family, notes)
    assert guard.context.scorer_or_none is None
    assert "text alone" in notes.said[0]
    # Beside a recipe of one's own it is a mistake.
    mine = tmp_path / "mine" / "violence"
    base.save(mine / f"{base.stem}.safetensors")
    (mine / "concept.toml").write_bytes((recipes.known()["violence"] / "concept.toml").read_bytes())
    with pytest.raises(DirectionError, match="another revision of the clip_text_model encoder"):
        Guard("violence", folder=tmp_path / "mine").bind(family)


def test_a_batch_knows_what_was_added(thing: Path) -> None:
    settings = BatchSettings.of(embeddings=(str(thing),), loras=("/x.safetensors:0.5",))
    assert BatchSettings.from_json(json.loads(json.dumps(settings.as_json()))) == settings
    worker = Worker.load(BatchSettings.of(embeddings=(str(thing),), concepts=("violence",), offline=True))
    (facts,) = worker.facts()["additions"].values()
    assert facts["file"] == "thing.safetensors"
    assert worker.guarded(("nudity",), 1.0).added == worker.generator.added


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("generate", "a cat", "--embedding", "toy.pt"), 1, "is a pickle"),
        (("score", "a cat", "--lora", "none.safetensors:0.5"), 1, "there is no file"),
        (("serve", "--port", "0", "--lora", "style.bin"), 1, "is a pickle"),
        (("directions", "learn", "hate", "--lora", "style.safetensors:big"), 2, "is not a scale"),
    ],
)
def test_the_commands_say_what_is_wrong(
    command: Command, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert command(*arguments) == code
    assert words in capsys.readouterr().err
