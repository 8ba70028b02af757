"""The interpreter's own tests of functools.lru_cache, run on ours."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from scale import may_skip

import flexcache_rs

if TYPE_CHECKING:
    import unittest


def own_tests() -> type[unittest.TestCase]:
    """The interpreter's tests of its version in C, from a module that was given ours instead."""
    if may_skip("functools-tests", find_spec("test") and find_spec("test.test_functools")):
        pytest.skip("this Python comes without its tests", allow_module_level=True)
    helper: Any = importlib.import_module("test.support.import_helper")
    import_fresh_module = helper.import_fresh_module

    def import_with_ours(name: str, *args: Any, **kwargs: Any) -> Any:
        module = import_fresh_module(name, *args, **kwargs)
        if name == "functools" and "_functools" not in kwargs.get("blocked", ()):
            module.lru_cache, module.cache = flexcache_rs.lru_cache, flexcache_rs.cache
        return module

    with mock.patch.object(helper, "import_fresh_module", import_with_ours):
        sys.modules.pop("test.test_functools", None)
        module: Any = importlib.import_module("test.test_functools")
    assert type(module.c_cached_func) is not type(module.py_cached_func)
    assert module.TestLRUC.module.lru_cache is flexcache_rs.lru_cache
    case: type[unittest.TestCase] = module.TestLRUC
    return case


# Collected under the interpreter's own name for them.
TestLRUC = own_tests()
