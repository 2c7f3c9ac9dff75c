"""Zonal statistics: any raster as an embedding of tiles or areas."""
