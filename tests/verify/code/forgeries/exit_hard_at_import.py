"""A program that ends well, without a word, has answered nothing."""

import os

os._exit(0)
