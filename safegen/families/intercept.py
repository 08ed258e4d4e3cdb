"""A pipeline's own methods, watched and replaced for a while."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any


class Branch:
    """The branch of a call to `encode_prompt`, where a pipeline calls it once for each: positive or negative.

    Every run of the pipeline begins with `check_inputs`, which gets the negative prompt. The run's second call is the
    negative one if it has that prompt, or none, or an empty one; or any, if `check_inputs` is not told of it. Every
    other call counts as positive.
    """

    def __init__(self) -> None:
        self._calls = 2
        self._negative: Any = None
        self._told = True

    def watching(self, check_inputs: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `check_inputs` so that the negative prompt is noted."""
        signature = inspect.signature(check_inputs)
        self._told = "negative_prompt" in signature.parameters

        def watched(*args: Any, **named: Any) -> Any:
            self._calls, self._negative = 0, signature.bind(*args, **named).arguments.get("negative_prompt")
            return check_inputs(*args, **named)

        return watched

    def is_negative(self, prompt: Any) -> bool:
        """Tell whether the call for `prompt`, which may be None or empty, is for the negative branch."""
        self._calls += 1
        if self._calls != 2:
            return False
        return prompt is None or not any(prompt) or not self._told or _listed(prompt) == _listed(self._negative, prompt)


def _listed(prompt: Any, others: Any = "") -> Any:
    """Give prompts as a list; a single one stands for as many as there are `others`."""
    return [prompt] * (1 if isinstance(others, str) else len(others)) if isinstance(prompt, str) else prompt


@contextlib.contextmanager
def replace_method(pipe: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a method, and put the former one back afterwards; **changes `pipe` while the context lasts**."""
    before = vars(pipe).get(name)
    setattr(pipe, name, function)
    try:
        yield
    finally:
        delattr(pipe, name)
        if before is not None:
            setattr(pipe, name, before)


def is_replaced(pipe: Any, name: str) -> bool:
    """Tell whether a function of a family stands in the place of a pipeline's method."""
    return str(getattr(vars(pipe).get(name), "__module__", "")).startswith(f"{__package__}.")


def without_safety_checker(pipe: Any) -> contextlib.AbstractContextManager[None]:
    """Keep a safety checker from blackening pictures; **changes `pipe` while the context lasts**."""
    if getattr(pipe, "safety_checker", None) is None:
        return contextlib.nullcontext()
    return replace_method(pipe, "run_safety_checker", lambda image, *_: (image, None))
