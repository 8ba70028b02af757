"""PyCache's collections: bits and Bloom filters in memory, which the datatypes of these names store."""
