"""Calibration: τ, k and layers from a sample of a user's own data, for `dugs calibrate`."""
