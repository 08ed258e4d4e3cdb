"""The harmful situation in a prompt, and its harmless nouns: each noun is judged alone, by what it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.reader import english, roles
from safegen.reader.chunks import Chunk
from safegen.reader.clauses import Clauses
from safegen.reader.forms import folded
from safegen.reader.grammar import ARTICLES, DETERMINERS
from safegen.reader.kinds import NOUN, PLACE, PRONOUN, SIGN, VERBS
from safegen.reader.naming import CREATURES, NAMELY, VICTIMS
from safegen.reader.nouns import Parts
from safegen.reader.reading import OPEN

if TYPE_CHECKING:
    from safegen.reader.reader import Reader
    from safegen.reader.reading import Reading

# Heights in the prompt, as shares of the line, from which on a word belongs to a situation, and may do so beside one.
HOT, WARM = 1.0, 0.7
# Up to which height a noun is harmless when it stands alone, and one that may well belong to the situation.
CALM, SURELY = 0.7, 0.35

_LOOSE = frozenset({"of", "to", "into", "for"})  # a bare word behind these mostly names nothing that can be seen


@dataclass(frozen=True)
class Named:
    """The words of a noun that a repair may use, whether they name somebody, and whether they are all of the noun."""

    parts: Parts
    being: bool
    whole: bool


class Situation:
    """A prompt with a harmful situation: which words take part in it, and what its nouns may still say.

    Args:
        reader: the reader, which reads every noun alone.
        reading: the prompt.
        names: the concepts that count.
        replaced: words for which a recipe has others; of these none stays.
    """

    def __init__(
        self, reader: Reader, reading: Reading, names: Sequence[str], replaced: Set[int] = frozenset()
    ) -> None:
        self.reading, self.replaced, spelled = reading, replaced, folded(reading.words)
        self.words = [word.text for word in spelled]
        self.chances = reader.gaps(spelled)
        self.clauses = Clauses(self.words, self.chances)
        self.chunks = self.clauses.chunks
        columns = [reader.concepts.index(name) for name in names]
        self.heights = (reading.scores[:, columns] / reader.lines[columns]).max(1, initial=0.0)
        self.named = self._read_alone(reader)

    def is_hot(self, word: int) -> bool:
        """Tell whether a word takes part in the situation."""
        return (
            roles.means(self.words[word])
            and self.words[word] not in roles.LED
            and bool(self.heights[word] >= HOT or self.chances[word] >= OPEN)
        )

    def height(self, at: int) -> float:
        """Give the height of a chunk in the prompt."""
        return max((float(self.heights[i]) for i in self.chunks[at].words if self.words[i][0].isalnum()), default=0.0)

    def _read_alone(self, reader: Reader) -> dict[int, Named]:
        """Find the longest form of each noun that is harmless when it stands alone; a person has a plain name."""
        nouns = [at for at, chunk in enumerate(self.chunks) if chunk.kind == NOUN]
        forms = {at: self._forms(at) for at in nouns if self.height(at) >= WARM or self._acts_in(at)}
        said = {form.parts: self._alone(form.parts) for some in forms.values() for form, _ in some}
        heights = dict(zip(said, (found.height for found in reader.read(list(said.values()))), strict=True))
        cold = ((at, self.chunks[at]) for at in nouns if at not in forms)
        named = {at: Named(tuple(chunk.words), self._is_somebody(chunk), True) for at, chunk in cold}
        for at, some in forms.items():
            chunk = self.chunks[at]
            figure = self.words[chunk.head].startswith(CREATURES)
            calm = next((form for form, most in some if figure or heights[form.parts] <= most), None)
            suffers = self.words[chunk.head] in VICTIMS and self.is_hot(chunk.head)
            if calm is not None and not suffers:
                named[at] = calm
            elif self._is_somebody(chunk) and not self.clauses.is_animal(chunk.head):
                named[at] = Named(self.plain(chunk), True, False)
        for at in [at for at in named if self._is_made_of_harm(at, named)]:
            del named[at]
        return named

    def _is_made_of_harm(self, at: int, named: Mapping[int, Named]) -> bool:
        """Tell whether a thing is nothing without the harm that it is of: *a line of it*; a bowl is one."""
        if self.clauses.first_word(at + 1) != "of" or not self.clauses.is_kind(at + 2, NOUN):
            return False
        word = self.words[self.chunks[at].last]
        full = word in roles.CONTAINERS or english.holds(word)
        harm = at + 2 not in named and self.clauses.is_harmful(self.chunks[at + 2])
        return harm and not full and not named[at].being

    def _acts_in(self, at: int) -> bool:
        """Tell whether somebody is right before what takes part in the situation."""
        behind = self.clauses.chunk(at + 1)
        return behind is not None and self._is_somebody(self.chunks[at]) and any(map(self.is_hot, behind.words))

    def _alone(self, parts: Parts) -> str:
        """Say a noun alone as one says it: nobody's, and one of them with its article."""
        words = [part if isinstance(part, str) else self.words[part] for part in parts]
        if words[0] in DETERMINERS - ARTICLES:  # *his axe* means nobody's
            words[0] = "the"
        if len(words) == 1 and english.is_being(words[0]):
            return english.alone(words[0])
        single = len(words) == 1 and not english.is_plural(words[0]) and not english.is_thing(words[0])
        return f"a {words[0]}" if single else " ".join(words)

    def plain(self, chunk: Chunk) -> Parts:
        """Give the plainest name for whom a noun names; *his rival* is *a person*, and not *his*."""
        led: Parts = tuple(i for i in chunk.words if i < chunk.head and self._leads(i))[:1]
        if led and self.words[chunk.first] in DETERMINERS - ARTICLES:
            led = () if english.is_plural(self.words[chunk.head]) else ("a",)
        return (*led, roles.plain(self.words[chunk.head]))

    def _leads(self, word: int) -> bool:
        """Tell whether a word only says which or how many are meant."""
        return self.words[word] in roles.SMALL | roles.LED

    def _forms(self, at: int) -> list[tuple[Named, float]]:
        """Give what a noun may be reduced to, from the whole of it to one word, and the most that its height may be."""
        chunk = self.chunks[at]
        noun, owner, hot = self.words[chunk.head], self.clauses.owner(chunk), self.height(at) >= HOT
        theirs, worn = self.words[chunk.first] in DETERMINERS - ARTICLES, english.is_worn(noun)
        denied = next((i for i in chunk.words if self.words[i] == "no" and i > chunk.first), None)
        if denied is not None:  # *a no owls sign* says nothing of owls alone
            return [(Named((*range(chunk.first, denied), chunk.head), False, False), CALM)]
        if noun in roles.CORPSES and owner is None and not theirs and self.clauses.first_word(at + 1) != "of":
            return [(Named(self._someone(chunk), True, False), CALM)]
        if self.clauses.is_bodily(chunk) and owner is not None:
            return [(Named(self._owner(chunk, owner), True, False), CALM)]
        if roles.is_of_a_body(noun) and not worn and self.clauses.is_bodily(chunk):
            return []
        own = roles.is_of_a_body(noun) or any(self.words[i] == "own" for i in chunk.words)
        if hot and (not self.is_apart(at) or (theirs and own)):
            return []
        somebody = self._is_somebody(chunk)
        calm = NAMELY if somebody else CALM
        forms: list[tuple[Parts, bool, float]] = [(tuple(chunk.words), somebody, calm)]
        for cool in (self._cool(chunk, somebody, surely=True), self._cool(chunk, somebody)):
            forms += [(cool, somebody or english.is_being(self.words[cool[-1]]), calm)] if cool else []
        if somebody and any(self.chances[i] >= OPEN and self._is_state(i) for i in chunk.words):
            del forms[0]  # *a weeping clerk* is one to whom something is done
        inner = any(english.is_being(self.words[i]) for i in self._cool(chunk, somebody) if i != chunk.head)
        if inner and not somebody:
            forms.reverse()  # whoever is there, and not what is done to them: *a horse split*
        head = tuple(i for i in chunk.words if self._leads(i) or i == chunk.head)
        forms.append((head, somebody, calm if self.chances[chunk.head] < OPEN else SURELY))
        forms += [(form, being, CALM) for form, being in self._within(chunk, somebody)]
        whole = tuple(chunk.words)
        some = [form for form in forms if self.replaced.isdisjoint(form[0]) and self._names(at, form[0])]
        return [(Named(p, being, p == whole), most) for p, being, most in some]

    def _is_state(self, word: int) -> bool:
        """Tell whether a word says what somebody does or what was done to them: *weeping*, *tied*."""
        return english.is_form(self.words[word], "ing") or english.is_form(self.words[word], "ed")

    def _within(self, chunk: Chunk, somebody: bool) -> Iterator[tuple[Parts, bool]]:
        """Give whom or what a noun names before its last word."""
        for i in reversed(chunk.words[:-1]):
            led = tuple(j for j in chunk.words if j < i and self._leads(j))
            word = self.words[i].removesuffix("'s")
            if english.is_adjective(word):
                continue
            if english.is_person(word) or (not somebody and english.is_being(word) and self.chances[i] < OPEN):
                yield (*led, word if word != self.words[i] else i), True
            elif not somebody and self.chances[i] < OPEN and english.is_thing(word):
                yield (*led, i), False

    def _owner(self, chunk: Chunk, owner: int) -> Parts:
        """Give whose body a noun names."""
        begin, name = owner, self.words[owner].split("'")[0]
        while begin - 2 >= chunk.first and self.words[begin - 1] == "-":
            begin, name = begin - 2, f"{self.words[begin - 2]}-{name}"
        return (*range(chunk.first, begin), name)

    def is_apart(self, at: int) -> bool:
        """Tell whether what a noun names is seen by itself, and is nothing that somebody wears or takes off."""
        led = self.clauses.is_kind(at - 1, *VERBS) or self.clauses.is_kind(at - 1, PLACE)
        taken = self.clauses.first_word(at - 1) in ("with", "under", "up")
        noun = self.words[self.chunks[at].head]
        return (led and not taken) or english.is_being(noun) or not english.is_worn(noun)

    def _is_somebody(self, chunk: Chunk) -> bool:
        """Tell whether a noun names somebody; one that looks like a doer does, if nobody has it."""
        noun, at = self.words[chunk.head], self.clauses.holding(chunk.head)
        doer = noun.endswith(("er", "ers")) and self.words[chunk.first] not in DETERMINERS - ARTICLES
        other = english.is_thing(noun) or english.is_body(noun) or noun in roles.BEARERS
        does = self.clauses.is_kind(at + 1, *VERBS) or self.chances[chunk.head] < OPEN
        if doer and does and not other and self.height(at) >= WARM:
            return True
        return self.clauses.is_somebody(chunk) and not self.clauses.is_own(chunk)

    def _someone(self, chunk: Chunk) -> Parts:
        """Tell who a body is of."""
        animal = next((i for i in chunk.words if i != chunk.head and english.is_being(self.words[i])), None)
        if animal is not None:
            return (animal,) if english.is_plural(self.words[animal]) else ("a", animal)
        return ("people",) if english.is_plural(self.words[chunk.head]) else ("a person",)

    def _cool(self, chunk: Chunk, somebody: bool, *, surely: bool = False) -> tuple[int, ...]:
        """Give the words of a noun that take no part in the situation; what a hyphen joins goes together.

        Args:
            chunk: the noun.
            somebody: whether it names somebody, who stays.
            surely: whether only those go that surely take part.
        """
        hot = {i for i in chunk.words if (self.chances[i] >= OPEN if surely else self.is_hot(i))}
        kept = {i for i in chunk.words if self._leads(i) or i not in hot or (i == chunk.head and somebody)}
        torn = {i for i in chunk.words if self.words[i] == "-" and not {i - 1, i + 1} <= kept}
        return tuple(i for i in sorted(kept) if not {i - 1, i, i + 1} & torn)

    def _names(self, at: int, parts: Parts) -> bool:
        """Tell whether a form names somebody or something that can be seen; what is not warm may be anything."""
        word = parts[-1] if isinstance(parts[-1], str) else self.words[parts[-1]]
        if word in roles.SMALL | roles.LED:
            return False
        last, before = parts[-1], self.clauses.first_word(at - 1)
        begins = at == 0 or self.chunks[at - 1].kind == SIGN or before == "by"
        led = self.words[self.chunks[at].first] in ARTICLES
        cold = self.height(at) < WARM or ((begins or led) and isinstance(last, int) and self.chances[last] < OPEN)
        known = english.is_being(word) or english.is_thing(word) or english.is_worn(word)
        known = known or word in roles.BEARERS
        verb = before == "and" and (english.is_form(word, "") or english.is_form(word, "s"))
        bare = len(parts) == 1 and (verb or before in _LOOSE or self.clauses.is_kind(at + 1, NOUN, PRONOUN))
        return cold or self._is_somebody(self.chunks[at]) or (known and not (bare and not english.is_being(word)))
