"""A search for the fastest recipe that keeps given limits of quality, measured on the device that will run it."""
