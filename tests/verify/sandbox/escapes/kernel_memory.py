"""Memory behind descriptors and keys, which no limit of a process counts, is refused."""

if attempt(os.memfd_create, "hold"):
    escaped("memfd_create")
if call(29, 194, 0, 2**30, 0o1600) >= 0:
    escaped("shmget")
if call(68, 186, 0, 0o1600) >= 0:
    escaped("msgget")
if call(64, 190, 0, 10, 0o1600) >= 0:
    escaped("semget")
if call(447, 447, 0) >= 0:
    escaped("memfd_secret")
