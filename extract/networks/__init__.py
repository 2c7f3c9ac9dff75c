"""Frozen networks: built from the zoo, cut, folded, and run by the runtime that is there."""
