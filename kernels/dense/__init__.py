"""Dense attention with log-sum-exp."""
