"""A gigabyte of errors is read and dropped."""
# limits: cpu=3, wall=20.0

for _ in range(1024):
    os.write(2, bytes(2**20))
