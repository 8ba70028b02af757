"""The common part of the figures of sessions: their settings, and the timing of awaited calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

OURS = "sessions"
VALUE = "v" * 100
KEYS = 1000
TOGETHER = 100


@dataclass(frozen=True)
class Settings:
    """The size of the measurements."""

    rounds: int = 9
    calls: int = 2_000
    slow_calls: int = 100
    server_calls: int = 200

    @classmethod
    def quick(cls) -> Settings:
        """Return settings for a first look, which takes some seconds."""
        return cls(3, 300, 20, 30)


@dataclass
class Run:
    """The state that every figure needs."""

    settings: Settings
    random: Random
    say: Callable[[str], None]
    directory: Path
    told: dict[str, str] = field(default_factory=dict)
    """By name: the version of a server, or why something is left out."""


def in_a_row(call: Callable[[int], Any], count: int) -> float:
    """Return the microseconds of a call."""
    began = perf_counter()
    for number in range(count):
        call(number)
    return (perf_counter() - began) / count * 1e6


async def one_by_one(call: Callable[[int], Awaitable[Any]], count: int) -> float:
    """Return the microseconds of an awaited call."""
    began = perf_counter()
    for number in range(count):
        await call(number)
    return (perf_counter() - began) / count * 1e6


async def at_once(call: Callable[[int], Awaitable[Any]], tasks: int, turns: int) -> float:
    """Return the microseconds of a call for all tasks together."""
    began = perf_counter()
    for _ in range(turns):
        await asyncio.gather(*(call(number) for number in range(tasks)))
    return (perf_counter() - began) / turns * 1e6
