"""The examples in the docstrings of the drop-in modules."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING

import pytest

from flexcache_rs import async_lru, cachetools
from flexcache_rs.cachetools import caches, timed

if TYPE_CHECKING:
    from types import ModuleType


@pytest.mark.parametrize("module", [async_lru, cachetools, caches, timed], ids=lambda module: module.__name__)
def test_examples(module: ModuleType) -> None:
    results = doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted
    assert not results.failed
