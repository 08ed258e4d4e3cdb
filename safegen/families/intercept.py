"""A pipeline's own calls, listened to and replaced for a while."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any


class Branch:
    """Tells the negative from the positive call of `encode_prompt`, where a pipeline makes one for each.

    The pipeline announces every run to `check_inputs`; in a run, the second call is the negative one, if
    it asks for the prompt that was announced as such. Everything else is taken as positive.
    """

    def __init__(self) -> None:
        self._calls = 2
        self._negative: Any = None

    def watching(self, check_inputs: Callable[..., Any]) -> Callable[..., Any]:
        """`check_inputs` with a note of what was announced."""
        signature = inspect.signature(check_inputs)

        def watched(*args: Any, **named: Any) -> Any:
            self._calls, self._negative = 0, signature.bind(*args, **named).arguments.get("negative_prompt")
            return check_inputs(*args, **named)

        return watched

    def is_negative(self, prompt: Any) -> bool:
        """Whether the call for `prompt` is for the negative branch; it may be none, or empty."""
        self._calls += 1
        return self._calls == 2 and (prompt is None or not any(prompt) or prompt == self._negative)


@contextlib.contextmanager
def replaced(pipe: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """**Changes `pipe`**: a method of it replaced, and put back as it was, be it another replacement."""
    before = vars(pipe).get(name)
    setattr(pipe, name, function)
    try:
        yield
    finally:
        delattr(pipe, name)
        if before is not None:
            setattr(pipe, name, before)


def without_safety_checker(pipe: Any) -> contextlib.AbstractContextManager[None]:
    """**Changes `pipe` while the context lasts**: its safety checker, if it has one, blackens no picture."""
    if getattr(pipe, "safety_checker", None) is None:
        return contextlib.nullcontext()
    return replaced(pipe, "run_safety_checker", lambda image, *_: (image, None))
