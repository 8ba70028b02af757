"""FlexCache beside its peers: one program, one run, every contestant interleaved with the others."""
