"""What the other packages wrote, read into tidy tables."""
