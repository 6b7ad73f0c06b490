"""The keyrings of the kernel are closed."""

if call(248, 217, b"user", b"name", b"value", 5, -3) >= 0:
    escaped("add_key")
if call(250, 219, 0, -3, 0) >= 0:
    escaped("keyctl")
if call(249, 218, b"user", b"name", None, -3) >= 0:
    escaped("request_key")
