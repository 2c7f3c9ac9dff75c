"""Which processes fit the cells, and what the user sees meanwhile."""
