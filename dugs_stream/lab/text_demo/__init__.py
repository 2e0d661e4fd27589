"""The text demo: English of the standard library through the daemon, its page and its tables."""
