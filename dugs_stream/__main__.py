"""The program `dugs`: `python -m dugs_stream`."""

from __future__ import annotations

from dugs_stream.cli.main import main

if __name__ == "__main__":
    main()
