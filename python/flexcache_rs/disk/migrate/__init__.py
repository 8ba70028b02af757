"""Migration from directories of SciQLop-cache and diskcache_rs, read as files; nothing in them is changed."""
