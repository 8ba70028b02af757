"""Replay an access trace through the eviction policies: ``python -m flexcache_rs replay``."""
