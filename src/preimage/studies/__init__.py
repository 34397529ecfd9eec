"""Many results: jobs, the store that keeps them, and who computes them."""
