"""The package's face: exports, a fast help, nothing heavy on the way to it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import safegen


def test_every_export_exists() -> None:
    assert sorted(safegen.__all__) == safegen.__all__
    for name in safegen.__all__:
        assert getattr(safegen, name) is not None
    with pytest.raises(AttributeError):
        safegen.nothing  # noqa: B018


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["generate", "--help"],
        ["serve", "--help"],
        ["attack", "--help"],
        ["--version"],
        ["directions", "list"],
    ],
)
def test_help_comes_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom safegen.cli import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_help_names_every_exit_code(run) -> None:
    help_text = " ".join(run("--help").stdout.split())
    assert all(word in help_text for word in ("0 done", "1 failed", "2 usage", "3 flagged", "4 some", "130"))
