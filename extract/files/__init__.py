"""Writing files so that a kill or a power cut loses nothing."""
