"""A server on the host's loopback cannot be reached."""

import socket

for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    attempt(lambda f=family, h=host: socket.socket(f).connect((h, facts["port"])))
if attempt(lambda: socket.create_connection(("127.0.0.1", facts["port"]), timeout=2)):
    escaped("connected")
