"""The tests of safegen; what several of them share is in `tests.helpers`."""

import pytest

pytest.register_assert_rewrite("tests.helpers")  # so that a failed check there shows its values, too
