"""The tile table joined with the features of one cut, and the folds."""
