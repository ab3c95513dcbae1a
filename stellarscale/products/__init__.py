"""The products: each names its steps in order and knows nothing else."""
