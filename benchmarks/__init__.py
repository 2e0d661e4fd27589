"""What does dugs-stream cost, and how good is its compression? Ratios, each measured beside its baseline."""

import os

from dugs_stream.cli.spinning import keep_spinning_short

keep_spinning_short(os.environ)  # as `dugs` does, for both sides of each ratio
