"""Made city of the demo: its plan, its pictures, and targets of known best reachable R²."""
