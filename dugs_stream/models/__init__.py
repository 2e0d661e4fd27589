"""Models: loading from a factory and safe weights, their fingerprint, and the built-in AlexNet."""
