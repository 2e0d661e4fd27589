"""The work of each command of `dugs`: settings in, a record out."""
