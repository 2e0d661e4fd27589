"""The demo: real digits through the daemon, its pictures and its table."""
