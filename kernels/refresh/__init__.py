"""Dense attention split into its band and the rest, for the refresh steps of Re-ttention."""
