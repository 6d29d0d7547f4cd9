"""What people run: the command line, its measurements and metrics."""
