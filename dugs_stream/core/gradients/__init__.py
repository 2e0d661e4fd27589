"""Per-sample gradients of the chosen layers: capture, losses, and the ways to the factors."""
