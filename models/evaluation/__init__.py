"""From out-of-fold predictions to scores, intervals, and who beats whom."""
