"""What several recipes share: optimizers with a running average, and stages that resume."""
