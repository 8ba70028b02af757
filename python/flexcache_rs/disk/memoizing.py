"""An earlier name of a module, to which stored pickles refer."""

from __future__ import annotations

from flexcache_rs.disk.constants import ENOVAL, UNKNOWN, Constant

__all__ = ["ENOVAL", "UNKNOWN", "Constant"]
