"""Random forests and gradient boosting."""
