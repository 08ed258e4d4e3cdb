"""Published sets of prompts, read from a file in the columns that their authors gave them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safegen.errors import PromptError

# Columns of CoPro, I2P, Ring-A-Bell, P4D, COCO and the like, in the order in which they are looked for.
PROMPT = ("unsafe_prompt", "sensitive prompt", "adv_prompt", "prompt", "caption", "text")
SAFE = ("safe_prompt",)
CATEGORY = ("category", "categories", "concept")
IDENTITY = ("pair_id", "id", "case_number", "image_id")


@dataclass(frozen=True)
class Entry:
    """One row of a set: a prompt, and what the set says of it."""

    id: str
    prompt: str
    category: str = ""
    safe: str = ""  # the harmless counterpart, where the set has pairs

    @property
    def is_validation(self) -> bool:
        return is_validation(self.id)


def is_validation(key: str) -> bool:
    """Three tenths of any set, by hash, are kept out of everything that is learned."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10 < 3


def read(path: Path) -> list[Entry]:
    """The entries of a CSV or JSONL file; a repeated prompt counts once.

    Where the set has no column of identities, the prompt itself is the identity.

    Raises:
        PromptError: the file cannot be read, has no column of prompts, or two rows share an identity.
    """
    entries: dict[str, Entry] = {}
    prompts = set()
    for number, row in _rows(path):
        prompt = " ".join(_pick(row, PROMPT).strip().strip('"').split())
        if not prompt or prompt in prompts:
            continue
        prompts.add(prompt)
        identity = _pick(row, IDENTITY) or prompt
        if identity in entries:
            raise PromptError(
                f"{path.name}, row {number}: a second row has the id {identity[:40]!r}", "Make it unique."
            )
        entries[identity] = Entry(identity, prompt, _pick(row, CATEGORY), " ".join(_pick(row, SAFE).split()))
    if not entries:
        raise PromptError(f"{path.name} holds no prompts", "Give a CSV or JSONL file with a column of prompts.")
    return list(entries.values())


def training_prompts(path: Path) -> list[str]:
    """The prompts of a file of benign text that may be learned from: seven in ten.

    Raises:
        PromptError: as `read`; or it is a set of pairs, whose prompts are the unsafe ones.
    """
    entries = read(path)
    if any(entry.safe for entry in entries):
        raise PromptError(f"{path.name} is a set of pairs, not of benign prompts", "Give it as --pairs.")
    return [entry.prompt for entry in entries if not entry.is_validation]


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, _checked(json.loads(line), path)
            else:
                reader = csv.DictReader(file)
                _checked(dict.fromkeys(reader.fieldnames or ()), path)
                yield from enumerate(reader, 2)
    except OSError as error:
        raise PromptError(f"cannot read {path.name}: {error.strerror}", "Check the path.") from error
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise PromptError(f"{path.name} is neither CSV nor JSONL: {error}", "Give a UTF-8 file of prompts.") from error


def _checked(row: object, path: Path) -> Mapping[str, object]:
    if not isinstance(row, dict) or not any(column in row for column in PROMPT):
        found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise PromptError(
            f"{path.name} has no column of prompts (found: {found[:200] or 'nothing'})",
            f"Name it one of: {', '.join(PROMPT)}.",
        )
    return row


def _pick(row: Mapping[str, object], columns: tuple[str, ...]) -> str:
    return next((str(row[c]) for c in columns if row.get(c) not in (None, "")), "")
