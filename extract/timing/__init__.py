"""Seconds by stage."""
