"""Clusters of the uniques: `dugs clusters`."""
