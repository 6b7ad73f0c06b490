"""A loop that never lets go of the interpreter's lock ends at its CPU budget."""
# limits: cpu=1, wall=30.0
# ends: cpu

sum(range(10**13))
