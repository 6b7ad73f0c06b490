"""A hundred megabytes of errors are read and dropped."""
# limits: cpu=3, wall=20.0

for _ in range(100):
    os.write(2, bytes(2**20))
