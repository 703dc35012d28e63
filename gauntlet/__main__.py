"""``python -m gauntlet``: the same as the ``gauntlet`` command."""

import sys

from gauntlet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
