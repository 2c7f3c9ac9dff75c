"""Prediction intervals, their coverage, and the area of applicability."""
