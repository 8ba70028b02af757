"""What the awaited face has to itself."""

from __future__ import annotations

from asyncio import sleep

__all__ = ["sleep"]
