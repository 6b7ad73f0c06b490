"""Nothing is mounted, unmounted, remounted or made a root."""

for arguments in ((b"none", b"/tmp", b"tmpfs", 0, None), (None, b"/", None, 4096 | 32, None),
                  (b"/proc", b"/tmp", None, 4096, None)):  # fmt: skip
    if libc.mount(*arguments) >= 0:
        escaped(f"mount {arguments}")
for path in (b"/tmp", b"/proc", b"/usr", b"/"):
    if libc.umount2(path, 2) >= 0:
        escaped(f"umount {path}")
if call(155, 41, b"/tmp", b"/tmp") >= 0 or call(161, 51, b"/tmp") >= 0:
    escaped("another root")
for name, number, arguments in (("fsopen", 430, (b"tmpfs", 0)), ("open_tree", 428, (-100, b"/", 1)),
                                ("mount_setattr", 442, (-100, b"/", 0, None, 0))):  # fmt: skip
    if call(number, number, *arguments) >= 0:
        escaped(name)
