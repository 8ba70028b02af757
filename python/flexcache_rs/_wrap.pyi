from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flexcache_rs import _core
from flexcache_rs._memoize_options import Plan
from flexcache_rs._per_instance import PerInstance

def mark_as_coroutine_function(memo: Any) -> None:
    """Make `inspect` and asyncio take an object for a coroutine function."""

def wrap(
    function: Any,
    cache: _core.FlexCache[Any, Any],
    shared: bool,
    plan: Plan,
    typed: bool,
    key: Callable[..., Any] | None,
    ignore: Iterable[str],
    name: str | None,
    version: str | None,
    normalize: bool,
) -> Any:
    """Return the memoized function of a function, or of the one in a class method or static method."""

def wrap_per_instance(
    function: Callable[..., Any], options: Mapping[str, Any], plan: Plan, how: tuple[Any, ...]
) -> PerInstance:
    """Memoize a method whose instances each have a cache of their own with `options`. `how` is the rest of wrap()."""
