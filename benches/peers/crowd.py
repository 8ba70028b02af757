"""Many caches of a million entries at once, which compete for the processor's caches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import caches
from .figures import GET, PUT, Figure, Operation, Run, Target, figure, named, str_keys, timed
from .measure import over_puts

if TYPE_CHECKING:
    from random import Random

    from .measure import Keys, Order

PAIRS = {
    'FlexCache("lru")': "cachebox.LRUCache",
    'FlexCache("fifo")': "cachebox.FIFOCache",
    'FlexCache("lfu")': "cachebox.LFUCache",
    'FlexCache("random")': "cachebox.RRCache",
}
"""Which caches have the same policy."""

# Write in the way that each contestant's documentation shows, because not all have a method.
WRITE = Operation(over_puts, lambda contestant, cache: PUT.bind(contestant, cache) or cache.__setitem__)


def _some(keys: Keys, count: int) -> Order:
    """The same `count` keys in a new order each time."""
    chosen: list[Keys] = []

    def order(random: Random, _number: int) -> Keys:
        if not chosen:
            chosen.append(random.choices(keys, k=count))
        return random.sample(chosen[0], k=count)

    return order


@figure("crowd")
def crowd(run: Run) -> Figure:
    """Every operation with all caches alive."""
    size, count = run.settings.big, run.settings.operations
    result = Figure(
        "a crowd of caches",
        f"{len(caches.CROWD)} caches of {size:,} entries exist at once, with the same str keys. Their operations take "
        f"turns. {count:,} of the keys are read, and written over, in a new order in each round. Writes are by "
        "method, or else by `__setitem__`.",
    )
    keys = str_keys(size)
    conditions: tuple[tuple[str, Operation, Order, bool], ...] = (
        ("`get`, hit", GET, _some(keys, count), True),
        ("`get`, miss", GET, _some(str_keys(count, "other"), count), False),
        ("put over a key", WRITE, _some(keys, count), False),
        ("put with an eviction", WRITE, lambda _random, number: str_keys(count, f"new:{number}"), False),
    )
    for condition, operation, order, hits in conditions:
        contestants = named(c for c in caches.CROWD if c is not caches.DICT or condition != "put with an eviction")
        timed(run, result, condition, contestants, operation, keys, order, run.settings.big_rounds, hits=hits)
        result.targets += [
            Target(f"{condition}, {ours}, × {theirs}", condition, 1.0, times=theirs, contestant=ours)
            for ours, theirs in PAIRS.items()
        ]
    hit = conditions[0][0]
    result.targets.append(Target(f"{hit}, × `dict.get`", hit, 1.2, contestant='FlexCache("lru")'))
    return result
