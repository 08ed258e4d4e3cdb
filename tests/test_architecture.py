"""The house: few loose modules, floors that imports go down, no circle, one refusal; tests know none of each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import safegen

PACKAGE = Path(safegen.__file__).parent
TESTS = Path(__file__).parent
# From the ground up; what stands on one line knows nothing of each other.
FLOORS = (
    ("errors", "progress", "pages", "conditioning"),
    ("files",),
    ("pictures",),
    ("directions",),
    ("reader",),
    ("prompts",),
    ("families",),
    ("models", "scoring"),
    ("safeguards", "records"),
    ("learning",),
    ("guard",),
    ("generator", "builtin"),
    ("image_check",),
    ("batch", "serve"),
    ("attacks",),
    ("bench",),
    ("training",),
    ("cli",),
    ("safegen",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("safegen", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports: anywhere in it, for types alone as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "safegen":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "safegen")


def room(module: str) -> str:
    """The top-level place of a module; the programs that train are on top of all that they train."""
    parts = module.split(".")
    if parts[1:3] == ["builtin", "training"]:
        return "training"
    return "cli" if parts[1:] == ["__main__"] else parts[1] if len(parts) > 1 else "safegen"


GRAPH = {module: sorted({name for name in imports(path) if name != module}) for module, path in MODULES.items()}


def test_every_place_has_its_floor() -> None:
    assert {room(module) for module in MODULES} == set(LEVEL)


@pytest.mark.parametrize("name", sorted(LEVEL))
def test_imports_go_down(name: str) -> None:
    up = [
        f"{module} -> {target}"
        for module, targets in GRAPH.items()
        for target in targets
        if room(module) == name and room(target) != name and LEVEL[room(target)] >= LEVEL[name]
    ]
    assert not up


def test_no_import_goes_round() -> None:
    """Not within a room, either, and not for types alone."""
    seen: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in seen:
            return
        seen.add(module)
        path.append(module)
        for target in GRAPH[module]:
            visit(target)
        path.pop()

    for module in GRAPH:
        visit(module)


def test_few_modules_are_loose() -> None:
    loose = [path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
    assert len(loose) <= 10


def test_the_one_refusal_is_enforced_in_two_places() -> None:
    """By words where a prompt is admitted, by scores in the guard: every door goes through both."""
    callers = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("refusal.check")
    }
    assert callers == {"safegen.prompts.prompt", "safegen.guard.bound"}


def test_prompts_are_prepared_in_one_place() -> None:
    """Only the guard's room repairs what is drawn; attacks and the bench measure the guard itself, too."""
    callers = {
        room(module)
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".sanitize")
    }
    assert callers <= {"guard", "attacks", "bench"}


def test_tests_share_what_is_in_helpers_and_nothing_else() -> None:
    """A test module imports from no other and not from conftest, nor do the helpers."""
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
            else:
                continue
            ours = [name for name in names if name.split(".")[0] in ("tests", "")]  # relative ones begin with a dot
            found += [f"{path.relative_to(TESTS)} -> {n}" for n in ours if re.search(r"\.(test_|conftest)", n)]
    assert not found
