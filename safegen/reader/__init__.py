"""The first sense of the guard: a small model that reads prompts, whatever model draws them."""

from safegen.reader.reader import Reader
from safegen.reader.reading import Reading, Span

__all__ = ["Reader", "Reading", "Span"]
