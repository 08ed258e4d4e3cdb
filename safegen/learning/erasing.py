"""Learning a weight edit in closed form: UCE (WACV 2024, arXiv 2308.14761) and RECE (ECCV 2024, arXiv 2407.12383).

Layers that read text are changed so that they make of a harmful state c what they made of the safe one a in its place,
and of benign states p what they made of those:

    W' = (sum W a c^T + W K) (sum c c^T + K)^-1        with K = sum p p^T + ridge

So W' is W T, where T changes states and is the same for all layers that read them. RECE then asks which states would
bring the concept back after the edit, also in closed form, and erases those as well:

    c' = (sum W'^T W' + ridge)^-1 (sum W'^T W) c       over all layers

The papers pair the last token of one phrase for each concept with that of its anchor. Here harmful states are those of
the recipe's lines in many sentences at every position that is scored, each with the state at the same place of the
sentence with a safe phrase. In bidirectional encoders all of them carry the concept. The safe phrase is one for all
lines, that which is most like the others: no change that is linear could lead every line to a phrase of its own. Sums
are means, in which all position classes of a prompt count alike, so that its many pads do not outweigh its words. Later
rounds keep what the first has done with c, and the change is kept at a low rank. Layers that the papers leave alone,
because their models have none, are edited in the same way: those that read a pooled vector, or sum up the text.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safegen.conditioning import SCORED, Position
from safegen.directions.edits import WeightEdit
from safegen.families.calls import tell
from safegen.families.edits import text_layers
from safegen.learning.corpus import Corpus, benign_prompts
from safegen.learning.effort import PLAIN_SIGHT
from safegen.learning.es import alignment
from safegen.learning.held import kind, split_held_out
from safegen.progress import SILENT, Progress
from safegen.scoring.probes import features

if TYPE_CHECKING:
    from safegen.directions.recipes import Concept
    from safegen.families import Family

ROUNDS = {"uce": 0, "rece": 2}  # of erasing what would bring the concept back
PROMPTS, BATCH = 192, 32  # harmful prompts, and as many benign ones; how many are told at once
SMALLER = 4  # times, than the model's own pictures
HELD = 10  # one recipe line in this many is kept out of what is assessed
KEEP, RIDGE = 0.3, 0.01  # weight of benign states; the ridge, as a share of the harmful states' mean square
RANK = 32


@dataclass(frozen=True)
class States:
    """States of N positions, as a layer reads them, times the roots of the positions' weights."""

    harmful: Tensor  # (N, D)
    safe: Tensor  # (N, D), of the safe prompt in the same place
    groups: Tensor  # (N,), the recipe line of each
    benign: Tensor  # (M, D)

    def where(self, rows: Tensor) -> States:
        return States(self.harmful[rows], self.safe[rows], self.groups[rows], self.benign)


def learn_uce(concept: Concept, family: Family, progress: Progress = SILENT) -> WeightEdit:
    """Learn the edit of UCE, see `learn`."""
    return learn(concept, family, "uce", progress)


def learn_rece(concept: Concept, family: Family, progress: Progress = SILENT) -> WeightEdit:
    """Learn the edit of RECE, see `learn`."""
    return learn(concept, family, "rece", progress)


