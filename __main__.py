"""``python -m regatta``: the same as the command ``regatta``."""

import sys

from regatta.cli import main

if __name__ == "__main__":
    sys.exit(main())
