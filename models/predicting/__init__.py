"""What a kept model says of places without labels, and how sure it is."""
