"""Ways to compute batches beyond this machine: one file an engine. `runner.known_backends` finds them."""
