"""A gigabyte of output ends the run."""
# limits: output=65536
# ends: output

for _ in range(1024):
    os.write(1, bytes(2**20))
escaped("wrote a gigabyte")
