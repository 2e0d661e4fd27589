"""The HTTP server and its authentication."""
