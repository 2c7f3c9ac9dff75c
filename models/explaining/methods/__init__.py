"""Methods that locate a prediction on the tile."""
