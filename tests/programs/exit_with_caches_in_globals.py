"""Exits with caches that are still referenced: from globals, from another module, in cycles, in subclasses."""

import builtins

from flexcache_rs import FlexCache


class Value:
    def __init__(self, where):
        self.where = where

    def close(self):
        print(self.where, flush=True)


class Subclass(FlexCache):
    pass


class Holder:
    pass


plain, derived, cyclic, holder = FlexCache(), Subclass(), FlexCache(), Holder()
plain["value"] = Value("plain")
derived["value"] = Value("derived")
cyclic["value"], cyclic["self"] = Value("cyclic"), cyclic
holder.cache = FlexCache(on_evict=lambda key, value, reason: print("told", flush=True))
holder.cache["value"], holder.self = 1, holder
builtins.elsewhere = FlexCache()
builtins.elsewhere["value"] = Value("elsewhere")
