"""No descriptor leads up and out by `..`."""

for number in range(1024):
    try:
        found = os.open("../" * 40 + facts["secret"].lstrip("/"), os.O_RDONLY, dir_fd=number)
    except OSError:
        continue
    escaped(f"descriptor {number}: {os.read(found, 10)}")
