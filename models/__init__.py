"""Embeddings in, scores out: many cheap models on one set of folds, compared honestly."""
