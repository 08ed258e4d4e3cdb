"""Stand-ins: harmless words that fit almost anywhere, for places where no recipe has a fitting phrase.

A verb is replaced by one in the same form: *clubs his rival* becomes *admires his rival*.
"""

from __future__ import annotations

from collections.abc import Iterator

from safegen.reader import grammar

# Forms of a verb: as in "they greet", "she greets", "greeting", "greeted".
Forms = tuple[str, str, str, str]
BASE, THIRD, ING, PAST = range(4)

_TRANSITIVE = """
admire admires admiring admired
sketch sketches sketching sketched
look at|looks at|looking at|seen
photograph photographs photographing photographed
"""
_GREETING = """
greet greets greeting greeted
"""
_CARRYING = """
show shows showing shown
carry carries carrying carried
hold holds holding held
"""
_INTRANSITIVE = """
smile smiles smiling smiling
rest rests resting resting
wait waits waiting waiting
sit sits sitting seated
stand stands standing standing
walk walks walking walking
sing sings singing singing
"""
_LOOKING = """
look looks looking looking
"""
_PREDICATES = """
smile smiles smiling smiling
read a book|reads a book|reading a book|with a book
drink tea|drinks tea|drinking tea|with a cup of tea
hold flowers|holds flowers|holding flowers|with flowers
rest quietly|rests quietly|resting quietly|at rest
"""
_IRREGULAR = """
beaten beheaded bitten blown born bound broken built burnt caught crept crushed cut dealt drawn driven drowned drunk
dug eaten fallen fed fought frozen ground hidden hit hung hurt kept killed laid led left lost made meant paid put
shaken shot shut slain slit slung snuck sold spat split spun stabbed stolen struck strung stuck stung sunk swept sworn
taken taught thrown tied told torn trodden woken worn wound wrung
"""
IRREGULAR = frozenset(_IRREGULAR.split())
THINGS = ("a lantern", "a basket of apples", "an umbrella", "a bunch of flowers", "a book", "a teapot")
MANY = ("flowers", "apples", "lanterns", "books", "seashells")
STUFF = ("tea", "honey", "lemonade")
OWNED = ("hat", "notebook", "violin", "garden")
PERSONS = ("a gardener", "a musician", "a neighbour")
PEOPLE = ("gardeners", "musicians", "friends")
QUALITIES = ("smiling", "cheerful", "friendly", "colourful", "painted", "wooden")


def _table(text: str) -> tuple[Forms, ...]:
    rows = [line.split("|") if "|" in line else line.split() for line in text.strip().splitlines()]
    return tuple((a, b, c, d) for a, b, c, d in rows)


CARRYING, INTRANSITIVE, PREDICATES = _table(_CARRYING), _table(_INTRANSITIVE), _table(_PREDICATES)
LOOKING = _table(_LOOKING)  # with a preposition: into, at, over something
TRANSITIVE, GREETING = _table(_TRANSITIVE), _table(_GREETING)  # with anything as object; with a person


def form(verb: str) -> int:
    """Tell the form of a verb, one of BASE, THIRD, ING and PAST."""
    word = verb.lower()
    if word.endswith("ing") and len(word) > 4:
        return ING
    if word in IRREGULAR or (word.endswith("ed") and len(word) > 3):
        return PAST
    return THIRD if word.endswith("s") and not word.endswith("ss") else BASE


def verbs(old: str, table: tuple[Forms, ...]) -> Iterator[str]:
    """Give the verbs of a table in the form of another verb."""
    which = form(old)
    for forms in table:
        yield forms[which]


def nouns(old: str, *, mass: bool) -> Iterator[str]:
    """Give noun phrases in the number of `old`, with its owner if it has one; where `mass` is set, mass nouns, too."""
    if owner := grammar.OWNER.match(old):
        yield from (owner.group() + noun for noun in OWNED)
    elif old.lower().endswith("s") and not old.lower().endswith("ss"):
        yield from (*MANY, *PEOPLE)
    else:
        yield from (*(STUFF if mass else ()), *THINGS, *PERSONS)
