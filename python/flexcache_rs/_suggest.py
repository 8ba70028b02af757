"""`suggesting`: the error for an unknown argument suggests the argument that was meant."""

from __future__ import annotations

import sys

from flexcache_rs import _core
from flexcache_rs._call_shapes import SHAPES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType
    from typing import Any, NoReturn, TypeAlias, TypeVar

    _T = TypeVar("_T")

    Shape: TypeAlias = tuple[int, int, int, tuple[bool, ...], bool, bool]
    """How many parameters are positional only, how many are positional, and how many of those are required; which
    keyword-only ones are required; whether there are more positional ones, and whether the function is awaited."""

_VAR_POSITIONAL, _VAR_KEYWORD, _COROUTINE = 0x04, 0x08, 0x80
_FUNCTION: Any = type(lambda: None)
_MISSING: Any = object()
_UNKNOWN = "<unknown>"
"""The local variable that holds unknown keyword arguments. No parameter can have this name."""
compiled: dict[Any, Callable[..., Any]] = {}
"""Templates that `_template` compiled, because `SHAPES` lacks them. Compiling one is as slow as importing a module."""


def suggesting(decorated: _T) -> _T:
    """Make a function, or all public functions of a class, suggest the argument that was meant.

    The function is called by another one with its parameters, which also takes any other keyword. That costs one more
    call in Python. Functions that take any keyword refuse those that they do not know themselves. A coroutine function
    refuses them where it is awaited.

    >>> @suggesting
    ... def store(value, ttl=None):
    ...     return value
    >>> store(1, expire=60)
    Traceback (most recent call last):
    TypeError: store() got an unexpected keyword argument 'expire'; did you mean ttl=?
    """
    if isinstance(decorated, type):
        for name, value in list(vars(decorated).items()):
            if name == "__init__" or not name.startswith("_"):
                changed = _attribute(value, name)
                if changed is not value:
                    setattr(decorated, name, changed)
        return decorated
    return _attribute(decorated, getattr(decorated, "__name__", ""))  # type: ignore[no-any-return]


def called_by_position(function: _T) -> _T:
    """Leave a function as it is where `suggesting` changes its class: the call that suggests would cost too much.

    For reads whose arguments are a key and a default. The interpreter itself refuses other names.
    """
    function.__suggests__ = False  # type: ignore[attr-defined]
    return function


def _attribute(value: Any, name: str) -> Any:
    """A function, or a method of whatever kind, that suggests; anything else as it is.

    A function may have several names in a class. Its caller is told of the one that was called.
    """
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if issubclass(kind, classmethod | staticmethod):
        changed = _attribute(value.__func__, name)
        return value if changed is value.__func__ else kind(changed)  # pyright: ignore[reportUnknownVariableType]
    return _suggesting(value, name) if kind is _FUNCTION else value


def _suggesting(function: FunctionType, name: str) -> FunctionType:
    code = function.__code__
    count, keyword_only = code.co_argcount, code.co_kwonlyargcount
    all_names = code.co_varnames[: count + keyword_only]
    shown = [one for one in all_names[code.co_posonlyargcount :] if one not in ("self", "cls")]
    if code.co_flags & (_VAR_KEYWORD) or not shown or hasattr(function, "__suggests__"):
        return function
    required = count - len(function.__defaults__ or ())
    needed = [one not in (function.__kwdefaults__ or {}) for one in all_names[count:]]
    shape = (
        code.co_posonlyargcount,
        count,
        required,
        tuple(needed),
        bool(code.co_flags & _VAR_POSITIONAL),
        bool(code.co_flags & _COROUTINE),
    )
    template = _template(shape)

    def refuse(given: tuple[Any, ...], beyond: tuple[Any, ...], unknown: dict[str, Any]) -> NoReturn:
        if unknown:
            label = type(given[0]).__name__ if name == "__init__" else name
            raise TypeError(_core._unexpected_argument(label, next(iter(unknown)), shown))  # pyright: ignore[reportPrivateUsage]
        # The interpreter says what is missing.
        named = {each: one for each, one in zip(all_names, given, strict=True) if one is not _MISSING}
        first = [named.pop(each) for each in all_names[: code.co_posonlyargcount] if each in named]
        function(*first, *beyond, **named)
        raise AssertionError(f"{function.__qualname__}() was called without a required argument")

    call: Any = template(function, refuse, _MISSING)
    made = call.__code__
    placeholders = made.co_varnames[count : count + keyword_only]
    # The keyword names that the call passes are constants of the code: single strings, or a tuple.
    meant: dict[Any, Any] = {
        (): (),
        placeholders: all_names[count:],
        **dict(zip(placeholders, all_names[count:], strict=True)),
    }
    constants = tuple(meant.get(one, one) for one in made.co_consts)
    rest = made.co_varnames[count + keyword_only : -1]
    names = (*all_names, *rest, _UNKNOWN)
    call.__code__ = made.replace(co_varnames=names, co_consts=constants, co_name=code.co_name)
    call.__defaults__ = (*([_MISSING] * required), *(function.__defaults__ or ())) or None
    defaults = {one: _MISSING for one, is_needed in zip(all_names[count:], needed, strict=True) if is_needed}
    call.__kwdefaults__ = {**defaults, **(function.__kwdefaults__ or {})} or None
    _dress(call, function)
    call.__suggests__ = True
    return call  # type: ignore[no-any-return]


_COPIED = (
    *("__module__", "__name__", "__qualname__", "__doc__"),
    *(("__type_params__",) if sys.version_info >= (3, 12) else ()),
    "__annotate__" if sys.version_info >= (3, 14) else "__annotations__",
)
"""The attributes that make a function look like another one: functools.WRAPPER_ASSIGNMENTS."""


def _dress(call: Any, function: Any) -> None:
    """Do the same as functools.update_wrapper(), without the import, which takes half as long as the package's."""
    for name in _COPIED:
        setattr(call, name, getattr(function, name))
    call.__dict__.update(function.__dict__)
    call.__wrapped__ = function


def _template(shape: Shape) -> Callable[..., Any]:
    """Return the maker of functions that call another one, for a shape of parameters. Names are filled in later."""
    template = SHAPES.get(shape) or compiled.get(shape)
    if template is None:
        found: dict[str, Any] = {}
        exec(source_of(shape, "make"), found)  # The text is made of numbers alone.
        template = compiled[shape] = found["make"]
    return template


def source_of(shape: Shape, name: str) -> str:
    """Return the source of the template of a shape, as a function called `name`."""
    positional_only, count, required, needed, takes_more, is_awaited = shape
    names = [f"a{at}" for at in range(count)]
    named = [f"k{at}" for at in range(len(needed))]
    parameters = [f"{name}=None" for name in names]
    if positional_only:
        parameters.insert(positional_only, "/")
    if takes_more:
        parameters.append("*more")
    elif named:
        parameters.append("*")
    parameters += [f"{name}=None" for name in named]
    passed = [*names, *(["*more"] if takes_more else []), *(f"{name}={name}" for name in named)]
    wanted = names[:required] + [name for name, is_needed in zip(named, needed, strict=True) if is_needed]
    test = " or ".join(["unknown", *(f"{name} is missing" for name in wanted)])
    given = "".join(f"{name}, " for name in names + named)
    begin, answer = ("async def", "return await") if is_awaited else ("def", "return")
    return f"""def {name}(function, refuse, missing):
    {begin} call({", ".join([*parameters, "**unknown"])}):
        if {test}: refuse(({given}), {"more" if takes_more else "()"}, unknown)
        {answer} function({", ".join(passed)})
    return call
"""
