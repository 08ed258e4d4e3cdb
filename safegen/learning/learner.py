"""The learner: it turns recipes into directions for one family, and encodes once what concepts share."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.directions import recipes, store
from safegen.directions.direction import Direction
from safegen.errors import UsageError
from safegen.learning import contrastive, features
from safegen.learning.effort import BRIEF, TRANSPORTED, Effort
from safegen.learning.transported import Transport
from safegen.progress import SILENT, Progress

if TYPE_CHECKING:
    from safegen.directions.recipes import Concept
    from safegen.families import Family
    from safegen.learning.encoded import Encoded
    from safegen.prompts.datasets import Entry


class Learner:
    """Learns concepts for one family.

    Args:
        family: the model.
        effort: how much to learn from; `TRANSPORTED` carries over what is known of the embedded encoder.
        folder: the folder of the user's own concepts.
        benign: the user's own prompts that must not be flagged.
        progress: told of what is done.
    """

    def __init__(
        self,
        family: Family,
        effort: Effort,
        folder: Path | None = None,
        benign: Sequence[str] = (),
        progress: Progress = SILENT,
    ) -> None:
        self.family, self.effort, self.folder = family, effort, folder
        self.benign, self.progress = benign, progress

    def learn(
        self,
        concept: Concept,
        pairs: Sequence[Entry] = (),
        sources: Mapping[str, str] | None = None,
        channels: Sequence[str] = (),
    ) -> dict[str, Direction]:
        """Learn one concept; gives a direction by channel, see `contrastive.learn`.

        Raises:
            UsageError: what is known of the embedded encoder is to be carried over to that encoder itself, or with
                prompts of the user's own.
        """
        if self.effort is TRANSPORTED:
            if pairs or self.benign:
                raise UsageError("effort 'transported' learns nothing from prompts of your own", "Take another effort.")
            return self._transport.learn(concept, self._known(concept), channels)
        return contrastive.learn(
            concept, self.family, self.effort, self._everyday, pairs, sources, channels, self.progress
        )

    @functools.cached_property
    def _everyday(self) -> dict[str, Encoded]:
        return features.background(self.family, self.effort, self.benign, self.progress)

    @functools.cached_property
    def _source(self) -> Family:
        """The embedded model."""
        from safegen.families import family_of
        from safegen.models import loading

        return family_of(loading.load(device="cpu", offline=True))

    @functools.cached_property
    def _transport(self) -> Transport:
        if known := set(self.family.fingerprints().values()) & set(self._source.fingerprints().values()):
            raise UsageError(
                f"nothing is carried over from the embedded encoder ({known.pop()[:8]}) to itself",
                "Take another effort.",
            )
        return Transport(self.family, self._source, self.effort, self.progress)

    def _known(self, concept: Concept) -> Direction:
        """Find what is known of a concept in the embedded encoder, or learn it there briefly."""
        (fingerprint,) = self._source.fingerprints().values()
        known = concept.name in recipes.known(self.folder)
        found = store.find(concept.name, fingerprint, self.folder) if known else None
        if found is None or found.info["recipe_sha256"] != concept.sha256:
            (found,) = Learner(self._source, BRIEF, progress=self.progress).learn(concept).values()
        return found
