"""Checks and cost estimates before an extraction."""
