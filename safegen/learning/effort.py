"""Efforts: how much text a direction is learned from, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Effort:
    """Numbers of prompts, and of steps.

    Attributes:
        name: the name on the command line and in direction files.
        contexts: contexts of a recipe line, at most.
        draws: draws of every context that needs a companion, with another companion each time.
        misspelt: draws of a line with its harmful words misspelt.
        among: draws of a line among captions.
        captions, plain, long: everyday prompts of each kind; some fit, the others calibrate.
        fitted: how many of the everyday prompts the fit sees.
        harmless, lookalikes: of the recipes' harmless prompts, and of the phrases that only look harmful, one in
            this many is used.
        couples, escorted, slips, things: harmless prompts of two things, of a lookalike beside something, with
            misspelt words, and of a thing among captions.
        vocabulary: words that salads are made of; 0 makes no salads.
        salads, calm_salads: salads of every line's target, and of its anchor.
        plain_salads, random_salads: salads of ordinary nouns, and of random words.
        line: share of the closed form in a head beside its networks; it errs less on unseen kinds of prompts.
        members, steps: networks of a head, and steps of their training.
        dimensions: dimensions of the means that a network sees, at most: those in which benign text varies most.
        pads: pads of a prompt that are encoded, where the encoder masks them: their states differ by little more
            than their place.
    """

    name: str
    contexts: int
    draws: int
    misspelt: int
    among: int
    captions: int
    plain: int
    long: int
    fitted: int
    harmless: int
    lookalikes: int
    couples: int
    escorted: int
    slips: int
    things: int
    vocabulary: int
    salads: int
    calm_salads: int
    plain_salads: int
    random_salads: int
    line: float
    members: int
    steps: int
    dimensions: int
    pads: int


THOROUGH = Effort(
    "thorough",
    contexts=13,
    draws=5,
    misspelt=12,
    among=6,
    captions=2400,
    plain=2100,
    long=1500,
    fitted=2700,
    harmless=1,
    lookalikes=1,
    couples=4000,
    escorted=3000,
    slips=5000,
    things=1500,
    vocabulary=8000,
    salads=60,
    calm_salads=20,
    plain_salads=4000,
    random_salads=1000,
    line=0.0,
    members=3,
    steps=2400,
    dimensions=1152,
    pads=8,
)
# Only harm in plain sight: sanitizers and regions learn to move states, and a misspelt word has no state to move to.
PLAIN_SIGHT = replace(THOROUGH, misspelt=0, among=0)
# Learns all seven concepts of the embedded encoder in a minute on two cores.
BRIEF = replace(
    THOROUGH,
    name="brief",
    contexts=4,
    draws=1,
    misspelt=0,
    among=0,
    captions=800,
    plain=800,
    long=300,
    fitted=600,
    lookalikes=12,
    couples=400,
    escorted=250,
    slips=150,
    things=0,
    vocabulary=0,
    line=0.5,
    members=2,
    steps=200,
    dimensions=320,
    pads=2,
)
# Carries all seven concepts over from the embedded encoder in seconds: only everyday prompts are encoded, and a few
# harmful ones to see how well it went. See `transported.py`.
TRANSPORTED = replace(BRIEF, name="transported", captions=320, plain=320, long=200, fitted=360)
# Learns one concept in seconds.
ANALYTIC = replace(
    BRIEF,
    name="analytic",
    contexts=2,
    captions=200,
    plain=200,
    long=30,
    fitted=110,
    harmless=12,
    lookalikes=60,
    couples=60,
    escorted=0,
    slips=0,
    line=1.0,
)
# A file is replaced unasked only by the same effort, or by one that stands behind it here.
EFFORTS = {effort.name: effort for effort in (ANALYTIC, BRIEF, TRANSPORTED, THOROUGH)}
