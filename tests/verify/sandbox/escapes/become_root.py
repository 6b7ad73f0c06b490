"""No user, group or capability is to be had."""

for change in (os.setuid, os.seteuid, os.setgid, os.setegid):
    if attempt(change, 0) is None and os.geteuid() == 0:
        escaped("root")
if attempt(os.setgroups, [0]) is None and 0 in os.getgroups():
    escaped("group 0")
status = attempt(lambda: open("/proc/self/status").read()) or ""
for line in status.splitlines():
    if line.startswith(("CapEff", "CapPrm", "CapBnd")) and int(line.split()[1], 16):
        escaped(line)
if os.getuid() == 0 or libc.prctl(39, 0, 0, 0, 0) != 1:
    escaped("root, or without no_new_privs")
