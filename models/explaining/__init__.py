"""What the kept models look at."""
