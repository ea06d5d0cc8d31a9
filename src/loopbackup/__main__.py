"""``python -m loopbackup``: the same as the command ``loopbackup``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
