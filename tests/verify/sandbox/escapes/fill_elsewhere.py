"""No other place takes bytes."""

for folder in (
    "/",
    "/dev",
    "/box",
    "/etc",
    "/proc",
    "/run",
    "/var",
    "/usr",
    "/bin",
    "/lib",
    "/mnt",
):
    if attempt(open, f"{folder}/file", "w"):
        escaped(folder)
