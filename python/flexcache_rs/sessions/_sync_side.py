"""What the face without `await` has to itself."""

from __future__ import annotations

from time import sleep

from flexcache_rs._core import SessionBlock as Block
from flexcache_rs._core import _load as load

__all__ = ["Block", "load", "sleep"]
