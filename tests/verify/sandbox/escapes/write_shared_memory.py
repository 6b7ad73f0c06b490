"""What is written to /dev/shm stays in the sandbox."""

name = f"/dev/shm/{facts['mark']}"
attempt(lambda: open(name, "w").write("x"))
