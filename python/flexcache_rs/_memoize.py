"""`memoize`, which keeps the results of functions, methods and coroutine functions.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

import functools
import sys

from flexcache_rs import _core, _function_name
from flexcache_rs._arguments import each, shown
from flexcache_rs._memo import AsyncMemo, SyncMemo, class_method, is_in_class_body, ready
from flexcache_rs._memoize_options import Plan, flag, function_or_none, normalizer
from flexcache_rs._per_instance import check_per_instance, per_instance_of, refuse_other_methods

# The options of memoize() itself, and those that it passes to the cache that it makes.
_OPTIONS = (
    *("cache", "ttl", "soft_ttl", "early_refresh", "stale_if_error", "jitter", "typed", "key", "ignore", "condition"),
    *("cache_exceptions", "exception_ttl", "tags", "copy", "normalize", "per_instance", "name", "version"),
)
_OPTIONS_OF_CACHES = (
    *("eviction_policy", "scan_interval", "max_items", "max_bytes", "default_ttl", "thread_safe", "shards"),
    *("background_expiry", "on_evict", "weigher", "clock", "close_values", "store", "coherence", "lease", "lease_wait"),
    *("negative_ttl", "name", "record", "record_limit", "optimize"),
)

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


def _mark_as_coroutine_function(memo):
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
        _mark_as_coroutine_function(memo)
    return memo


def _wrap(function, cache, shared, plan, typed, key, ignore, name, version, normalize):
    if isinstance(function, (classmethod, staticmethod)):
        inner = _wrap(function.__func__, cache, shared, plan, typed, key, ignore, name, version, normalize)
        kind = type(function)
        return class_method(kind, inner) if issubclass(kind, classmethod) else kind(inner)
    if not callable(function):
        meant = ""
        if isinstance(function, int) and not isinstance(function, bool):
            meant = f"; did you mean @memoize(max_items={shown(function)})?"
        raise TypeError(f"memoize() takes a function, not {type(function).__name__}{meant}")
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
    kind, handed_out = _kind_of(awaited, plan)
    memo = kind(
        function,
        cache,
        typed=typed,
        prefix=prefix,
        ignored_positions=bits,
        ignored_names=ignored,
        key=key,
        ready=handed_out,
        awaited=awaited,
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


def _wrap_per_instance(function, options, plan, how):
    def make():
        return _wrap(function, _core.FlexCache(**options), False, plan, *how)

    refuse_other_methods(function)
    # Make one at once, so that errors in the function are raised at its definition.
    first = make()
    mark = _mark_as_coroutine_function if isinstance(first, AsyncMemo) else None
    return per_instance_of(function, make, first.cache_parameters(), mark)


def _kind_of(awaited, plan):
    """Return the class of a memoized function, and the function applied to a kept result on a hit, or None."""
    if plan.copy is None:
        return (AsyncMemo, ready) if awaited else (SyncMemo, None)
    from flexcache_rs._copied_results import CopyingAsyncMemo, CopyingSyncMemo  # Few functions need it.

    if not awaited:
        return CopyingSyncMemo, plan.copy

    async def ready_copy(value):
        return plan.copy(value)

    return CopyingAsyncMemo, ready_copy


def _first_parameter(function):
    code = getattr(function, "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else None


def memoize(
    function=None,
    /,
    *,
    cache=None,
    ttl=None,
    soft_ttl=None,
    early_refresh=0.0,
    stale_if_error=None,
    jitter=0.0,
    typed=False,
    key=None,
    ignore=(),
    condition=None,
    cache_exceptions=False,
    exception_ttl=None,
    tags=None,
    copy=False,
    normalize=False,
    per_instance=False,
    name=None,
    version=None,
    **options,
):
    """Keep the results of a function, a method or a coroutine function.

    Used with or without arguments. If several threads and tasks miss the same call at the same
    time, one of them computes and the others wait. They share its result or its exception. In
    front of a directory, this includes the callers in all processes.

    The function gets cache_key(*args), invalidate(*args), peek(*args), refresh(*args), clear(),
    stats(), cache_info(), cache_clear() and the attribute cache. The results of a method are kept
    for each instance, and do not keep the instance alive.

    Args:
        function: The function that computes a result. It must not be a generator function.
        cache: The FlexCache that keeps the results, which other functions may use too. None
            creates a separate cache with the options.
        ttl: The time to live of a result, as for FlexCache.put(), or a function of the result that returns it.
        soft_ttl: The time after which a result is still returned, but refreshed in the background.
        early_refresh: How eagerly individual calls refresh a result near its expiry, so that not
            all callers wait when it expires. 1.0 is a good start, and 0.0 (the default) means
            never. The probability rises as expiry nears and with the time that the function
            takes.
        stale_if_error: For how long after its ttl a result is returned instead of raising an exception.
        jitter: The largest share by which a ttl is reduced at random, from 0.0 (the default) to
            1.0. Results that were stored together then do not expire together.
        typed: Whether equal arguments of different types have different keys.
        key: A function of the arguments that returns the key. By default, all arguments make the key. It cannot be
            combined with typed and ignore.
        ignore: The names of parameters that are not part of the key.
        condition: A function of the result. The result is kept if it returns a true value.
        cache_exceptions: The classes of exceptions to keep like results, or True for Exception.
        exception_ttl: The time to live of an exception. None means that of a result.
        tags: The tags of the results for FlexCache.evict_tag(): one str, several, or a function
            of the arguments that returns them.
        copy: Whether each caller gets its own copy of the result, which it may change. True means
            copy.deepcopy. A function is called with the result.
        normalize: Whether f(1), f(number=1), and a call that omits the default 1 have the same
            key. It costs each call a few microseconds.
        per_instance: For methods: whether each instance has its own cache, with its own limits
            and statistics. The cache is dropped with the instance.
        name: The name of the function in a store, and of its own cache in caches(). None means
            its module and qualified name. Lambdas, nested functions, partials, bound methods,
            instances, functions named _ and functions of a script have no name that is the same
            in another process. In a store, no other process finds their results without a name,
            and a RuntimeWarning is issued.
        version: A text that separates the results of a changed function from the old results.
        **options: The other options of FlexCache: max_items, max_bytes, eviction_policy and so on.

    Raises:
        TypeError, ValueError: The function cannot be memoized, it is already memoized in the
            cache, it has the name of another function in the store, or an argument is invalid.
        CircularLoadError: A call would have to wait for itself.
        LoadCancelled: The computation itself raised asyncio.CancelledError.
        LoadFailedElsewhere: The computation in another process raised an exception that cannot be restored here.

    A hit costs O(1) and takes a fraction of the time of functools.lru_cache.

    >>> from flexcache_rs import memoize
    >>> @memoize(max_items=100, ttl=60)
    ... def square(number):
    ...     print("computing")
    ...     return number * number
    >>> square(3), square(3)
    computing
    (9, 9)
    >>> square.invalidate(3), square.peek(3)
    (True, None)
    """
    if cache is not None and not isinstance(cache, _core.FlexCache):
        own = "; use its own memoize()" if callable(getattr(cache, "memoize", None)) else ""
        raise TypeError(f"cache must be a FlexCache or None, not {type(cache).__name__}{own}")
    for option in options:
        if option not in _OPTIONS_OF_CACHES:
            raise TypeError(_core._unexpected_argument("memoize", option, [*_OPTIONS, *_OPTIONS_OF_CACHES]))
    if cache is not None and options:
        raise TypeError(f"memoize() takes {', '.join(options)} only without a cache, which has its own")
    flag("typed", typed)
    flag("normalize", normalize)
    function_or_none("key", key)
    if key is not None and (typed or ignore):
        raise ValueError(f"{'typed' if typed else 'ignore'} has no effect with key, which decides on the key")
    check_per_instance(per_instance, cache, {"name": name, **options}, version)
    if cache is None and name is not None:
        options["name"] = name
    name, version = _function_name.text("name", name), _function_name.text("version", version)
    plan = Plan(
        ttl=ttl,
        has_default_ttl=(options.get("default_ttl") if cache is None else cache._default_ttl) is not None,
        soft_ttl=soft_ttl,
        early_refresh=early_refresh,
        stale_if_error=stale_if_error,
        jitter=jitter,
        cache_exceptions=cache_exceptions,
        exception_ttl=exception_ttl,
        condition=condition,
        tags=tags,
        copy=copy,
    )

    def wrap(function):
        if per_instance:
            return _wrap_per_instance(function, options, plan, (typed, key, ignore, None, None, normalize))
        kept = _core.FlexCache(**options) if cache is None else cache
        return _wrap(function, kept, cache is not None, plan, typed, key, ignore, name, version, normalize)

    if function is None:
        # Make a cache only to raise errors in the options here. It must not begin a record.
        unused = ("record", "record_limit") if "record" in options else ()
        _core.FlexCache(**{name: option for name, option in options.items() if name not in unused})
        return wrap
    return wrap(function)


def memoize_in(self, function=None, /, **arguments):
    """Keep a function's results in this cache. The same as memoize() with cache=self.

    Raises:
        TypeError, ValueError: As for memoize().

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache(max_items=1000)
    >>> @cache.memoize(ttl=60)
    ... def double(number):
    ...     return 2 * number
    >>> double(4), cache.items
    (8, 1)
    """
    return memoize(function, cache=self, **arguments)


memoize_in.__name__, memoize_in.__qualname__ = "memoize", "FlexCache.memoize"
