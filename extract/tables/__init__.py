"""Tables as text columns, and the tile table."""
