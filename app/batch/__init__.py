"""`hasten batch`: many prompts into one folder, by any number of processes, through any interruption."""
