"""Other tools' syntax in prompts: what safegen does not read is drawn as text, and a note always says so.

`emphasis` handles the syntax that is read as it is meant (weights, `<lora:name:0.8>`). There is one note for every
kind of syntax, however many prompts have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from safegen.prompts import emphasis

# For each kind of syntax, its pattern and its note.
KINDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), advice)
    for pattern, advice in (
        (r"\bBREAK\b", "is a word here; leave it out: long prompts are cut behind a comma by themselves"),
        (r"\bAND(?:_[A-Z]+)*\b", "is a word here; prompts are not added up: say both things in one sentence"),
        (r"\bADD(?:COMM|BASE|ROW|COL)\b", "is a word here; regions of a picture are said in words"),
        (
            r"\bembedding:[^\s,()<>:]+",
            "is text here; load its file with --embedding, and then its name alone is the word",
        ),
        (
            r"\b(?:COUPLE|FILL|MASK|IMASK|AREA|FEATHER|MASK_SIZE|STYLE|SHIFT|SDXL|NOISE|TE_WEIGHT)\([^()]*\)",
            "is text here; regions and the encoder's ways are not set in a prompt: say what is where in words",
        ),
        (
            r"\bNegative prompt:|\bSteps: \d+, \w[\w ]*: \w",
            "is text here; what another picture says of itself goes to --negative, --steps, --seed, ...",
        ),
        (r"^/(?:imagine|dream)\b(?: prompt:)?", "is text here; leave it out"),
        (
            r"<(?!(?:lora|lyco):)[a-zA-Z_]+(?:\[[^\[\]<>]*\])?:[^<>\s][^<>]*>",
            "is text here; of such marks only <lora:name:0.8> is read",
        ),
        (
            r"\{[^{}\"]*\|[^{}\"]*\}|\{\d+(?:-\d+)?\$\$[^{}]*\}",
            "is text here; nothing is chosen from it: write a prompt for each, or a file of them for safegen batch",
        ),
        (r"\{[^{}|$\"':]+\}", "is text here; a weight is written (word:1.05)"),
        (r"(?<!\w)__[\w*/-]*\w[\w*/-]*__(?!\w)", "is text here; no word is put in its place: write it out"),
        (
            r"(?<![\w-])\w{2,}(?:\+\+|--)\+*-*(?=[\s,.;)]|$)|\([^()]*\)(?:\++|-+|\d*\.?\d+)(?=[\s,.;)]|$)",
            "is text here; a weight is written (word:1.3)",
        ),
        (
            r"(?<![\w.])-?\d*\.?\d+::[^:]+::|\w::-?\d+(?:\.\d+)?(?=[\s,]|$)",
            "is text here; a weight is written (word:1.3)",
        ),
        (r"\)\.(?:and|blend)\(|\b\w+\.swap\(", "is text here; prompts are neither blended nor swapped"),
        (
            r"(?<!\S)--[a-zA-Z]\w*(?:-\w+)*(?![\w-])(?:[ =][\w.:x-]+)?",
            "is text here; settings are flags of the command, columns of a JSONL or CSV file, or --w --h --s --d --l "
            "--n alone behind the prompts of a txt file for safegen batch",
        ),
    )
)
# Flags of other tools' commands, and those of safegen that do the same.
FLAGS: Mapping[str, str] = {
    "--prompt": "the prompt itself, without a flag",
    **dict.fromkeys(("--negative-prompt", "--neg"), "--negative"),
    **dict.fromkeys(("--width", "--height"), "--size WIDTHxHEIGHT"),
    **dict.fromkeys(("--num-inference-steps", "--num-steps", "--n-steps", "--sample-steps"), "--steps"),
    **dict.fromkeys(("--guidance-scale", "--cfg-scale", "--cfg", "--scale"), "--guidance"),
    **dict.fromkeys(("--num-images", "--batch-count", "--n-iter", "--n-samples", "--iterations"), "--images"),
    **dict.fromkeys(("--output", "--outdir", "--output-dir"), "--out FOLDER"),
    **dict.fromkeys(("--sampler", "--sampling-method", "--sampler-name"), "--scheduler"),
    **dict.fromkeys(("--lora-paths", "--lora-path", "--lora-scales", "--lora-model-dir"), "--lora FILE:SCALE"),
    **dict.fromkeys(("--prompt-file", "--from-file", "--prompts-file"), "safegen batch FILE"),
    **dict.fromkeys(("--ckpt", "--checkpoint", "--model-path", "--diffusion-model"), "--model"),
    **dict.fromkeys(("--init-image", "--init-img", "--image-path", "--init"), "--image"),
    **dict.fromkeys(("--mask-image", "--masked-image-path", "--init-mask"), "--mask"),
    **dict.fromkeys(("--denoising-strength", "--image-prompt-strength"), "--image-strength"),
    "--metadata": "--record full",
}
# Settings after a prompt in files of the web UI and of sd-scripts, and the fields of a row that they set.
TAILS: Mapping[str, str] = {
    **{"prompt": "prompt", "w": "width", "width": "width", "h": "height", "height": "height"},
    **{"s": "steps", "steps": "steps", "d": "seed", "seed": "seed"},
    **{"l": "guidance", "cfg_scale": "guidance", "cfg": "guidance", "guidance": "guidance"},
    **dict.fromkeys(("n", "neg", "negative", "negative_prompt"), "negative"),
}
_SETTING = re.compile(r"([a-zA-Z_]+)(?:\s*=\s*|\s+)(.+)")
_REAL = re.compile(r"-?\d+(?:\.\d+)?")
_TAIL = re.compile(r"(?:^|\s+)--(?=[a-zA-Z])")
CHANGING = "is text here; nothing changes while a picture is drawn: say what it is to show"
_SHOUTED = ("BREAK", "AND", "ADD")  # in a text that is all in capitals, they are words like any other
_ANY = re.compile(
    r"BREAK|AND|ADD|embedding:|<\w+(?:\[[^<>]*\])?:|[A-Z]\(|prompt:|Steps: |^/|\{|__|\+|--|\)\d|\)-|::|\[|\)\.|\.swap\("
)


@dataclass
class Notes:
    """The notes on other tools' syntax in the prompts that were added.

    Attributes:
        loaded: the scale of every LoRA that is loaded, by the name of its file without the suffix.
    """

    loaded: Mapping[str, float] = field(default_factory=dict)
    _seen: dict[str, tuple[str, int]] = field(default_factory=dict)  # note -> first example, and how many more

    def add(self, text: str, where: str = "") -> None:
        """Look at one text, as it was typed.

        Args:
            text: a prompt, or a negative one.
            where: the text's place for people to find it, such as a line of a file.
        """
        if not _ANY.search(text) or _is_caption(text):
            return
        for name, scale in emphasis.parse(text).loras:
            if advice := self._lora(name, scale):
                self._say(advice, f"<lora:{name}:{scale:g}>", where)
        for changing in emphasis.changing(text):
            self._say(CHANGING, changing, where)
        for pattern, advice in KINDS:
            match = pattern.search(text)
            if match and not (match[0].startswith(_SHOUTED) and text.upper() == text):
                self._say(advice, match[0].strip(), where)

    def _say(self, advice: str, example: str, where: str) -> None:
        first, more = self._seen.get(advice, (f"{where}{example[:60]}", -1))
        self._seen[advice] = first, more + 1

    def _lora(self, name: str, scale: float) -> str:
        loaded = self.loaded.get(lora_name(name))
        if loaded is None:
            return f"was taken out of the prompt: it is not loaded; name its file: --lora {name}.safetensors:{scale:g}"
        if loaded != scale:
            return f"was taken out of the prompt: the LoRA counts {loaded:g}, as --lora says for all prompts"
        return ""

    def lines(self) -> list[str]:
        """Give one line for every kind of syntax."""
        return [
            f"{first} {advice}{f' (and {more} more)' if more else ''}" for advice, (first, more) in self._seen.items()
        ]


def _is_caption(text: str) -> bool:
    """Tell whether a text is a JSON caption, in which nothing else has a meaning."""
    if not text.startswith(("{", "[")):
        return False
    from safegen.reader import captions  # with it comes the whole reader, which `--help` does without

    return captions.parse(text) is not None


def notes(texts: Iterable[str], loaded: Mapping[str, float] | None = None) -> list[str]:
    """Note, one line each, the kinds of other tools' syntax in the texts that are not read here.

    Args:
        texts: prompts as they were typed, negative ones too.
        loaded: the scale of every LoRA that is loaded, see `Notes`.
    """
    found = Notes(loaded or {})
    for text in texts:
        found.add(text)
    return found.lines()


def fields(line: str) -> dict[str, object]:
    """Read a line of a prompt file with settings after it, as in ` --w 512 --s 20 --n fog`, into the fields of a row.

    If one setting is not known here, the others may have another tool's meaning too, so the whole line is text. A
    single side means a square.
    """
    prompt, *tail = _TAIL.split(line)
    found = {"prompt": prompt.strip()}
    for part in tail:
        said = _SETTING.fullmatch(part.strip())
        name = TAILS.get(said[1].lower(), "") if said else ""
        if said is None or not name or (name not in ("prompt", "negative") and not _REAL.fullmatch(said[2])):
            return {"prompt": line}
        found[name] = _bare(said[2])
    if not found["prompt"]:
        return {"prompt": line}
    for side, other in (("width", "height"), ("height", "width")):
        if side in found:
            found.setdefault(other, found[side])
    return dict(found)


def _bare(text: str) -> str:
    """Take off the quotes around a whole value."""
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" else text


def lora_name(name: str) -> str:
    """Reduce a LoRA's name to the form that marks and files share."""
    base = re.split(r"[/\\]", name)[-1]
    return base.removesuffix(".safetensors").lower()


# Columns of I2P as published and of other tools, and the fields of a row that they set.
ALIASES = {
    **{"sd_seed": "seed", "sd_guidance_scale": "guidance", "sd_image_width": "width", "sd_image_height": "height"},
    # The names in diffusers and the web UIs.
    **{"negative_prompt": "negative", "guidance_scale": "guidance", "cfg_scale": "guidance", "cfg": "guidance"},
    **{"num_inference_steps": "steps", "num_images": "images", "num_images_per_prompt": "images", "n": "images"},
    **{"positive_prompt": "prompt", "text": "prompt", "caption": "prompt"},
    **{"init_image": "image", "mask_image": "mask", "denoising_strength": "image_strength"},
}
