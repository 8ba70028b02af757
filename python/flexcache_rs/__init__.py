"""An in-process cache as cheap as a dict.

>>> from flexcache_rs import FlexCache
>>> cache = FlexCache(max_items=2)
>>> cache["a"], cache["b"] = 1, 2
>>> cache["a"]
1
>>> cache["c"] = 3
>>> list(cache)
['a', 'c']
"""

from flexcache_rs._core import CacheStats, FlexCache, __version__, reset_logging

__all__ = ["CacheStats", "FlexCache", "__version__", "reset_logging"]
