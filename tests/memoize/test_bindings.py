"""Every attribute of a memoized function, on every way in which it can be bound: all of them mean what a call means."""

from __future__ import annotations

import abc
import asyncio
import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, memoize

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.every_python


class Own(classmethod):  # type: ignore[type-arg]
    """A class method of the user's own."""


def make(kind: str, is_awaited: bool, cached: Any) -> tuple[type, type, list[Any]]:
    """A class with a memoized `f` of some kind, a class derived from it, and the list of calls of the function."""
    calls: list[Any] = []

    def note(*call: Any) -> tuple[Any, ...]:
        calls.append(call)
        return (*call, len(calls))

    class Base:
        if is_awaited:

            async def with_first(first, number, more=0):  # type: ignore[no-untyped-def,misc]  # noqa: N805
                return note(first, number, more)

            async def without(number, more=0):  # type: ignore[no-untyped-def,misc]  # noqa: N805
                return note(number, more)
        else:

            def with_first(first, number, more=0):  # type: ignore[no-untyped-def,misc]  # noqa: N805
                return note(first, number, more)

            def without(number, more=0):  # type: ignore[no-untyped-def,misc]  # noqa: N805
                return note(number, more)

        f: Any = {
            "method": lambda function, _: cached(function),
            "memoized over class method": lambda function, _: cached(classmethod(function)),
            "class method over memoized": lambda function, _: classmethod(cached(function)),
            "memoized over a class method of one's own": lambda function, _: cached(Own(function)),
            "memoized over abstract": lambda function, _: cached(abc.abstractclassmethod(function)),
            "memoized over static": lambda _, function: cached(staticmethod(function)),
            "static over memoized": lambda _, function: staticmethod(cached(function)),
            "function in a class": lambda _, function: cached(function),
        }[kind](with_first, without)
        partial = functools.partialmethod(f, 7) if kind == "method" else None

    class Derived(Base):
        pass

    return Base, Derived, calls


def bindings(kind: str, base: type, derived: type) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """Ways to get at `f`: what each is called, the bound function, the arguments that a caller has to add itself."""
    one, two = base(), derived()
    every: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("on the class", base.f, ()),  # type: ignore[attr-defined]
        ("on the derived class", derived.f, ()),  # type: ignore[attr-defined]
        ("on an instance", one.f, ()),
        ("on an instance of the derived class", two.f, ()),
        ("by super()", super(derived, two).f, ()),  # type: ignore[misc]
    ]
    if kind == "method":
        every[0] = ("on the class", base.f, (one,))  # type: ignore[attr-defined]
        every[1] = ("on the derived class", derived.f, (two,))  # type: ignore[attr-defined]
        every.append(("of another instance", base().f, ()))
    if kind == "function in a class":
        return every[:2]
    return every


KINDS = [
    "method",
    "memoized over class method",
    "class method over memoized",
    "memoized over a class method of one's own",
    "memoized over abstract",
    "memoized over static",
    "static over memoized",
    "function in a class",
]
ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((2,), {"more": 3}),
    ((), {"number": 4}),
    ((int, 5), {}),
]
DECORATORS: dict[str, Callable[[], Any]] = {
    "alone": lambda: memoize,
    "with options": lambda: memoize(ttl=60, stale_if_error=5),
    "in a shared cache": lambda: FlexCache[Any, Any]().memoize,
    "with a key": lambda: memoize(key=lambda *args, **kwargs: (*map(repr, args), *kwargs.items())),
}


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("is_awaited", [False, True], ids=["called", "awaited"])
@pytest.mark.parametrize("kind", KINDS)
def test_attributes_reach_the_entry_of_the_call(kind: str, is_awaited: bool, decorator: str) -> None:
    """Or they say that they cannot."""
    base, derived, calls = make(kind, is_awaited, DECORATORS[decorator]())

    def result(of: Any) -> Any:
        return asyncio.run(of) if inspect.isawaitable(of) else of

    for name, bound, before in bindings(kind, base, derived):
        for args, kwargs in ARGUMENTS:
            args = (*before, *args)
            first = result(bound(*args, **kwargs))
            count = len(calls)
            assert result(bound(*args, **kwargs)) == first, name
            assert len(calls) == count, name
            if kind == "class method over memoized" and sys.version_info >= (3, 13):
                for attribute in ("cache_key", "peek", "invalidate", "refresh"):
                    with pytest.raises(TypeError, match="@memoize over @classmethod"):
                        result(getattr(bound, attribute)(*args, **kwargs))
                assert len(calls) == count
                continue
            assert bound.peek(*args, **kwargs) == first, name
            key = bound.cache_key(*args, **kwargs)
            assert key in bound.cache, name
            assert result(bound.refresh(*args, **kwargs)) == (*first[:-1], count + 1), name
            assert bound.peek(*args, **kwargs) == result(bound(*args, **kwargs)) == (*first[:-1], count + 1), name
            assert bound.invalidate(*args, **kwargs) is True, name
            assert bound.peek(*args, **kwargs) is None, name
            assert bound.invalidate(*args, **kwargs) is False, name
            assert key not in bound.cache, name
            assert result(bound(*args, **kwargs)) == (*first[:-1], count + 2), name
        assert bound.stats().hits, name
        bound.clear()
        assert result(bound(*args, **kwargs))[-1] == len(calls)
        assert bound.__name__ in {"with_first", "without"}


