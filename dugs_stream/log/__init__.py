"""The log the daemon reads and writes: one port, two engines, and the wire format. Imports no other room."""
