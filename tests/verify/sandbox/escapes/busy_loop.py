"""A loop ends at its CPU budget."""
# limits: cpu=1, wall=30.0
# ends: cpu

while True:
    pass
