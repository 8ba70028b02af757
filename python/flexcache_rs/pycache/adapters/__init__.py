"""PyCache's adapters, which determine where the data is.

`from flexcache_rs.pycache.adapters import InMemory` and `from flexcache_rs.pycache.adapters.InMemory import InMemory`
both work.
"""

from __future__ import annotations

import sys

from flexcache_rs.pycache.adapters._adapters import Adapter, InMemory, MySQL, Redis, Sharded, SQLite

__all__ = ["Adapter", "InMemory", "MySQL", "Redis", "SQLite", "Sharded"]

# Register the modules of these names now. A later import would otherwise replace the classes with modules.
for _name in __all__:
    sys.modules[f"{__name__}.{_name}"] = sys.modules[f"{__name__}._adapters"]
