"""Ridge regression for every fold, target and penalty at once."""
