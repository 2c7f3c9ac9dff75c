"""Cuts and the strict sections that settings files are made of."""
