"""Watching the daemon: metrics, health, logs, and the HTTP server that shows them."""
