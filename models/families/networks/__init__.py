"""Models that train a neural network."""
