"""Keys for calls of functions, and the decorator that stores the results."""

from __future__ import annotations

import functools

from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.aio import in_thread
from flexcache_rs.disk.constants import ENOVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

    from flexcache_rs._first_parameter import (
        Anything,
        ClassMethod,
        Method,
        OfAnyResult,
        OfUnknownResult,
        Takes,
        TakesClass,
        TakesSelf,
    )

    P = ParamSpec("P")
    Q = ParamSpec("Q")
    R = TypeVar("R")
    R_co = TypeVar("R_co", covariant=True)
    T = TypeVar("T")
    F_co = TypeVar("F_co", bound=Callable[..., Any], covariant=True)

    # mypy finds that a result of Never has another overload than other results.
    class Memoized(Protocol[P, R_co]):  # type: ignore[misc]
        """A function whose results are stored."""

        @property
        def __wrapped__(self) -> Callable[P, R_co]:
            """The function."""
            ...

        __cache_key__: Callable[..., Any]
        __name__: str
        __qualname__: str

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
            """Return the stored result, or call the function and store its result."""
            ...

        # A class method, and a method, whose result is Any or is not known: see `OfAnyResult`.
        @overload
        def __get__(
            self: TakesClass[Q, R], instance: object, owner: type[OfAnyResult[R]], /
        ) -> MemoizedOfClass[Concatenate[type[Any], Q], R]: ...

        @overload
        def __get__(self: TakesClass[Q, Anything], instance: object, owner: type[T], /) -> MemoizedUnknown[Q, T]: ...

        @overload
        def __get__(
            self: TakesClass[Q, R], instance: object, owner: type[OfUnknownResult[R]], /
        ) -> MemoizedUnknown[Q, Any]: ...

        @overload
        def __get__(self, instance: None, owner: Any = None, /) -> MemoizedOfClass[P, R_co]: ...

        @overload
        def __get__(self: TakesSelf[Q, R], instance: object, owner: type[OfAnyResult[R]], /) -> Memoized[Q, R]: ...

        @overload
        def __get__(self: TakesSelf[Q, Anything], instance: object, owner: type[T], /) -> MemoizedUnknown[Q, T]: ...

        @overload
        def __get__(
            self: TakesSelf[Q, R], instance: object, owner: type[OfUnknownResult[R]], /
        ) -> MemoizedUnknown[Q, Any]: ...

        @overload
        def __get__(self: TakesSelf[Q, R], instance: object, owner: Any = None, /) -> Memoized[Q, R]: ...

        @overload
        def __get__(
            self: TakesClass[Q, R], instance: object, owner: Any = None, /
        ) -> MemoizedOfClass[Concatenate[type[Any], Q], R]: ...

        # A static method.
        @overload
        def __get__(self: Takes[Anything, Q, R], instance: object, owner: Any = None, /) -> Memoized[P, R_co]: ...

        # A method whose first parameter has another name, or a static method.
        @overload
        def __get__(self: Takes[T, Q, R], instance: T, owner: Any = None, /) -> Memoized[Q, R]: ...

        @overload
        def __get__(
            self: Takes[type[T], Q, R], instance: T, owner: Any = None, /
        ) -> MemoizedOfClass[Concatenate[type[Any], Q], R]: ...

        @overload
        def __get__(self, instance: object, owner: Any = None, /) -> Memoized[P, R_co]: ...

    class MemoizedUnknown(Generic[P, R_co]):
        """A function that returns the instance, if these are its arguments, and otherwise a generic one."""

        __wrapped__: Callable[..., Any]
        __cache_key__: Callable[..., Any]
        __name__: str
        __qualname__: str

        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

        @overload
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """The stored result, or that of the method."""

    class MemoizedOfClass(Memoized[P, R_co], Protocol[P, R_co]):  # type: ignore[misc]
        """What a class has under the name. A class method gets the class, and the others all of their arguments."""

        @overload
        def __call__(self: MemoizedOfClass[Concatenate[type[Any], Q], R], *args: Q.args, **kwargs: Q.kwargs) -> R: ...

        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    class MethodOfClass(Protocol[F_co]):
        """What a class has under the name of a method, as pyright compares it with that of a subclass."""

        __wrapped__: Callable[..., Any]
        __cache_key__: Callable[..., Any]
        __name__: str
        __qualname__: str

        def __call__(self: MethodOfClass[Callable[P, R]], instance: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
            """The stored result, or that of the method."""
            ...

        @overload
        def __get__(self, instance: None, owner: Any = None, /) -> MethodOfClass[F_co]: ...

        @overload
        def __get__(self: MethodOfClass[Callable[P, R]], instance: object, owner: Any = None, /) -> Memoized[P, R]: ...

    class MemoizedMethod(MethodOfClass[F_co], Protocol[F_co]):
        """A method. pyright compares it with a protocol as it is, `self` included, so no parameters are checked."""

        def __call__(self: MemoizedMethod[Callable[..., R]], *args: Any, **kwargs: Any) -> R:
            """The stored result, or that of the method."""
            ...

    class MemoizedClassMethod(Protocol[F_co]):
        """A class method, as pyright compares it with that of a subclass."""

        __wrapped__: Callable[..., Any]
        __cache_key__: Callable[..., Any]
        __name__: str
        __qualname__: str

        # Without `/`: it may also be a function, to which `cls` is passed by name.
        def __call__(self: MemoizedClassMethod[Callable[P, R]], cls: Any, *args: P.args, **kwargs: P.kwargs) -> R:
            """The stored result, or that of the method."""
            ...

        @overload
        def __get__(
            self: MemoizedClassMethod[Callable[P, R]], instance: None, owner: Any = None, /
        ) -> MemoizedOfClass[Concatenate[type[Any], P], R]: ...

        @overload
        def __get__(
            self: MemoizedClassMethod[Callable[P, R]], instance: object, owner: Any = None, /
        ) -> Memoized[P, R]: ...

    class Memoizing(Protocol):
        """A decorator that stores the results of a function."""

        @overload
        def __call__(self, function: Method[T, P, R], /) -> MemoizedMethod[Callable[P, R]]: ...  # pyright: ignore[reportOverlappingOverload]

        @overload
        def __call__(self, function: ClassMethod[T, P, R], /) -> MemoizedClassMethod[Callable[P, R]]: ...  # pyright: ignore[reportOverlappingOverload]

        @overload
        def __call__(self, function: Callable[P, R], /) -> Memoized[P, R]: ...


@suggesting
def full_name(function: Callable[..., Any]) -> str:
    """Module and qualified name."""
    return f"{function.__module__}.{function.__qualname__}"


def args_to_key(
    base: tuple[Any, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    typed: bool,
    ignore: Collection[int | str],
) -> tuple[Any, ...]:
    """Return the key of a call: positional arguments, None, keywords sorted by name, and with `typed` the types.

    A call has different keys when an argument is passed by position and by keyword.

    >>> args_to_key(("module.f",), (1, 2), {"z": 3, "y": "q"}, typed=False, ignore=())
    ('module.f', 1, 2, None, 'y', 'q', 'z', 3)
    """
    # Skip the work that most calls do not need: most have no keywords, and most functions ignore nothing.
    kept = tuple(value for place, value in enumerate(args) if place not in ignore) if ignore else args
    named = [(name, kwargs[name]) for name in sorted(kwargs) if name not in ignore] if kwargs else ()
    key = (*base, *kept, None)
    for pair in named:
        key += pair
    if typed:
        key += (*map(type, kept), *(type(value) for _, value in named))
    return key


def named(name: str | None, function: Callable[..., Any]) -> str:
    """Return the name under which a function's results are stored."""
    return full_name(function) if name is None else name


def refuse_callable(name: object) -> None:
    """Raise TypeError if the decorator was written without parentheses."""
    if callable(name):
        # python-diskcache's message, which its tutorial shows.
        raise TypeError("name cannot be callable")


def _keys_of(
    function: Callable[..., Any],
    base: tuple[Any, ...],
    typed: bool,
    ignore: Collection[int | str],
    key_of_call: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any] | None,
) -> Callable[..., Any]:
    """Return the function that makes the keys of calls."""
    is_plain = key_of_call is None and not typed and not ignore

    def cache_key(*args: Any, **kwargs: Any) -> Any:
        # The key of most calls, which takes half the time in this form.
        if is_plain and not kwargs:
            return (*base, *args, None)
        if key_of_call is not None:
            return key_of_call(function, args, kwargs)
        return args_to_key(base, args, kwargs, typed, ignore)

    return cache_key


def memoizing(
    name: str | None,
    typed: bool,
    ignore: Collection[int | str],
    get: Callable[[Any], Any],
    set: Callable[[Any, Any], object] | None,  # noqa: A002
    key_of_call: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any] | None = None,
) -> Memoizing:
    """Return a decorator that looks up results with `get` (ENOVAL is a miss) and stores them with `set`.

    `key_of_call` makes the keys instead of `args_to_key`.
    """
    refuse_callable(name)

    def decorate(function: Callable[P, R_co]) -> Any:
        base = (named(name, function),)

        @functools.wraps(function)
        def of_function(*args: P.args, **kwargs: P.kwargs) -> R_co:
            key = wrapper.__cache_key__(*args, **kwargs)
            result = get(key)
            if result is ENOVAL:
                result = function(*args, **kwargs)
                if set is not None:
                    set(key, result)
            return result  # type: ignore[no-any-return]

        @functools.wraps(function)
        async def of_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            key = wrapper.__cache_key__(*args, **kwargs)
            result: Any = await in_thread(get, key)
            if result is ENOVAL:
                result = await function(*args, **kwargs)  # type: ignore[misc]
                if set is not None:
                    await in_thread(set, key, result)
            return result  # pyright: ignore[reportUnknownVariableType]

        # Imported here, because the import is slow and most programs decorate nothing.
        import inspect

        wrapper: Any = of_coroutine if inspect.iscoroutinefunction(function) else of_function
        wrapper.__cache_key__ = _keys_of(function, base, typed, ignore, key_of_call)
        return wrapper

    return decorate  # type: ignore[return-value]
