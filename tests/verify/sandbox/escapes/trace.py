"""No process is traced, read or written from another."""

for process in (os.getppid(), 1, facts["victim"]):
    if call(101, 117, 16, process, 0, 0) >= 0:
        escaped(f"ptrace of {process}")
    if call(310, 270, process, None, 0, None, 0, 0) >= 0:
        escaped(f"process_vm_readv of {process}")
    if call(311, 271, process, None, 0, None, 0, 0) >= 0:
        escaped(f"process_vm_writev of {process}")
    if process != 1 and attempt(open, f"/proc/{process}/mem", "rb") and process == facts["victim"]:
        escaped(f"the memory of {process}")
if call(438, 438, 3, 0, 0) >= 0:
    escaped("pidfd_getfd")
