"""`python -m baiwen`, and under it `torchrun ... -m baiwen`: the command line."""

import sys

from baiwen.cli import main

if __name__ == "__main__":
    sys.exit(main())
