"""Scores in, one page out."""
