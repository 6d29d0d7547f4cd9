"""Band attention: text dense, visual tokens to a raster band in every frame."""
