"""Snapshots of the uniques on disk, so that a restart reads little of the changelog, which remains the truth."""
