"""The daemon's life, its loop, and what they need."""
