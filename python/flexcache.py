"""FlexCache under its short name: ``from flexcache import FlexCache``.

One file beside the package, so that where the unrelated distribution ``flexcache`` is installed,
its package directory of the same name is found first and nothing of it is touched.
"""

from flexcache_rs import FlexCache

__all__ = ["FlexCache"]
