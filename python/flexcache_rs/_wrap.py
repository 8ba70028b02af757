"""How `memoize` wraps a function. It is imported when the first function is memoized.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

import functools
import sys

from flexcache_rs import _core, _function_name
from flexcache_rs._arguments import each, shown
from flexcache_rs._memo import AsyncMemo, SyncMemo, class_method, is_in_class_body
from flexcache_rs._memoize_options import normalizer
from flexcache_rs._per_instance import per_instance_of, refuse_other_methods

_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


def _flags_of(function):
    """Return the code flags, which say whether a function is a generator or coroutine function."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004
    flags = 0 if code is None else code.co_flags
    # A program that has marked a function has imported `inspect`.
    inspect = sys.modules.get("inspect")
    if inspect is not None and inspect.iscoroutinefunction(function):
        flags |= _COROUTINE
    return flags


def mark_as_coroutine_function(memo):
    """Make `inspect` and asyncio take an object for a coroutine function."""
    if sys.version_info >= (3, 12):
        from inspect import markcoroutinefunction  # Not imported before it is used.

        markcoroutinefunction(memo)
    else:
        from asyncio import coroutines

        memo._is_coroutine = coroutines._is_coroutine


def _ignored(function, ignore):
    """Return the parameters to ignore: their positions as bits of an int, and their names."""
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be names in a tuple, such as ({shown(ignore)},), not a str")
    ignore = tuple(each("ignore", ignore, "an iterable of names of parameters"))
    if not ignore:
        return 0, []
    from inspect import Parameter, signature  # Not imported before it is used.

    parameters = list(signature(function).parameters.values())
    names = [one.name for one in parameters]
    by_keyword = any(one.kind is Parameter.VAR_KEYWORD for one in parameters)
    bits = 0
    for name in ignore:
        if not isinstance(name, str):
            raise TypeError(f"ignore must contain names of parameters, not {shown(name)}")
        if name not in names:
            if by_keyword:
                continue
            raise ValueError(f"ignore must name parameters of {function.__name__}(), which has no parameter {name!r}")
        at = names.index(name)
        if parameters[at].kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
            raise ValueError(f"ignore must not name {name!r}, which takes any number of arguments")
        if parameters[at].kind is not Parameter.KEYWORD_ONLY:
            if at > 63:
                raise ValueError(f"ignore must name parameters among the first 64, and {name!r} is not among them")
            bits |= 1 << at
    return bits, [sys.intern(name) for name in ignore]


def _dress(memo, function, awaited):
    """Make a memoized function look like the function that it wraps."""
    functools.update_wrapper(memo, function)
    # Attributes of the function must not hide the methods of the memoized one.
    own = type(memo)
    for name in [name for name in memo.__dict__ if name not in functools.WRAPPER_ASSIGNMENTS and hasattr(own, name)]:
        del memo.__dict__[name]
    if awaited:
        mark_as_coroutine_function(memo)
    return memo


def wrap(function, cache, shared, plan, typed, key, ignore, name, version, normalize):
    """Return the memoized function of a function, or of the one in a class method or static method."""
    if isinstance(function, (classmethod, staticmethod)):
        inner = wrap(function.__func__, cache, shared, plan, typed, key, ignore, name, version, normalize)
        kind = type(function)
        return class_method(kind, inner) if issubclass(kind, classmethod) else kind(inner)
    if not callable(function):
        raise TypeError(f"memoize() takes a function, not {type(function).__name__}{_meant(function)}")
    label = getattr(function, "__qualname__", None) or type(function).__qualname__
    flags = _flags_of(function)
    if flags & _ASYNC_GENERATOR:
        raise TypeError(f"{label}() is an async generator function, whose items can be read only once")
    if flags & _GENERATOR:
        raise TypeError(f"{label}() is a generator function, whose items can be read only once")
    in_class_body = is_in_class_body(function)
    if cache.store is not None and key is None and in_class_body and _first_parameter(function) == "self":
        raise TypeError(f"{label}() is a method, and its instance has no name in a store: give memoize() a key=")
    prefix, names = _function_name.names_in(cache, shared, function, name, version, key)
    _function_name.refuse_stacked(function, label, cache, prefix)
    if not callable(plan.tags):
        cache._check_tags((*(plan.tags or ()), *(() if names.tag is None else (names.tag,))))
    bits, ignored = _ignored(function, ignore)
    awaited = bool(flags & _COROUTINE)
    name_of_coroutines = str(label) if awaited else None
    kind, handed_out = _kind_of(name_of_coroutines, plan)
    memo = kind(
        function,
        cache,
        typed=typed,
        prefix=prefix,
        ignored_positions=bits,
        ignored_names=ignored,
        key=key,
        ready=handed_out,
        awaited=name_of_coroutines,
        normalize=normalizer(function) if normalize else None,
        loads=True,
        # Functions with a user's `key` in one cache may make equal keys, and find each other's results.
        examines=plan.wraps or bool(plan.exceptions) or in_class_body or (shared and key is not None),
        in_store=names.in_store,
        keeps_results=kind is SyncMemo and cache.store is None and plan.keeps_results and names.tag is None,
        ttl=plan.ttl,
    )
    memo._plan, memo._prefix, memo._names, memo._instances, memo._owners = plan, prefix, names, {}, []
    memo._attributes_lack_class, memo._is_alone, memo._typed = None, not shared, typed
    if in_class_body:
        memo._may_be_method(memo._instances)
    if names.in_store:
        _function_name.claim(cache, prefix, memo, function)
    return _dress(memo, function, awaited)


def _meant(argument):
    """Return the end of the message about an argument that is no function: what was probably meant."""
    if isinstance(argument, int) and not isinstance(argument, bool):
        return f"; did you mean @memoize(max_items={shown(argument)})?"
    return "; did you mean memoize(cache=...)?" if isinstance(argument, _core.FlexCache) else ""


def wrap_per_instance(function, options, plan, how):
    """Memoize a method whose instances each have a cache of their own with `options`. `how` is the rest of wrap()."""

    def make():
        return wrap(function, _core.FlexCache(**options), False, plan, *how)

    refuse_other_methods(function)
    # Make one at once, so that errors in the function are raised at its definition.
    first = make()
    mark = mark_as_coroutine_function if isinstance(first, AsyncMemo) else None
    return per_instance_of(function, make, first.cache_parameters(), mark)


def _kind_of(name, plan):
    """Return the class of a memoized function, and the function applied to a kept result on a hit, or None.

    `name` is that of a coroutine function, and None for any other function.
    """
    copy = plan.copy
    if name is None and copy is None:
        return SyncMemo, None
    if copy is None:
        kind = AsyncMemo

        async def ready(value):
            return value
    else:
        from flexcache_rs._copied_results import CopyingAsyncMemo, CopyingSyncMemo  # Few functions need it.

        if name is None:
            return CopyingSyncMemo, copy
        kind = CopyingAsyncMemo

        async def ready(value):
            return copy(value)

    # A coroutine has the name of its function. A warning about one that is never awaited shows it.
    ready.__qualname__ = name
    return kind, ready


def _first_parameter(function):
    code = getattr(function, "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else None