@torch.no_grad()
def learn(concept: Concept, family: Family, method: str, progress: Progress = SILENT) -> WeightEdit:
    """Learn the weight edit that keeps a concept out of what a model's denoiser makes of text.

    Args:
        concept: the recipe.
        family: the model to learn for.
        method: a key of `ROUNDS`.
        progress: told of every batch of prompts.

    Raises:
        UsageError: the denoiser has no cross-attention.
        ModelError: there is no denoiser, or it is compiled or streamed.
    """
    place = family.bottleneck
    place.check()
    layers = text_layers(place.denoiser)
    corpus = Corpus.of(replace(concept, targets=dict.fromkeys(concept.targets, central(concept, family))), PLAIN_SIGHT)
    found = states_of(corpus, family, {what: names[0] for what, names in layers.items()}, progress)
    modules, tensors, figures = dict(place.denoiser.named_modules()), dict[str, Tensor](), dict[str, float]()
    for what, names in layers.items():
        weights = [modules[name].weight.detach().double().cpu() for name in names]
        square = torch.stack([weight.T @ weight for weight in weights]).sum(0)
        apart = split_held_out(found[what].groups, HELD)
        trial = solve(found[what].where(~apart), square, ROUNDS[method])
        figures |= {f"{what}_{name}": value for name, value in assess(trial, found[what].where(apart), square).items()}
        change = solve(found[what], square, ROUNDS[method]) - torch.eye(len(square), dtype=torch.double)
        left, sizes, right = torch.linalg.svd(change)
        halves = sizes[:RANK].sqrt()
        for name, weight in zip(names, weights, strict=True):
            tensors[f"{name}.up"] = (weight @ left[:, :RANK] * halves).float()
            tensors[f"{name}.down"] = (halves[:, None] * right[:RANK]).float()
    info = {
        **{"concept": concept.name, "method": method, "denoiser": place.kind, "class": type(place.denoiser).__name__},
        **{"fingerprint": place.fingerprint, "recipe_sha256": concept.sha256, "held_out": figures},
        **{"held_out_of": kind(corpus.groups, HELD), "rounds": ROUNDS[method], "rank": RANK},
        "sources": {"harmful": min(PROMPTS, len(corpus.targets)), "benign": PROMPTS},
    }
    return WeightEdit(tensors, info)


def central(concept: Concept, family: Family) -> str:
    """Find the recipe's safe phrase that is most like all of them, in the first channel."""
    phrases = list(concept.targets.values())
    channel = next(iter(family.encode_words(phrases).word_channels.values()))
    means = features(channel).means[Position.TOKEN]
    return phrases[int((means - means.mean(0)).norm(dim=-1).argmin())]


def solve(states: States, square: Tensor, rounds: int) -> Tensor:
    """Compute T (D, D), which changes states.

    Args:
        states: to learn from.
        square: the sum of W^T W (D, D) over the layers that read them.
        rounds: of erasing what would bring the concept back.
    """
    harmful, safe, benign = (part.double() for part in (states.harmful, states.safe, states.benign))
    eye = torch.eye(harmful.shape[1], dtype=torch.double)
    ridge = RIDGE * harmful.square().mean() * eye
    change, kept, source = eye, KEEP * mean_square(benign), harmful
    for turn in range(rounds + 1):
        if turn:
            kept = KEEP * (mean_square(benign) + mean_square(harmful))
            source = returning(change, square, harmful)
        keep = kept + ridge
        goal = safe.T @ source / len(source) + change @ keep
        change = torch.linalg.solve(mean_square(source) + keep, goal.T).T
    return change


def returning(change: Tensor, square: Tensor, harmful: Tensor) -> Tensor:
    """Find the states (N, D) from which changed layers would make what they made of harmful ones."""
    after = change.T @ square @ change
    ridge = RIDGE * after.diagonal().mean() * torch.eye(len(after), dtype=after.dtype)
    found: Tensor = harmful @ torch.linalg.solve(after + ridge, change.T @ square).T
    return found


def mean_square(states: Tensor) -> Tensor:
    """Compute the mean of x x^T over states (N, D)."""
    return states.T @ states / len(states)


def assess(change: Tensor, held: States, square: Tensor) -> dict[str, float]:
    """Measure, in what the layers make of held-out lines, what is erased, what returns at worst, and benign drift."""
    harmful, safe, benign = (part.double() for part in (held.harmful, held.safe, held.benign))

    def size(gap: Tensor) -> float:
        return float(((gap @ square) * gap).sum(-1).mean())

    gap = size(harmful - safe)
    worst = returning(change, square, harmful)
    return {
        "erased": round(1 - size(harmful @ change.T - safe) / gap, 4),
        "returns": round(1 - size(worst @ change.T - harmful) / gap, 4),
        "benign_drift": round(size(benign @ change.T - benign) / size(benign), 4),
    }


