"""Collects caches with listeners that use and fill them, while the collector takes both apart in any order.

A Python function must not be called after the collector has cleared it, because that crashes the interpreter.
"""

import gc
import random

from flexcache_rs import FlexCache


class Subclass(FlexCache):
    pass


class WithDestructor(FlexCache):
    def __del__(self):
        len(self)


def through_an_attribute(class_):
    def listener(key, value, reason, caches=[]):
        if caches:
            caches[0][key, len(reason)] = str(value)

    listener.cache = class_(max_items=3, on_evict=listener)
    listener.__defaults__[0].append(listener.cache)
    return listener.cache, listener


def through_a_closure(class_):
    def listener(key, value, reason):
        told.append(len(reason))
        cache[len(told)] = str(value)

    told = []
    cache = class_(max_items=3, on_evict=listener)
    return cache, listener


def through_a_value(class_):
    class Value:
        def close(self):
            list(cache)
            if len(cache) < 3:
                cache[random.random()] = Value()

    cache = class_(max_items=3)
    cache["value"] = Value()
    return cache, Value


class Policy:
    def __init__(self):
        self.order = {}

    def on_insert(self, key):
        self.order[key] = None

    def on_access(self, key):
        len(self.order)

    def on_remove(self, key):
        self.order.pop(key, str(key))

    def victim(self):
        return next(iter(self.order))


def through_a_policy(class_):
    # Make a new class, so that its methods are garbage too.
    policy = type("Local", (Policy,), {"on_remove": lambda self, key: (str(key), self.order.pop(key, None))})()
    cache = class_(policy, max_items=3)
    policy.cache = cache
    return cache, policy


makers = [through_an_attribute, through_a_closure, through_a_value, through_a_policy]
kept = []
random.seed(1)
gc.disable()
for round_ in range(60):
    for class_ in (FlexCache, Subclass, WithDestructor):
        for make in makers:
            parts = make(class_)
            for key in range(3):
                parts[0].put(key, key)
            # Keep one part, which refers to the others. The collector orders survivors as it reaches them.
            kept.append(random.choice(parts))
    del parts
    gc.collect(round_ % 3)
    random.shuffle(kept)
    del kept[round_ % 7 :]
    gc.collect()
kept.clear()
gc.collect()
print("done")
