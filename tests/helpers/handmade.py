"""States and directions made by hand, so small that every score can be worked out in the head."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch

from safegen.conditioning import Channel, Conditioning, Position, Token
from safegen.directions.direction import Direction

FAR = 100.0  # where the one hidden unit of a head stands: its activation is the identity there
LINE = 2.0  # the threshold of both heads, in deviations
HEADS = {"gate": (Position.END,), "check": (Position.TOKEN,)}
Meaning = Callable[[str], Sequence[float]]
Whole = Callable[[torch.Tensor], torch.Tensor]


def added_up(words: torch.Tensor) -> torch.Tensor:
    """The meaning of a sentence as the sum of its words'."""
    return words.sum(0)


def channel(prompts: Sequence[str], meaning: Meaning, whole: Whole = added_up) -> Channel:
    """A beginning of zeros, a state for each word, and an end that holds the whole; padded to the longest prompt."""
    width = len(meaning("a"))
    rows, states = [], []
    for prompt in prompts:
        words = [Token(m[0], Position.TOKEN, m.span()) for m in re.finditer(r"\w+|[^\w\s]", prompt)]
        vectors = torch.tensor([list(meaning(word.text)) for word in words]).reshape(-1, width)
        end = whole(vectors) if words else torch.zeros(width)
        rows.append([Token("<s>", Position.START), *words, Token("</s>", Position.END)])
        states.append(torch.cat([torch.zeros(1, width), vectors, end[None]]))
    longest = max(map(len, rows))
    tokens = tuple((*row, *[Token("", Position.ABSENT)] * (longest - len(row))) for row in rows)
    return Channel(
        torch.nn.utils.rnn.pad_sequence(states, batch_first=True),
        torch.tensor([[int(token.position) for token in row] for row in tokens]),
        tokens,
        ("",) * len(prompts),
        tuple(len(row) - 2 for row in rows),
    )


def pooled(vectors: Sequence[Sequence[float]], lengths: Sequence[int] = ()) -> Channel:
    """A pooled vector for each prompt."""
    states = torch.tensor([[list(vector)] for vector in vectors], dtype=torch.float32)
    positions = torch.full(states.shape[:2], int(Position.POOLED))
    none = ((),) * len(vectors)
    return Channel(states, positions, none, ("",) * len(vectors), tuple(lengths) or (1,) * len(vectors))


def encode(prompts: Sequence[str], meanings: Mapping[str, Sequence[float]], whole: Whole = added_up) -> Conditioning:
    """One channel, in which words without a meaning are zeros (2 wide)."""
    return Conditioning(tuple(prompts), {"text": channel(prompts, lambda word: meanings.get(word, (0.0, 0.0)), whole)})


def direction(
    concept: str = "violence",
    along: Sequence[float] = (1.0, 0.0),
    heads: Mapping[str, Sequence[Position]] = HEADS,
    **more: torch.Tensor,
) -> Direction:
    """A direction whose scores are what the states say along a vector, in deviations from 0, with the line at `LINE`.

    The classifier sees the end, the verifier the mean of the words, the token probe every word. Benign values lie
    evenly between -1 and 1. `more` replaces tensors, with `__` for the dot in their names.
    """
    vector, benign = torch.tensor(list(along)), torch.linspace(-1, 1, 101)
    tensors: dict[str, torch.Tensor] = {
        "token.own": vector,
        "token.own_scale": torch.tensor([0.0, 1.0]),
        "token.own_quantiles": benign,
    }
    for head, classes in heads.items():
        for position in classes:
            key = f"{position.name.lower()}.{head}"
            tensors |= {key: vector[None], f"{key}_centre": torch.zeros(len(vector))}
        tensors |= {f"{head}.bias": torch.tensor([FAR]), f"{head}.out": torch.ones(1)}
        tensors |= {f"{head}.scale": torch.tensor([[FAR, 1.0]] * 3), f"{head}.thresholds": torch.full((3,), LINE)}
        tensors[f"{head}.quantiles"] = (FAR + benign).repeat(3, 1)
    tensors |= {name.replace("__", "."): tensor for name, tensor in more.items()}
    return Direction(tensors, {"concept": concept, "word_threshold": 1.0})
