"""From files to pixels: where pictures lie, what their bytes say, and how they are decoded."""
