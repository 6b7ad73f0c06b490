"""A program that ends well before a call has answered nothing."""

import sys

sys.exit(0)
