"""One command over the three packages: `roofline`."""
