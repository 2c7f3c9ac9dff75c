"""What would make a comparison lie, looked for before anything is fitted."""
