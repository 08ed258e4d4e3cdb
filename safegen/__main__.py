"""``python -m safegen``: the same as ``safegen``."""

from __future__ import annotations

from safegen.cli import main

if __name__ == "__main__":
    main()
