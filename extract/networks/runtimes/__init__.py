"""The runtimes that can run a frozen network."""
