"""What does dugs-stream cost, and how good is its compression? Ratios, each measured beside its baseline."""
