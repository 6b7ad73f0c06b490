"""To say nothing and end well is no answer."""

import sys

sys.exit(0)
