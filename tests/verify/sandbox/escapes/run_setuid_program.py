"""A program with a setuid bit gives nothing."""

import subprocess

for program in ("/usr/bin/su", "/usr/bin/passwd", "/usr/bin/mount", "/usr/bin/newgrp"):
    done = attempt(
        subprocess.run, [program, "-c", "id -u"], capture_output=True, timeout=5, input=b""
    )
    if done and done.stdout.strip() == b"0":
        escaped(program)
