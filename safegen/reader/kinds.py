"""The kinds of a prompt's words, and the small words that have one by themselves."""

from __future__ import annotations

# Of words, and of the chunks that they make: things and beings, and what joins them.
NOUN, PRONOUN, REFLEXIVE, PLACE = "noun", "pronoun", "reflexive", "place"
LINK, AND, ADVERB, WHERE, SIGN = "link", "and", "adverb", "where", "sign"
DOING, DONE, DOES, DO, TO_DO = "doing", "done", "does", "do", "to do"  # a verb by its form: he is, was, he does, ...
VERBS = frozenset({DOING, DONE, DOES, DO, TO_DO})
DETERMINER, HELPING = "determiner", "helping"  # only within a chunk: before a noun, and before another verb
_CLOSED = {
    DETERMINER: "a an the his her their its my your our two three four five six seven eight nine ten some many "
    "several few both no any this that these those each every all another other dozens",
    PRONOUN: "i you he she it we they him them me us someone somebody anyone anybody everyone everybody nobody",
    REFLEXIVE: "himself herself itself themselves oneself yourself myself",
    AND: "and or but",
    LINK: "while where when as because so until if though although who whom whose which why whether unless",
    HELPING: "is are was were be been being am get gets got getting has have had having about must should would could",
    PLACE: "above across after against along alongside amid amidst among amongst around aboard at atop before behind "
    "below beneath beside besides between beyond by down during for from in inside into like near next of off on onto "
    "opposite out outside over past since through throughout to toward towards under underneath up upon via with "
    "within without",
    ADVERB: "not never just then also still alive alight ablaze aflame afire asleep awake aloud together apart away "
    "back home too very open shut",
    WHERE: "abroad ashore backstage downstairs everywhere here indoors nearby offstage onstage outdoors overhead "
    "underground underwater upstairs",
}
KINDS = {word: kind for kind, words in _CLOSED.items() for word in words.split()}
HELPERS = frozenset(word for word, kind in KINDS.items() if kind == HELPING)
SUBJECTS = frozenset({"he", "she", "it", "who", "which", "that"})
CALLED = frozenset({"branded", "called", "declared", "deemed", "labeled", "labelled", "named"})  # as what, comes next
MODALS = frozenset({"could", "must", "should", "would"})
ONLY_SUBJECTS = frozenset({"i", "he", "she", "we", "they"})  # behind a noun, they begin a clause about it
# Behind these and somebody stands, as a bare verb, what they are made to do or seen to do.
_CAUSES = "had has have having let lets letting made make makes making watch watches watching"
CAUSING = frozenset(_CAUSES.split())
PARTICLES = frozenset({"down", "off", "up"})  # behind a verb of no movement, these have no noun of their own
STRANDED = frozenset({"at", "on", "upon"})  # with these a verb goes on that has lost its noun: *spat on by a crowd*
# Two words that are a preposition together.
PAIRS = frozenset({("all", "over"), ("because", "of"), ("front", "of"), ("top", "of")})
# Forms in *-ing* that are said before a noun more often than behind one.
_COMPOUNDS = """
boxing changing cooking dining dressing drinking fishing hunting knitting living parking racing riding rocking
running sailing sewing shopping skating sleeping swimming training waiting walking washing writing
"""
COMPOUNDS = frozenset(_COMPOUNDS.split())
DESCRIBING = ("y", "ful", "ous", "ic", "al", "ish")  # how words end that describe a noun
_NOT_ADVERBS = "ally assembly belly butterfly dolly family homely italy jelly lily"
NOT_ADVERBS = frozenset(_NOT_ADVERBS.split())  # though they end in *-ly*
