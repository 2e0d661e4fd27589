"""Losses of single samples: built in by name, one module a kind of labels, or a user's own function."""
