"""The daemon's HTTP server and who may ask it."""
