"""The made city of the demo: its plan, its pictures, and targets whose best reachable R² is known."""
