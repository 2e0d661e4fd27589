"""What each command of `dugs` does: settings in, a record out."""
