"""Tiles in, embeddings out: every picture through a frozen network once, into HDF5."""
