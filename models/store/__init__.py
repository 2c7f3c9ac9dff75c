"""Fitted cells and kept models on disk."""