def test_a_memoized_method_that_overrides_another() -> None:
    """Each has its own results, also where one calls the other."""

    class Base:
        @memoize
        def f(self, number: int) -> tuple[str, int]:
            return "base", number

        @memoize
        @classmethod
        def g(cls, number: int) -> tuple[str, int]:
            return "base", number

    class Derived(Base):
        @memoize
        def f(self, number: int) -> tuple[str, int]:
            return "derived", super().f(number)[1]

        @memoize
        @classmethod
        def g(cls, number: int) -> tuple[str, int]:
            return "derived", super().g(number)[1]

    thing = Derived()
    for of, above in ((thing.f, super(Derived, thing).f), (Derived.g, super(Derived, Derived).g)):
        assert of(1) == ("derived", 1)
        assert (of.peek(1), above.peek(1)) == (("derived", 1), ("base", 1))
        assert of.invalidate(1) is True
        assert (of.peek(1), above.peek(1)) == (None, ("base", 1))
        assert above.refresh(1) == ("base", 1)
        assert above.invalidate(1) is True
        assert of(1) == ("derived", 1)


@pytest.mark.parametrize("is_awaited", [False, True], ids=["called", "awaited"])
def test_partial_methods_have_none_of_the_attributes(is_awaited: bool) -> None:
    """They are no memoized functions, and do not look like one."""
    base, _, calls = make("method", is_awaited, memoize)
    thing: Any = base()
    for _ in range(2):
        of = thing.partial()
        assert (asyncio.run(of) if is_awaited else of)[1:] == (7, 0, 1)
    assert len(calls) == 1
    for attribute in ("cache_key", "peek", "invalidate", "refresh"):
        with pytest.raises(AttributeError):
            getattr(thing.partial, attribute)
    assert thing.f.peek(7) is not None


class Importable:
    """Its class method is found by name."""

    @classmethod
    @memoize
    def below(cls, number: int = 1) -> tuple[type, int]:
        return cls, number

    @memoize
    @classmethod
    def above(cls, number: int = 1) -> tuple[type, int]:
        return cls, number

    @memoize
    def method(self) -> int:
        return 1


@pytest.mark.skipif(sys.version_info < (3, 13), reason="class methods pass their class to attributes")
def test_what_a_class_method_keeps_to_itself_is_asked_for() -> None:
    """Also before any call, and with classes as arguments; the rest of the function's attributes works."""
    for attribute in ("cache_key", "peek", "invalidate", "refresh"):
        for args in [(), (1,), (Importable,), (Importable, 1)]:
            with pytest.raises(TypeError, match=rf"Importable\.below\.{attribute}\(\)"):
                getattr(Importable.below, attribute)(*args)
    assert Importable.below(5) == (Importable, 5)
    assert Importable.below.stats().misses == 1
    Importable.below.clear()
    assert len(Importable.below.cache) == 0
    assert Importable.method.peek(Importable()) is None


def test_class_methods_stay_class_methods() -> None:
    """For whoever looks at the class, and for pickles of what is bound."""
    raw = Importable.__dict__["above"]
    assert isinstance(raw, classmethod)
    assert repr(raw).startswith("<classmethod(")
    assert inspect.signature(Importable.above) == inspect.signature(Importable().above)
    assert [one.kind for one in inspect.classify_class_attrs(Importable) if one.name == "above"] == ["class method"]
    assert Importable.above == Importable().above
    assert Importable.above.__self__ is Importable
    assert raw.__get__(Importable())(3) == raw.__get__(None, Importable)(3) == (Importable, 3)

    class Abstract(abc.ABC):
        @memoize
        @abc.abstractclassmethod
        def made(cls) -> int:
            return 1

    with pytest.raises(TypeError):
        Abstract()  # type: ignore[abstract]
