"""A folder and a file that the user may write outside stay as they are."""

for path in (
    facts["folder"] + "/new",
    facts["owned"],
    "/var/tmp/baiwen-escape",
    "/usr/baiwen-escape",
):
    file = attempt(open, path, "w")
    if file:
        file.write("escaped")
        escaped(path)
for change in (lambda path: os.chmod(path, 0o777), lambda path: os.utime(path, (0, 0)), os.unlink,
               lambda path: os.truncate(path, 0), lambda path: os.setxattr(path, "user.a", b"a"),
               lambda path: os.rename(path, path + "2")):  # fmt: skip
    attempt(change, facts["owned"])
attempt(os.mkdir, facts["folder"] + "/new")
attempt(os.symlink, "/etc/passwd", facts["folder"] + "/link")
attempt(os.mkfifo, facts["folder"] + "/fifo")
