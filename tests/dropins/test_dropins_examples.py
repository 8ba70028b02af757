"""The examples in the docstrings of the drop-in modules."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING

import pytest

from flexcache_rs import async_lru, cachetools, diskcache_rs, sciqlop
from flexcache_rs.cachetools import caches, timed
from flexcache_rs.diskcache_rs import cache as caches_on_disk
from flexcache_rs.diskcache_rs import fanout, fast_cache, pickle_cache
from flexcache_rs.sciqlop import indexes, serializers, stores

if TYPE_CHECKING:
    from types import ModuleType


MODULES = [
    *(async_lru, cachetools, caches, timed),
    *(sciqlop, indexes, serializers, stores),
    *(diskcache_rs, caches_on_disk, fanout, fast_cache, pickle_cache),
]


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples(module: ModuleType) -> None:
    results = doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted
    assert not results.failed
