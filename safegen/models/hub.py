"""Hugging Face's hub and its cache on this machine: find or fetch a model's folder, or say why there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safegen.errors import ModelError
from safegen.models.checkpoint import INDEX, MODULAR, is_modular

# Libraries whose errors mean that the hub did not answer, unless the hub's own errors say otherwise.
TRANSPORTS = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
TEXTS = ["*.json", "*.txt", "*.model"]  # patterns that match in all folders


@dataclass(frozen=True)
class Repository:
    """A model of the hub.

    Attributes:
        name: the user's name for it, perhaps an alias.
        id: owner and name.
        revision: a branch, tag or commit; None is the main branch.
        variant: the variant of the weight files.
        offline: never use the network.
    """

    name: str
    id: str
    revision: str | None = None
    variant: str | None = None
    offline: bool = False

    @property
    def alone(self) -> bool:
        """Whether the network must not be used, by the caller's choice or in the whole process."""
        return self.offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")

    def folder(self) -> Path:
        """Find or fetch the revision's folder in the cache, with its index and perhaps nothing else.

        Raises:
            ModelError: see `explained`.
        """
        from huggingface_hub import hf_hub_download

        try:
            found = hf_hub_download(self.id, INDEX, revision=self.revision, local_files_only=self.alone)
        except Exception as error:  # the hub raises a dozen kinds
            try:  # a modular pipeline has another index
                found = hf_hub_download(self.id, MODULAR, revision=self.revision, local_files_only=self.alone)
            except Exception:  # the first error says what is wrong
                raise self.explained(error) from error
        return Path(found).parent

    def configuration(self) -> Path:
        """Find the cache's folder with the model's text files, which are all but its weights; fetch them if allowed.

        Raises:
            ModelError: see `explained`; or the files are not here, and the hub does not answer or must not be asked.
        """
        from huggingface_hub import snapshot_download

        try:
            return Path(
                snapshot_download(self.id, revision=self.revision, allow_patterns=TEXTS, local_files_only=self.alone)
            )
        except Exception as error:  # likewise
            if not unreachable(error):
                raise self.explained(error) from error
            raise ModelError(
                f"the configuration that {self.name!r} is read by ({self.id}) is not in the local cache",
                f"Fetch it once with a network: {self._pull}.",
            ) from error

    def fetch(self, folder: Path) -> None:
        """Download what the folder lacks, and nothing pickled; without a network it stays as it is.

        Raises:
            ModelError: see `explained`.
        """
        if self.alone:
            return
        from diffusers import DiffusionPipeline
        from huggingface_hub import snapshot_download

        try:  # from the folder's commit, even if the branch has moved since
            if is_modular(folder):
                snapshot_download(self.id, revision=folder.name, allow_patterns=[*TEXTS, "*.safetensors"])
                return
            DiffusionPipeline.download(self.id, use_safetensors=True, revision=folder.name, variant=self.variant)
        except Exception as error:  # likewise
            if not unreachable(error):
                raise self.explained(error) from error

    def explained(self, error: Exception) -> ModelError:
        """Explain an error of the hub by its type; its text may hold anything."""
        from huggingface_hub import errors

        chain = list(_chain(error))
        if refused := self._refused(chain):
            return refused
        if unreachable(error):
            asked = f"{self._asked}{f', variant {self.variant}' if self.variant else ''}"
            return ModelError(
                f"the model {self.name!r} ({asked}) is not in the local cache",
                f"Fetch it once with a network: {self._pull}; or use the embedded model (leave out --model).",
            )
        if any(isinstance(link, errors.EntryNotFoundError) for link in chain):
            return ModelError(f"{self._asked} has no {INDEX}", "Take a model in diffusers' layout.")
        if ".bin" in str(error) and "safetensors" in str(error):
            return ModelError(f"the model {self.name!r} has pickled weights only", "It must have .safetensors files.")
        text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        return ModelError(
            f"cannot fetch the model {self.name!r}: {text[:300]}", "Check --revision and --variant, or try again."
        )

    def _refused(self, chain: Sequence[BaseException]) -> ModelError | None:
        """Explain why the hub refused, if it did."""
        from huggingface_hub import errors

        said = [link for link in chain if isinstance(link, errors.HfHubHTTPError)]
        if any(isinstance(link, errors.RevisionNotFoundError) for link in said):
            return ModelError(f"the hub has no {self._asked}", "Look at the model's branches and tags on the hub.")
        gated = any(isinstance(link, errors.GatedRepoError) for link in said)
        if any(isinstance(link, errors.RepositoryNotFoundError) for link in said) and not gated:
            return ModelError(
                f"the hub has no model {self.id}, or does not show it to you",
                "Check the name; a private model needs a login: hf auth login.",
            )
        if gated or any(link.response.status_code in (401, 403) for link in said):
            return ModelError(
                f"the hub does not hand out {self.id} to everyone",
                f"Accept its licence at https://huggingface.co/{self.id} and log in: hf auth login.",
            )
        return None

    @property
    def _asked(self) -> str:
        return f"{self.id}, revision {self.revision}" if self.revision else self.id

    @property
    def _pull(self) -> str:
        """The command that fetches it."""
        revision = f" --revision {self.revision}" if self.revision else ""
        variant = f" --variant {self.variant}" if self.variant else ""
        return f"safegen pull {self.name}{revision}{variant}"


def unreachable(error: BaseException) -> bool:
    """Tell whether the hub could not be reached, or must not be."""
    from huggingface_hub import errors

    chain = list(_chain(error))
    if any(isinstance(link, errors.HfHubHTTPError) for link in chain):
        return False
    lost = (errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)
    return any(isinstance(link, lost) or type(link).__module__.split(".")[0] in TRANSPORTS for link in chain)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error, then its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
