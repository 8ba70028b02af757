"""`DjangoCache`: a cache backend for Django with diskcache_rs's settings. Needs Django.

In the settings: `CACHES = {"default": {"BACKEND": "flexcache_rs.diskcache_rs.DjangoCache", "LOCATION": "/path"}}`.
`OPTIONS` are arguments of `flexcache_rs.diskcache_rs.Cache`.
"""

from __future__ import annotations

from typing import Any

from flexcache_rs._django import Backend, options_of
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.core import PARAMETERS
from flexcache_rs.disk.djangocache import DjangoCache as DjangoCacheOfDisk
from flexcache_rs.disk.format import DEFAULT_SETTINGS
from flexcache_rs.diskcache_rs.cache import Cache

__all__ = ["DjangoCache"]

_OPTIONS = frozenset(DEFAULT_SETTINGS) | set(PARAMETERS) | {"max_size", "max_entries", "count_limit"}


@suggesting
class DjangoCache(DjangoCacheOfDisk):
    """A cache backend on a `Cache`.

    Args:
        location: `LOCATION` of the settings.
        params: The rest of the settings.
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super(DjangoCacheOfDisk, self).__init__(params)
        self._cache: Any = Cache(location, **options_of(params, _OPTIONS, {"directory": "LOCATION"}))

    # Django's warnings about keys, which python-diskcache does without.
    _flexcache_key = Backend._flexcache_key
