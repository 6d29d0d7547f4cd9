"""Dense attention split into its windows and the rest, for the refresh steps of Re-ttention."""
