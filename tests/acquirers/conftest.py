"""pytest explains failed asserts only in files that it knows to hold tests."""

import pytest

pytest.register_assert_rewrite("tests.acquirers.contract")
