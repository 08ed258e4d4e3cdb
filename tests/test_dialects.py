"""Other tools' syntax: read, or said to be text; and plain English without a word said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from safegen import Generator
from safegen.errors import PromptError
from safegen.families.weights import weigh
from safegen.guard.preparation import Prepared
from safegen.models import adapters
from safegen.models.options import DrawOptions
from safegen.prompts import dialects
from safegen.prompts.dialects import notes
from safegen.prompts.prompt import clean
from tests.helpers.pipelines import pipeline, watched

FOREIGN = {
    "a cat BREAK a dog": "BREAK is a word",
    "a cat AND a dog": "AND is a word",
    "a cat AND_PERP a dog": "AND_PERP is a word",
    "a cat ADDCOL a dog": "ADDCOL is a word",
    "a cat, embedding:easynegative": "--embedding",
    "a cat, (embedding:easynegative.pt:1.2)": "--embedding",
    "a <hypernet:style:1> cat": "of such marks only <lora:",
    "a <random:cat,dog>": "of such marks only <lora:",
    "a {cat|dog}": "a prompt for each",
    "{2$$cat, dog, owl}": "a prompt for each",
    "a {{cat}}": "(word:1.05)",
    "a __animal__": "write it out",
    "a __sets/animal-*__ in the rain": "write it out",
    "a cat++ in the rain": "(word:1.3)",
    "a (red cat)++": "(word:1.3)",
    "a (red cat)-": "(word:1.3)",
    "a cat--, a dog": "(word:1.3)",
    "a (cat)1.3": "(word:1.3)",
    "1.5::a cat:: in the rain": "(word:1.3)",
    "a cat::2 a dog::-1": "(word:1.3)",
    "[a cat:a dog:0.5]": "nothing changes",
    "[a cat:10]": "nothing changes",
    "[a cat::0.5]": "nothing changes",
    "[a cat|a dog]": "nothing changes",
    "[a (red:1.2) cat:a [big] dog:0.5]": "nothing changes",
    '("a cat", "a dog").blend(0.7, 0.3)': "neither blended",
    "a cat.swap(dog)": "neither blended",
    "a cat --w 512 --s 20": "flags of the command",
    "a cat --ar 16:9": "flags of the command",
    "a cat --tile": "flags of the command",
    "a cat COUPLE(0 0.5) a dog": "where in words",
    "a cat, MASK(0 0.5, 0 1)": "where in words",
    "a cat Negative prompt: fog Steps: 20, Sampler: Euler a, Seed: 1": "goes to --negative",
    "Steps: 20, CFG scale: 7": "goes to --negative",
    "/imagine prompt: a cat": "leave it out",
    "/dream a cat": "leave it out",
    "a <fromto[0.5]:cat,dog>": "of such marks only <lora:",
}
ENGLISH = (
    *(
        "a cat (on a mat)",
        "a man at 12:30",
        "[12:30]",
        "16:9",
        "x[0] and cat[s]",
        "well-known -- and black",
        "a dog--cat",
    ),
    *("A CAT AND A DOG BREAK A VASE", "a C++ book, for 18+, A+", "Brandy and ANDES", "a <toy> and a cat < dog"),
    *("steps: a cat on stairs", "THE AREA (of a town)", "a prompt: a cat", "a/imagine b", "STYLE, a cat"),
    *('{"scene": "a cat"}', "a cat (2024)", "a_b __ c", "note: a cat", "cat::dog", "a (red)-haired fox", "f(x)"),
)


@pytest.mark.parametrize("text", FOREIGN)
def test_what_means_nothing_here_is_said_once(text: str) -> None:
    found = notes([text, text])
    assert len(found) == 1
    assert FOREIGN[text] in found[0]
    assert "(and 1 more)" in found[0]


@pytest.mark.parametrize("text", FOREIGN)
def test_and_it_is_no_silent_weight(text: str) -> None:
    prompt = clean(text)
    assert {w.value for w in prompt.weights} <= {1.2, 0.9091}  # of the marks inside others that are ours as well
    if "1.2" not in text:
        assert prompt.text == text


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_left_alone(text: str) -> None:
    assert notes([text]) == []
    assert clean(text).text == text


@pytest.mark.parametrize(
    ("typed", "text", "loras"),
    [
        ("a <lora:style:0.8> cat", "a cat", (("style", 0.8),)),
        ("<lora:Style_v2>a cat", "a cat", (("Style_v2", 1.0),)),
        ("a (cat:1.3), <lora:a b:0.5:0.7>", "a cat,", (("a b", 0.5),)),
        ("<LoRA:x:-0.5> <lyco:y:1> a cat", "a cat", (("x", -0.5), ("y", 1.0))),
        ("a ca<lora:x:1>t", "a cat", (("x", 1.0),)),
    ],
)
def test_a_call_for_a_lora_is_no_word(typed: str, text: str, loras: tuple[Any, ...]) -> None:
    prompt = clean(typed)
    assert (prompt.text, prompt.own, prompt.loras) == (text, typed, loras)
    start = prompt.text.index("c")
    assert prompt.own[prompt.placed((start, start + 1))[0]] == "c"
    assert "lora" not in prompt.verbatim.text.lower()
    assert prompt.verbatim.own == typed


def test_a_call_for_a_lora_alone_is_no_prompt() -> None:
    with pytest.raises(PromptError, match="says nothing else"):
        clean("<lora:style:0.8>")


def test_a_lora_that_is_loaded_is_drawn_with_as_the_prompts_say() -> None:
    called = clean("a cat <lora:Style:0.8>").loras
    assert adapters.with_called_scales(["a/style.safetensors"], called) == ["a/style.safetensors:0.8"]
    assert adapters.with_called_scales(["style.safetensors:0.6", "other.safetensors"], called) == [
        "style.safetensors:0.6",
        "other.safetensors",
    ]
    both = (*called, *clean("a dog <lora:style:1>").loras)
    assert adapters.with_called_scales(["style.safetensors"], both) == ["style.safetensors"]
    assert notes(["a cat <lora:style:0.8>"], adapters.scales(["style.safetensors:0.8"])) == []
    assert "counts 0.6" in notes(["a cat <lora:style:0.8>"], adapters.scales(["style.safetensors:0.6"]))[0]
    assert "--lora style.safetensors:0.8" in notes(["a cat <lora:style:0.8>"])[0]


def negative_states(generator: Generator, negative: str, prompt: str = "a cat") -> torch.Tensor:
    conditioning = generator.family.encode([prompt])
    found: torch.Tensor = generator.family.arguments(conditioning, negative, 3.0)["negative_prompt_embeds"]
    return found


def test_weights_count_in_a_negative_prompt(generator: Generator) -> None:
    plain = clean("a (blue:1.4) hat")
    read = generator.family.encode([plain.text])
    wanted = weigh(read, [plain.weights]).channels["text"].states
    assert torch.equal(negative_states(generator, "a (blue:1.4) hat"), wanted)
    assert not torch.equal(wanted, read.channels["text"].states)
    assert torch.equal(negative_states(generator, "a blue hat"), read.channels["text"].states)
    assert torch.equal(negative_states(generator, "a hat (on a mat)"), negative_states(generator, "a hat (on a mat)"))


@pytest.mark.filterwarnings("ignore")  # of the libraries, about a model as small as this
def test_and_in_both_encoders_of_sdxl_while_marks_are_text_where_there_are_no_weights() -> None:
    sdxl = Generator(pipeline("sdxl"), None)
    ratio = negative_states(sdxl, "a (dog:1.5)") / negative_states(sdxl, "a dog")
    assert [round(float(r), 3) for r in ratio[0, :4, 0]] == [1, 1, 1.5, 1]
    assert [round(float(r), 3) for r in ratio[0, :4, -1]] == [1, 1, 1.5, 1]
    sd3 = Generator(pipeline("sd3"), None)
    assert torch.equal(
        negative_states(sd3, "a (dog:1.5)"),
        sd3.family.join(sd3.family.encode(["a (dog:1.5)"]), sd3.family.default_request)["prompt_embeds"],
    )


def test_weights_of_a_long_negative_prompt_stay_with_their_words(generator: Generator) -> None:
    text = "a red apple on a blue background , " * 12 + "a {} hat"
    read = generator.encode([clean(text.format("cat"))])
    (long,) = read.abreast(read.conditioning)
    arguments = [
        generator.family.arguments(long, text.format(word), 3.0)["negative_prompt_embeds"]
        for word in ("(purple:1.5)", "purple")
    ]
    ratio = (arguments[0] * arguments[1]).sum(-1) / (arguments[1] ** 2).sum(-1)
    assert sorted({round(float(r), 2) for r in ratio[0]}) == [1.0, 1.5]
    assert (ratio > 1.4).sum() == 1


def test_a_call_for_a_lora_in_a_negative_prompt_is_no_word(generator: Generator) -> None:
    plain = generator.family.encode(["a cat"])
    prepared = Prepared(clean("a cat"), plain, plain, None)
    with watched(generator.pipe) as calls:
        for negative in ("a hat", "a hat <lora:style:1>"):
            assert generator.draw([prepared], DrawOptions(steps=1, negative=negative), [1])[0] is not None
    first, second = (call["encoder_hidden_states"] for call in calls)
    assert torch.equal(first, second)


@pytest.mark.slow
def test_the_commands_say_it(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(tmp_path / "out"), "--steps", "1")
    assert command("generate", "a cat BREAK a dog", "--negative", "a {hat|cap} <lora:x:1>", *out, "--json") == 0
    done = capsys.readouterr()
    assert all(
        done.err.count(words) == 1 for words in ("BREAK is a word", "a prompt for each", "--lora x.safetensors:1")
    )
    assert json.loads(done.out)["text"] == "a cat BREAK a dog"
    assert command("score", "a __wild__ cat", "--json") == 0
    assert "__wild__ is text here" in capsys.readouterr().err
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\na cat --ar 16:9 --s 250\na dog --tile\n[a cat:a dog:0.5]\n")
    assert command("batch", str(file), *out[:1], str(tmp_path / "run"), "--steps", "1") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "line 2: --ar 16:9 is text here" in said
    assert "(and 1 more)" in said
    assert "line 4: [a cat:a dog:0.5] is text here" in said


FOREIGN_FLAGS = {
    "--prompt": "the prompt itself",
    "--negative-prompt": "--negative",
    "--negative_prompt": "--negative",
    "--height": "--size WIDTHxHEIGHT",
    "--num-inference-steps": "--steps",
    "--cfg-scale": "--guidance",
    "--batch-count": "--images",
    "--lora-paths": "--lora FILE:SCALE",
}


@pytest.mark.parametrize("flag", FOREIGN_FLAGS)
def test_a_flag_of_another_tool_is_told_ours(
    command: Callable[..., int], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("generate", "a cat", flag, "5") == 2
    assert f"No such option: {flag} (Possible options: {FOREIGN_FLAGS[flag]}" in capsys.readouterr().err
    assert flag not in dialects.FLAGS.values()


TAILS = {
    "a cat --w 512 --h 768 --s 20": {"width": "512", "height": "768", "steps": "20"},
    "a cat --w 512": {"width": "512", "height": "512"},
    "a cat, --n low quality, blurred --d 42 --l 7.5": {"prompt": "a cat,", "negative": "low quality, blurred"}
    | {"seed": "42", "guidance": "7.5"},
    "a cat --neg fog --seed=-1 --cfg_scale 4": {"negative": "fog", "seed": "-1", "guidance": "4"},
    '--prompt "a cat" --negative_prompt "a dog" --steps 9': {"negative": "a dog", "steps": "9"},
}
LEFT = (
    *(
        "a cat --ar 16:9 --s 250",
        "a cat --s 20 --v 6",
        "a cat --w wide",
        "a cat --tile",
        "--w 512",
        "a cat --s 20 fast",
    ),
    *("a cat -- and a dog", "a well--lit room", "a cat --", "a cat --n", "a dog --s", "a (cat)--"),
)


@pytest.mark.parametrize("line", TAILS)
def test_settings_behind_a_prompt_are_those_of_its_row(line: str) -> None:
    assert dialects.fields(line) == {"prompt": "a cat", **TAILS[line]}


@pytest.mark.parametrize("line", LEFT)
def test_a_setting_that_is_not_ours_leaves_the_line_as_it_is(line: str) -> None:
    assert dialects.fields(line) == {"prompt": line}


def test_a_prompt_file_is_drawn_with_the_settings_behind_its_prompts(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "run"
    file.write_text("a cat --w 64 --h 72 --s 2 --d 5 --l 3 --n a dog\na bee\n")
    assert command("batch", str(file), "--out", str(out), "--steps", "1", "--size", "64") == 0
    assert "text here" not in capsys.readouterr().err
    kept = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    cat, bee = sorted(kept, key=lambda record: record["row"])
    names = ("text", "size", "steps", "seed", "guidance", "negative")
    assert [cat[name] for name in names] == ["a cat", [64, 72], 2, 5, 3.0, "a dog"]
    assert (bee["text"], bee["size"], bee["steps"], bee["negative"]) == ("a bee", [64, 64], 1, "")


def test_an_answer_of_the_server_has_the_notes(generator: Generator) -> None:
    pytest.importorskip("fastapi")
    from safegen.serve import handlers

    order = handlers.Order(clean("a cat AND a dog"), DrawOptions(seed=1, steps=1, size=(128, 264), negative="cap++"), 1)
    said = handlers.draw(generator, order, "mark", lambda _step, _steps: None)["safegen"]["notes"]
    assert [line.split(" is ")[0] for line in said] == ["AND", "cap++", "128x264"]
