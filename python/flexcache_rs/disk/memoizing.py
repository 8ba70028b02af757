"""The earlier home of what stored pickles refer to by this name."""

from __future__ import annotations

from flexcache_rs.disk.constants import ENOVAL, UNKNOWN, Constant

__all__ = ["ENOVAL", "UNKNOWN", "Constant"]
