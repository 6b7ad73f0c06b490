"""The password hashes and other files of the system are not there, or may not be read."""

for path in ("/etc/shadow", "/etc/hostname", "/etc/machine-id", "/var/log/dpkg.log", "/proc/kcore"):
    if attempt(lambda path=path: open(path, "rb").read(1)):
        escaped(path)
