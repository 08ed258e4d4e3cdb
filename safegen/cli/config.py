"""Settings from a file: they yield to flags and the environment, and replace safegen's own defaults."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safegen.errors import UsageError
from safegen.files import as_path, decode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "safegen.toml"
# Settings that the file may have; each is an option of some commands and an environment variable SAFEGEN_....
NAMES = ("model", "directions", "safeguard", "strength", "out", "record", "device", "dtype")


def read(folder: Path) -> dict[str, str | int | float]:
    """Read the settings of the folder's `FILE`; empty if there is no such file.

    Raises:
        UsageError: the file cannot be read, or has a setting that is not in `NAMES`.
    """
    path = as_path(folder) / FILE
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(decode(path.read_bytes()))
    except (OSError, ValueError) as error:  # no UTF-8 and no TOML are both a ValueError
        raise UsageError(f"{FILE} cannot be read: {error}", 'Lines such as: model = "sdxl"') from error
    for name, value in found.items():
        if name not in NAMES:
            raise UsageError(f"{FILE} sets {name!r}, which is no setting", f"Known: {', '.join(NAMES)}.")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UsageError(describe(name, value), "It must be one text or number.")
    return found


def defaults(command: Any, found: Mapping[str, str | int | float]) -> dict[str, Any]:
    """Give the settings as defaults for a command, or by name for a group's commands, as Click takes them.

    Only options that the environment may set are set: other commands may use the same name for something else.
    """
    if hasattr(command, "commands"):
        return {name: defaults(part, found) for name, part in command.commands.items()}
    open_ones = {param.name for param in command.params if getattr(param, "envvar", None)}
    return {name: value for name, value in found.items() if name in open_ones}


def describe(name: str, value: object) -> str:
    """Say that the file has this setting."""
    return f"{FILE} sets {name} to {value!r}"


def blame(message: str, found: Mapping[str, object]) -> list[str]:
    """Find the settings of the file and of the environment whose values an error quotes."""
    lines = [describe(name, value) for name, value in found.items() if _quotes(message, name, str(value))]
    around = {name: os.environ.get(f"SAFEGEN_{name.upper()}") for name in NAMES}
    lines += [
        f"SAFEGEN_{name.upper()} is {value!r}"
        for name, value in around.items()
        if value and _quotes(message, name, value)
    ]
    return lines


def _quotes(message: str, name: str, value: str) -> bool:
    """Tell whether an error quotes a value; a number occurs in many errors, so it counts only behind its name."""
    try:
        return f"{name} {float(value)}" in message
    except ValueError:
        return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", message) is not None
