"""Which processes make the shards."""
