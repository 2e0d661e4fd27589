"""The command `dugs`."""
