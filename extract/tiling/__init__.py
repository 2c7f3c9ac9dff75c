"""From elevation rasters and boundaries to tiles, their table and their labels."""
