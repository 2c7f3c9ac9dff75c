"""The families of models: one contract, one fit for all targets, folds and settings at once."""
