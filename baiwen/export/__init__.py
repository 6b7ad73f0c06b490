"""Models in the formats of other programs, and what those programs make of them."""
