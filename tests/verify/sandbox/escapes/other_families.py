"""Netlink, packet, vsock and raw sockets do not open."""

import socket

for family, kind, protocol in (
    (16, 3, 0),
    (17, 3, 0x300),
    (40, 1, 0),
    (2, 3, 1),
    (38, 5, 0),
    (29, 3, 1),
):
    if attempt(socket.socket, family, kind, protocol):
        escaped(f"a socket of family {family}")
