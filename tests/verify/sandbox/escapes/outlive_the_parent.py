"""A process does not give up to end with its parent (level C; elsewhere the namespace ends)."""

if libc.prctl(1, 0, 0, 0, 0) >= 0 and os.getpid() > 100:
    escaped("PR_SET_PDEATHSIG")
