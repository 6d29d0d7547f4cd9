"""What diffusers lacks: the bottleneck scheduler and self-forcing video land here with their issues."""