def states_of(corpus: Corpus, family: Family, layers: dict[str, str], progress: Progress = SILENT) -> dict[str, States]:
    """Collect what layers read when the denoiser is told the corpus's prompts, for one layer of each kind."""
    rng = random.Random("erasing")
    rows = sorted(rng.sample(range(len(corpus.targets)), min(PROMPTS, len(corpus.targets))))
    calm = [*rng.sample(list(corpus.hard), min(PROMPTS // 2, len(corpus.hard))), *benign_prompts()][:PROMPTS]
    parts: dict[str, list[States]] = {what: [] for what in layers}
    with progress.counting("prompts", len(rows) + len(calm)) as tick:
        for start in range(0, max(len(rows), len(calm)), BATCH):
            batch, rest = rows[start : start + BATCH], calm[start : start + BATCH]
            prompts = [*(corpus.targets[i] for i in batch), *(corpus.anchors[i] for i in batch), *rest]
            read = Reading.of(family, prompts, layers)
            for what in layers:
                parts[what].append(read.paired(what, [corpus.groups[i] for i in batch]))
            tick(len(batch) + len(rest))
    return {
        what: States(
            torch.cat([one.harmful for one in some]),
            torch.cat([one.safe for one in some]),
            torch.cat([one.groups for one in some]),
            torch.cat([one.benign for one in some]),
        )
        for what, some in parts.items()
    }


@dataclass(frozen=True)
class Reading:
    """What layers read of B prompts, and what the prompts' positions are."""

    inputs: dict[str, Tensor]  # (B, T, D) each; T is 1 for a pooled vector
    tokens: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, family: Family, prompts: Sequence[str], layers: dict[str, str]) -> Reading:
        """Tell the denoiser prompts, and note what layers read."""
        told = family.encode(prompts)
        with watching(family.bottleneck.denoiser, layers) as seen:
            tell(family, told, family.guidance, small(family))
        inputs = {what: (x.unsqueeze(1) if x.ndim == 2 else x).float().cpu() for what, x in seen.items()}
        return cls(inputs, next(iter(told.word_channels.values())).tokens)

    def paired(self, what: str, groups: Sequence[int]) -> States:
        """Pair the states of the first prompts, by position, with those of as many safe ones behind them."""
        states, count = self.inputs[what], len(groups)
        harmful, safe, lines, benign = [], [], [], []
        for row, group in enumerate(groups):
            goals = alignment(self.tokens[row], self.tokens[row + count])[0]
            own, weights, extra = self._places(what, row)
            other = [i if i < extra or extra < 0 else goals[i - extra] + extra for i in own]
            harmful.append(weights * states[row, own])
            safe.append(weights * states[row + count, other])
            lines += [group] * len(own)
        for row in range(2 * count, len(states)):
            own, weights, _ = self._places(what, row)
            benign.append(weights * states[row, own])
        none = states[:0].flatten(0, 1)
        return States(
            torch.cat([none, *harmful]),
            torch.cat([none, *safe]),
            torch.tensor(lines, dtype=torch.long),
            torch.cat([none, *benign]),
        )

    def _places(self, what: str, row: int) -> tuple[list[int], Tensor, int]:
        """Give the places of a prompt that count, the roots of their weights (N, 1), and what comes before its tokens.

        A pooled vector is one place. A state that sums up the prompt comes before the others, as a class of its own.
        """
        extra = self.inputs[what].shape[1] - len(self.tokens[row])
        if extra < 0:
            return [0], torch.ones(1, 1), extra
        classes: list[Position | None] = [*[None] * extra, *(token.position for token in self.tokens[row])]
        counts = Counter(one for one in classes if one is None or one in SCORED)
        places = [i for i, one in enumerate(classes) if one in counts]
        weights = torch.tensor([1 / counts[classes[i]] / len(counts) for i in places])
        return places, weights.sqrt().unsqueeze(1), extra


def small(family: Family) -> tuple[int, int]:
    """Give a small size of pictures; what layers read of the text depends on none."""
    side = max(family.step, family.size // SMALLER // family.step * family.step)
    return side, side


@contextlib.contextmanager
def watching(denoiser: Any, layers: dict[str, str]) -> Iterator[dict[str, Tensor]]:
    """Note what layers read."""
    seen: dict[str, Tensor] = {}
    modules = dict(denoiser.named_modules())
    with contextlib.ExitStack() as stack:
        for what, name in layers.items():

            def note(_module: Any, inputs: tuple[Any, ...], what: str = what) -> None:
                seen[what] = inputs[0].detach()

            stack.callback(modules[name].register_forward_pre_hook(note).remove)
        yield seen
