"""`Disk` and `JSONDisk` under diskcache_rs's name of the module."""

from flexcache_rs.disk.core import MODE_BINARY, MODE_NONE, MODE_PICKLE, MODE_RAW, MODE_TEXT, Disk
from flexcache_rs.disk.json_disk import JSONDisk

__all__ = ["MODE_BINARY", "MODE_NONE", "MODE_PICKLE", "MODE_RAW", "MODE_TEXT", "Disk", "JSONDisk"]
