"""What programs see of a function under `lru_cache` beside its results: the same as with functools."""

from __future__ import annotations

import functools
import gc
from typing import Any

import pytest

from flexcache_rs import _core, lru_cache

WRAPPER: Any = vars(functools)["_lru_cache_wrapper"]

OWN = sorted(name for name in dir(_core.Memoized) if not name.startswith("__"))
"""What the base class of wrappers has. Functions may have attributes of the same names."""

NAMES = [*OWN, "_maxsize", "_typed", "__maxsize", "stats", "__version__"]


def made_by(decorator: Any, **attributes: Any) -> Any:
    def double(number: int) -> int:
        return 2 * number

    vars(double).update(attributes)
    return decorator(double)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("most", [128, 0])
def test_attributes_belong_to_the_function_and_the_user(most: int, name: str) -> None:
    seen = []
    for decorator in (lru_cache(most), functools.lru_cache(most)):
        cached = made_by(decorator, **{name: "of the function"})
        seen.append([getattr(cached, name)])
        setattr(cached, name, "of the user")
        seen[-1] += [getattr(cached, name), cached(1), cached(1), cached.cache_info()]
        cached.cache_clear()
        seen[-1].append(cached.cache_info())
        delattr(cached, name)
        seen[-1].append(hasattr(cached, name))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", OWN)
def test_nothing_else_is_there(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'_lru_cache_wrapper' object has no attribute '{name}'"):
        getattr(made_by(lru_cache), name)


def test_the_attributes_are_those_of_functools() -> None:
    ours, theirs = made_by(lru_cache(maxsize=3, typed=True)), made_by(functools.lru_cache(maxsize=3, typed=True))
    assert dir(ours) == dir(theirs)
    assert sorted(vars(ours)) == sorted(vars(theirs))
    assert type(ours).__name__ == type(theirs).__name__
    assert repr(ours).split(" at ")[0] == repr(theirs).split(" at ")[0]

    @functools.wraps(ours)
    def outer() -> None: ...

    assert vars(outer)["cache_parameters"]() == {"maxsize": 3, "typed": True}


def test_all_caches_of_a_process_are_found_by_their_type() -> None:
    """As fixtures of tests do that clear every cache between two tests."""
    cached = made_by(lru_cache)
    cached(1)
    found: list[Any] = [one for one in gc.get_objects() if isinstance(one, WRAPPER) and one is cached]
    assert len(found) == 1
    found[0].cache_clear()
    assert cached.cache_info().currsize == 0
    assert isinstance(cached, type(made_by(functools.lru_cache)))


def test_dispatch_on_the_type_of_functools() -> None:
    @functools.singledispatch
    def kind(_one: object) -> str:
        return "something else"

    kind.register(WRAPPER, lambda _one: "a cached function")
    assert kind(made_by(lru_cache)) == kind(made_by(functools.lru_cache)) == "a cached function"


def test_what_makes_instances() -> None:
    """importlib.metadata has such a class."""

    class Folder:
        @lru_cache  # type: ignore[misc]
        def __new__(cls, name: str) -> Any:
            return super().__new__(cls)

        def __init__(self, name: str) -> None:
            self.name = name

    assert Folder("a") is Folder("a") is not Folder("b")
    made: Any = Folder.__new__
    made.cache_clear()
    assert made.cache_info().currsize == 0
