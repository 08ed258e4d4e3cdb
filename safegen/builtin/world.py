"""The embedded model's world: scenes of one or two emoji glyphs on a coloured ground.

`world.toml` names the glyphs, `names.tsv` has more English names of them. A `Scene` is what a picture shows; it renders
to pixels and has an English caption. The Noto Color Emoji font is needed only to render, never to use the model.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIZE = 128  # pixels of a picture's side
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")  # Debian's fonts-noto-color-emoji
GLYPH = 64  # pixels of a glyph's side
# Corners of one glyph and of two. They are multiples of 8, the autoencoder's grid, so that a glyph has one code.
LAYOUTS: dict[int, tuple[tuple[int, int], ...]] = {1: ((32, 32),), 2: ((0, 32), (64, 32))}
PLAIN = 0.6  # how often a caption calls a thing by its first name
GENDERS = {"woman": "\U0001f469", "man": "\U0001f468"}
SKINS = {"light": "\U0001f3fb", "medium": "\U0001f3fd", "dark": "\U0001f3ff"}
SINGLE_CAPTIONS = (
    "{a}",
    "{a} on a {g} background",
    "a picture of {a} on a {g} background",
    "a photo of {a}",
    "{a}, {g} background",
    "there is {a} on a {g} background",
    "{a} in front of a {g} wall",
    "{a} on {g}",
)
PAIR_CAPTIONS = (
    "{a} and {b}",
    "{a} and {b} on a {g} background",
    "a picture of {a} and {b} on a {g} background",
    "{a} with {b}",
    "{a} next to {b}",
    "{a} beside {b}, {g} background",
    "there is {a} and {b} on a {g} background",
    "{a} and {b} in front of a {g} wall",
    "{a} and {b} on {g}",
)


@dataclass(frozen=True)
class Thing:
    """One glyph: its label, its names in captions and, for a person, who is shown."""

    label: str
    glyph: str
    names: tuple[str, ...]
    category: str = ""  # harm category; empty for benign things and people
    gender: str = ""
    skin: str = ""

    @property
    def is_person(self) -> bool:
        return bool(self.gender)


@dataclass(frozen=True)
class Scene:
    """What one picture shows, in reading order (the first thing stands on the left)."""

    things: tuple[Thing, ...]
    ground: str
    caption: str
    shade: tuple[int, int, int]  # the ground's colour in this picture, 0-255


@functools.cache
def tables() -> dict[str, Any]:
    """Parse `world.toml`."""
    with (Path(__file__).with_name("world.toml")).open("rb") as f:
        return tomllib.load(f)


@functools.cache
def more_names() -> dict[str, list[str]]:
    """Read the names of `names.tsv` by label: kinds, synonyms, plurals."""
    found: dict[str, list[str]] = {}
    for line in Path(__file__).with_name("names.tsv").read_text(encoding="utf-8").splitlines():
        label, name = line.split("\t")
        found.setdefault(label, []).append(name)
    return found


@functools.cache
def things() -> dict[str, Thing]:
    """Give every object of the world by label, benign first, then harmful."""
    world = tables()
    groups, more = [("", world["benign"]), *world["harmful"].items()], more_names()
    return {
        label: Thing(label, glyph, (label.replace("-", " "), *names, *more.get(label, ())), category)
        for category, group in groups
        for label, (glyph, *names) in group.items()
    }


@functools.cache
def people() -> dict[str, Thing]:
    """Give every person of the world by label, e.g. ``doctor/woman/dark``."""
    return {
        f"{job}/{gender}/{skin}": Thing(
            f"{job}/{gender}/{skin}",
            f"{person}{tone}\u200d{tail}",
            (f"{job}",),
            gender=gender,
            skin=skin,
        )
        for job, (tail, *_) in tables()["people"].items()
        for gender, person in GENDERS.items()
        for skin, tone in SKINS.items()
    }


def grounds() -> dict[str, tuple[int, int, int]]:
    """Give the grounds' colours by name, 0-255."""
    return {name: tuple(rgb) for name, rgb in tables()["grounds"].items()}


_BARE = {"blood", "lingerie", "popcorn", "sushi", "bread", "corn", "cheese", "milk", "beer", "tea", "excrement"}
_BARE |= {"sheep", "cattle", "money", "jewellery", "people", "police", "mice", "teeth", "oxen", "snowmen", "geese"}
_BARE |= {"water", "seawater", "cash", "heroin", "bread", "tobacco", "luggage"}
_CONSONANT, _MUTE = ("uni", "us ", "eu", "ewe"), ("hour", "heir", "honest")  # not as they are spelled


