"""Migration from directories of SciQLop-cache and diskcache_rs. Reads their files directly, and changes nothing."""
