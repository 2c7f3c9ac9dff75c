"""Embeddings on disk: shards, readers, imports, verification and locks."""
