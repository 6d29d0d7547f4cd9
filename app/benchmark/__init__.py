"""What `hasten bench pipeline` keeps while it runs, writes when it is done, and compares with another run."""
