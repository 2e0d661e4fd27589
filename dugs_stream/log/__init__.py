"""The log that the daemon reads and writes: one port, two engines."""