def with_article(name: str) -> str:
    """Put the article before a name: `a cat`, `an apple`; plurals and mass nouns stay bare."""
    last = name.partition(" of ")[0].rsplit(" ", 1)[-1]
    if last in _BARE or (last.endswith("s") and not last.endswith(("ss", "us", "is", "'s"))):
        return name
    vowel = name.startswith(_MUTE) or (name[0] in "aeiou" and not name.startswith(_CONSONANT))
    return f"{'an' if vowel else 'a'} {name}"


def _person(rng: random.Random) -> Thing:
    job = rng.choice(list(tables()["people"]))
    _, women, light = tables()["people"][job]
    gender = "woman" if rng.random() < women else "man"
    skin = "light" if rng.random() < light else rng.choice(["medium", "dark"])
    return people()[f"{job}/{gender}/{skin}"]


def _phrase(thing: Thing, rng: random.Random, plain: float, more: Mapping[str, Sequence[str]]) -> str:
    if not thing.is_person:
        first, place = rng.random(), rng.random()  # always two draws, so that the same seed gives the same scene
        names = [*thing.names, *more.get(thing.label, ())]
        return with_article(thing.names[0] if first < plain else names[int(place * len(names))])
    gender = rng.choice(["", "", {"woman": "female ", "man": "male "}[thing.gender]])
    skin = rng.choice(["", "", f" with {thing.skin} skin"])
    return with_article(f"{gender}{thing.names[0]}") + skin


def sample(
    rng: random.Random,
    *,
    pair_share: float = 0.55,
    people_share: float = 0.15,
    plain: float = PLAIN,
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Scene:
    """Draw one random scene with its caption.

    Args:
        rng: what to draw by.
        pair_share: how often two things are shown.
        people_share: how often a thing is a person.
        plain: how often a thing is called by its first name.
        more: further names by label.
    """
    count = 2 if rng.random() < pair_share else 1
    pool = list(things().values())
    picked: list[Thing] = []
    while len(picked) < count:
        # At most one person a scene, so that it is clear whose face it is.
        person = rng.random() < people_share and not any(t.is_person for t in picked)
        thing = _person(rng) if person else rng.choice(pool)
        if thing not in picked:
            picked.append(thing)
    return compose(picked, rng, plain=plain, more=more)


def compose(
    picked: list[Thing],
    rng: random.Random,
    ground: str | None = None,
    plain: float = PLAIN,
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Scene:
    """Make a scene of the given things with a random ground and caption."""
    ground = ground or rng.choice(list(grounds()))
    shade = tuple(min(255, max(0, c + rng.randint(-6, 6))) for c in grounds()[ground])
    template = rng.choice(SINGLE_CAPTIONS if len(picked) == 1 else PAIR_CAPTIONS)
    phrases = [_phrase(t, rng, plain, more) for t in picked]
    caption = template.format(a=phrases[0], b=phrases[-1], g=ground)
    return Scene(tuple(picked), ground, caption, (shade[0], shade[1], shade[2]))


@functools.cache
def stamp(glyph: str, side: int) -> Image.Image:
    """Draw one glyph, `side` pixels square, on a transparent ground."""
    from PIL import Image, ImageDraw, ImageFont

    # The font's bitmaps come only in size 109; Raqm joins the ZWJ sequences.
    font = ImageFont.truetype(str(FONT), 109, layout_engine=ImageFont.Layout.RAQM)
    canvas = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((0, 0), glyph, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font has no glyph for {glyph!r}")
    canvas = canvas.crop(box)
    canvas.thumbnail((side, side), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(canvas, ((side - canvas.width) // 2, (side - canvas.height) // 2))
    return square


def render(scene: Scene) -> Image.Image:
    """Draw the scene as a 128x128 RGB picture."""
    from PIL import Image

    picture = Image.new("RGB", (SIZE, SIZE), scene.shade)
    for thing, corner in zip(scene.things, LAYOUTS[len(scene.things)], strict=True):
        figure = stamp(thing.glyph, GLYPH)
        picture.paste(figure, corner, figure)
    return picture
