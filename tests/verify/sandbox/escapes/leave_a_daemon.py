"""A process that leaves its parent, its session and its name does not outlive the run."""

if attempt(os.fork) == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/usr/bin/sleep", ["sleep", facts["seconds"]])
    os._exit(0)
