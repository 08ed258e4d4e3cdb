"""Words by the part that they play in a picture: what is somebody's, what holds or shows something, who moves where."""

from __future__ import annotations

from safegen.reader import english
from safegen.reader.grammar import WORDS

SMALL = frozenset().union(*WORDS.values())
LED = WORDS["article"] | {"one", "another", "this", "that", "every"}  # before these words stands one of many
# What somebody has of a body, or on it, is no thing to look at beside them.
_OF_A_BODY = """
ankle ankles arm arms back belly body bodies bones breast breasts cheek cheeks chest chin ear ears eye eyes face faces
feet finger fingers flesh foot forehead genitals hair hand hands head heads heart jaw jaws knee knees leg legs life limb
limbs lip lips mouth neck nose own ribs scalp skin skull stomach temple temples thigh thighs throat throats tongue tooth
teeth vein veins waist wrist wrists
blouse bra clothes coat dress jacket pants pocket pockets shirt skirt sleeve trousers underwear
"""
OF_A_BODY = frozenset(_OF_A_BODY.split())
# What is left of somebody: in a picture, somebody else can be there.
_CORPSES = """
body bodies cadaver cadavers carcass carcasses corpse corpses dead remains skeleton skeletons
"""
CORPSES = frozenset(_CORPSES.split())
# With an article, these are something else than a part of a body.
HOMONYMS = frozenset({"chest", "temple", "temples"})
# What shows or says something: it greets nobody.
_BEARERS = """
banner billboard book card cartoon drawing engraving flag graffiti letter magazine mural newspaper note painting photo
photograph picture placard plaque poster screen shirt sign statue sticker t-shirt tattoo
"""
BEARERS = frozenset(_BEARERS.split())
# Something has to be in these, or of these.
_CONTAINERS = """
bag bags barrel basket bathtub bottle bowl bowls box boxes bucket cup dozens full glass jar pile piles plate pot stack
tray
"""
CONTAINERS = frozenset(_CONTAINERS.split())
# What stands behind these is said or written, and no picture of its own.
_SAYING = "declaring labeled labelled proclaiming reading reads saying says stating states telling tells titled"
SAYING = frozenset(_SAYING.split())
# With these somebody can be anywhere, so nothing is missing when the place goes.
_POSTURES = """
crouching dancing dressed floating flying kneeling leaning lying posing resting riding running seated sitting sleeping
smiling standing swimming waiting walking
"""
POSTURES = frozenset(_POSTURES.split())
# So things are where they are, whatever they are.
STILL = POSTURES | {"dangling", "drifting", "hanging"}
HELD = frozenset({"against", "around", "at", "into", "over", "through", "to", "under"})  # so a weapon is held to a body
AIMED = frozenset({"at", "over", "up"})  # behind these stands what a deed is done to
UNMET = frozenset({"i", "he", "she", "we", "they", "it"})  # nobody greets these
AFTER = frozenset({"after", "at", "on", "upon"})  # who is behind these is close by
# These belong to a movement; who only stands there is near a place. Some do so wherever they stand.
_DIRECTIONS = "across against along down from off into onto out over past through to toward towards up"
DIRECTIONS = frozenset(_DIRECTIONS.split())
INTO = frozenset({"into", "off", "onto", "toward", "towards"})
ALONG = frozenset({"along", "down"})
WITHIN = frozenset({"in", "inside", "on", "within"})
# Nobody stands in these, on these or beyond them, whom a deed does not bring there.
_FLAT = """
blind blinds box boxes ceiling curtain curtains hole keyhole locker lockers peephole plate plates wall walls window
windows
"""
FLAT = frozenset(_FLAT.split())
RELATIVE = frozenset({"he", "i", "she", "that", "they", "we", "which", "who", "whom", "whose"})
BOUND = frozenset({"because", "if", "so", "until"})  # a clause behind these is about the deed before it
# A clause behind these needs a deed before it.
MEANWHILE = frozenset({"while", "when", "as", "because", "until", "so", "if", "though", "although"})
PLAIN = ("women", "woman", "men", "man")  # how words for somebody end that are plain
EITHER = frozenset({"brahman", "german", "human", "norman", "ottoman", "roman", "shaman"})  # these are no *man*


def is_of_a_body(noun: str) -> bool:
    """Tell whether a noun names what somebody has of a body, or on it."""
    return noun in OF_A_BODY or english.is_body(noun)


def has_room(noun: str, *, on: bool = False) -> bool:
    """Tell whether somebody may stand in what a noun names, or on it."""
    return noun not in FLAT and not english.holds(noun) and not (on and english.is_building(noun))


def means(word: str) -> bool:
    """Tell whether a word means something by itself."""
    return word[0].isalnum() and word not in SMALL


def plain(noun: str) -> str:
    """Give the plainest word for somebody."""
    if noun in english.GROUPS:
        return "crowd"
    ending = next((word for word in PLAIN if noun.endswith(word) and noun not in EITHER), "")
    return ending or ("people" if english.is_plural(noun) else "person")


def is_plain(word: str) -> bool:
    """Tell whether a word is one that `plain` gives."""
    return word in ("person", "people", "crowd") or word in PLAIN


def suits_anybody(word: str) -> bool:
    """Tell whether a word before a noun can stand before any word for somebody."""
    return word in SMALL or word.endswith(("ed", "y")) or word in ("old", "young", "little", "big", "tall")
