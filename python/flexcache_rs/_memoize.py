"""`memoize`, which keeps the results of functions, methods and coroutine functions.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

from flexcache_rs import _core

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
        soft_ttl: The time after which a result is still returned, but refreshed in the background. It
            must be shorter than the ttl.
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

    A hit costs O(1), and takes less time than a hit of functools.lru_cache.

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
    # Not imported before they are used.
    from flexcache_rs._function_name import text
    from flexcache_rs._memoize_options import Plan, flag, function_or_none
    from flexcache_rs._per_instance import check_per_instance
    from flexcache_rs._wrap import wrap, wrap_per_instance

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
    name, version = text("name", name), text("version", version)
    plan = Plan(
        ttl=ttl,
        default_ttl=options.get("default_ttl") if cache is None else cache._given_default_ttl,
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

    def decorate(function):
        if per_instance:
            return wrap_per_instance(function, options, plan, (typed, key, ignore, None, None, normalize))
        kept = _core.FlexCache(**options) if cache is None else cache
        return wrap(function, kept, cache is not None, plan, typed, key, ignore, name, version, normalize)

    if function is None:
        # Make a cache only to raise errors in the options here. It must not begin a record.
        unused = ("record", "record_limit") if "record" in options else ()
        _core.FlexCache(**{name: option for name, option in options.items() if name not in unused})
        return decorate
    return decorate(function)


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
