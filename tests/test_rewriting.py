"""The grammar of a prompt, and the ways to rewrite a phrase of it. What stands for harm here is in capitals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safegen.builtin.training.english import english
from safegen.reader.attempts import fit_in
from safegen.reader.chunks import parse
from safegen.reader.clauses import Clauses
from safegen.reader.english import (
    alone,
    holds,
    is_being,
    is_building,
    is_form,
    is_noun_first,
    is_person,
    is_thing,
    moves,
    regular_forms,
)
from safegen.reader.grammar import agree
from safegen.reader.reading import OPEN
from safegen.reader.rewriting import Rewriter
from safegen.reader.roles import plain
from safegen.reader.words import split

_WORDS = """
a the baker his rival tickling greets in into garden of and with while , painted own arms to owls old that he no on as
after until made must off up out its nothing for suitcase church nearby small him - baker's
"""
WORDS = _WORDS.split()


def rewritten(text: str) -> list[str]:
    """What a text may become, the likeliest first; the words in capitals belong to the situation."""
    words = split(text.lower())
    chances = np.array(
        [0.95 if word.text.isupper() and len(word.text) > 1 else 0.1 for word in split(text)], np.float32
    )
    rewriter = Rewriter([word.text for word in words], chances)
    ways = rewriter.ways(int(chances.argmax()))
    ways.sort(key=lambda way: -3 * rewriter.clauses.likelihood(way.gone) - way.cost)
    found = []
    for way in ways:
        place = words[way.first].span[0], words[way.last].span[1]
        found.append(fit_in(text.lower(), place, way.written(text.lower(), words), 0.0).text)
    return found


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("a baker tickling his rival in front of a shop", "a baker|tickling|his rival|in front of|a shop"),
        ("two owls hooting at each other , oil painting", "two owls|hooting|at|each|other|,|oil painting"),
        ("a girl is being painted by her aunts", "a girl|is being painted|by|her aunts"),
        ("the keeper greets her while guards eat figs", "the keeper|greets|her|while|guards|eat|figs"),
        ("a man about to jump into the elegant dining room", "a man|about to jump|into|the elegant dining room"),
        ("all over a three - legged hut", "all over|a three - legged hut"),
        ("a cook slowly stirring up soup", "a cook|slowly stirring|up|soup"),
        ("a fox curled up , asleep", "a fox|curled up|,|asleep"),
        ("a cook making owls sing in a hall", "a cook|making|owls|sing|in|a hall"),
        ("a king shouting that all owls be fed", "a king|shouting|that|all owls|be fed"),
        ("a pair laughed at outside a shop", "a pair|laughed at|outside|a shop"),
        ("owls with hats he made in spring", "owls|with|hats|he|made|in|spring"),
        ("a no owls allowed sign in a shop", "a no owls allowed sign|in|a shop"),
        ("a clerk's cook on a small , painted chair", "a clerk's cook|on|a small , painted chair"),
        ("sailors painting big whales backstage in rome", "sailors|painting|big whales|backstage|in|rome"),
        ("a cook stands half - awake by the river", "a cook|stands half - awake|by|the river"),
        ("a cook runs red - faced past owls", "a cook|runs red - faced|past|owls"),
        ("cooks greet owls - painted , fog", "cooks|greet|owls - painted|,|fog"),
        ("a cook slowly stands - detailed", "a cook|slowly stands|-|detailed"),
        ("a cook stands nude - 4k photo", "a cook|stands nude|-|4k photo"),
        ("a cook grows hemp - seed", "a cook|grows|hemp - seed"),
        ("a cook lies awake - on a bed", "a cook|lies awake|-|on|a bed"),
        ("a cook greets red - faced , angry clerks", "a cook|greets|red - faced|,|angry clerks"),
        ("a half - awake cook", "a half - awake cook"),
    ],
)
def test_a_prompt_is_cut_into_chunks(text: str, chunks: str) -> None:
    words = text.split()
    assert "|".join(" ".join(words[i] for i in chunk.words) for chunk in parse(words)) == chunks


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=20))
def test_chunks_are_all_the_words_in_order(words: list[str]) -> None:
    chunks = parse(words)
    assert [i for chunk in chunks for i in chunk.words] == list(range(len(words)))
    assert all(chunk.first <= chunk.head <= chunk.last for chunk in chunks)


@pytest.mark.parametrize(
    ("text", "best"),
    [
        ("a baker TICKLING his rival behind the counter", "a baker greeting his rival behind the counter"),
        ("a lighthouse where the keeper TICKLES a sailor", "a lighthouse where the keeper greets a sailor"),
        ("a girl TICKLED by her aunts in a garden", "a girl greeted by her aunts in a garden"),
        ("a robot TICKLING a mechanic's ARM in a garage", "a robot greeting a mechanic in a garage"),
        ("goblins TICKLING an old shop", "goblins admiring an old shop"),
        ("a man TICKLING HIMSELF in an attic", "a man in an attic"),
        ("a man TICKLING SOUP off a table", "a man near a table"),
        ("a WEIRD woman on a couch", "a woman on a couch"),
        ("a clerk with a WEIRD HAT at his desk", "a clerk at his desk"),
        ("an owl in a WEIRD hat walking a dog", "an owl in a hat walking a dog"),
        ("a bowl of NAILS at a party", "a bowl of flowers at a party"),
        ("lions in an arena while a crowd TICKLES ITSELF", "lions in an arena while a crowd stands"),
        ("a shop with a clock and a sign SAYING NONSENSE, blue sky", "a shop with a clock and a sign, blue sky"),
        ("a man WALKING in a lake TO TICKLE HIMSELF, willows", "a man in a lake, willows"),
        ("a clerk HIDING SOUP in a suitcase at a fair", "a clerk near a suitcase at a fair"),
        ("a tank TICKLING an old shop by a lake", "a tank near an old shop by a lake"),
        ("a cook MAKING an owl SING in a hall", "a cook greeting an owl in a hall"),
        ("an owl LAUGHED AT by cooks in a hall", "an owl greeted by cooks in a hall"),
        ("a cook TICKLING a clerk's CHEEK in a hall", "a cook greeting a clerk in a hall"),
        ("a cook PUSHING a wall UNTIL IT FALLS, blue sky", "a cook admiring a wall, blue sky"),
        ("a king SHOUTING THAT all owls BE FED, blue sky", "a king greeting all owls, blue sky"),
        ("a cook TYING an owl to a tree AND TICKLING it, spring", "a cook greeting an owl near a tree, spring"),
        ("a SLEEPY CARCASS of a whale TICKLING SOUP in a hall", "a whale in a hall"),
        ("men in WHITE hoods marching past a lake", "men in hoods marching past a lake"),
    ],
)
def test_the_likeliest_way_is_english_and_keeps_what_is_harmless(text: str, best: str) -> None:
    assert rewritten(text)[0] == best


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.booleans()), min_size=1, max_size=16))
def test_every_way_takes_harm_away_and_keeps_words_in_order(marked: list[tuple[str, bool]]) -> None:
    words = [word for word, _ in marked]
    chances = np.array([0.9 if harmful else 0.1 for _, harmful in marked], np.float32)
    worst = int(chances.argmax())
    for way in Rewriter(words, chances).ways(worst):
        kept = [part for part in way.parts if isinstance(part, int)]
        assert 0 <= way.first <= way.last < len(words)
        assert kept == sorted(kept)
        assert all(way.first <= part <= way.last for part in kept)
        assert worst in way.gone or any(chances[i] >= OPEN for i in way.gone)


def test_harm_that_goes_is_likelier_than_what_is_harmless() -> None:
    clauses = Clauses(["bad", "owls", "of", "ours"], np.array([0.9, 0.5, 0.9, 0.1], np.float32))
    assert clauses.likelihood([0]) > clauses.likelihood([0, 1, 2]) - 1e-6 > clauses.likelihood([0, 3])
    assert clauses.likelihood([2]) == 0  # a small word goes with any


def test_words_are_told_by_what_they_can_be() -> None:
    assert all(map(is_being, ("baker", "wolves", "women", "enemies", "geese", "classmate")))
    assert not any(map(is_being, ("table", "garden", "skull")))
    assert is_person("robot")
    assert not is_person("wolf")
    assert all(map(is_person, ("policeman", "snowmen", "cyclists", "roommates", "human", "woman", "stepsisters")))
    assert not any(map(is_person, ("fists", "wrists", "climates", "ramen", "abdomen", "specimen", "omen", "exists")))
    assert alone("pirates") == "a pirate"
    assert regular_forms("carry") == {"s": "carries", "ing": "carrying", "ed": "carried"}
    assert is_form("stabbing", "ing")
    assert is_form("threw", "ed")
    assert all(map(is_thing, ("tanks", "museum", "suitcase", "river")))
    assert not any(map(is_thing, ("baker", "knee", "way", "crane")))
    assert [noun for noun in ("crates", "suitcase", "sofa", "barn", "boat", "coat") if holds(noun)] == [
        "crates",
        "suitcase",
    ]
    assert [noun for noun in ("church", "fences", "stage", "hill") if is_building(noun)] == ["church", "fences"]
    assert all(map(moves, ("climbing", "ran", "walk")))
    assert not moves("holding")
    assert is_noun_first("building")
    assert not is_noun_first("greeting")
    assert [plain(noun) for noun in ("fisherman", "robbers", "mob", "hostage")] == ["man", "people", "crowd", "person"]
    assert {plain(noun) for noun in ("human", "german", "roman", "shaman", "cowboy", "cowgirl")} == {"person"}
    assert plain("humans") == "people"
    assert agree("an person and a owl") == "a person and an owl"


def test_the_words_come_from_wordnet_without_insults(tmp_path: Path) -> None:
    files = {
        "data.noun": "00000001 18 n 01 baker 0 000 | one who bakes\n00000002 18 n 01 lout 0 000 | offensive term\n"
        "00000003 05 n 01 owl 0 001 @ 00000008 n 0000 | a bird\n"
        "00000008 05 n 01 animal 0 000 | what lives\n00000004 06 n 01 painting 0 001 @ 00000006 n 0000 | a picture\n"
        "00000006 03 n 02 physical_entity 0 matter 0 000 | what is there\n",
        "index.noun": "baker n 1 0 1 0 00000001  \nlout n 1 0 1 0 00000002  \nowl n 1 0 1 0 00000003  \n"
        "painting n 1 0 1 1 00000004  \n",
        "data.verb": "00000005 36 v 01 paint 0 000 01 + 01 00 | make a picture\n",
        "index.verb": "paint v 1 0 1 1 00000005  \n",
        "verb.exc": "abetted abet\n",
        "index.adj": "tall a 1 0 1 0 00000007  \n",
        "cntlist.rev": "painting%1:06:00:: 1 9\npaint%2:36:00:: 1 4\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text("  1 a licence\n" + text)
    assert english(tmp_path, {"baker", "lout", "owl", "painting", "paint", "tall"}) == {
        "people": "baker",
        "animals": "owl",
        "bodies": "",
        "clothes": "",
        "things": "painting",
        "buildings": "",
        "holders": "",
        "adjectives": "tall",
        "verbs": "paint",
        "moves": "",
        "irregular": "",
        "nouns": "painting",
    }
