"""Constants, exceptions and warnings under diskcache_rs's name of the module."""

from flexcache_rs.disk import (
    DEFAULT_SETTINGS,
    ENOVAL,
    EVICTION_POLICY,
    UNKNOWN,
    EmptyDirWarning,
    Timeout,
    UnknownFileWarning,
)

__all__ = [
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "UNKNOWN",
    "EmptyDirWarning",
    "Timeout",
    "UnknownFileWarning",
]
