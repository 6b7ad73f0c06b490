"""No datagram leaves."""

import socket

attempt(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", facts["udp"])))
