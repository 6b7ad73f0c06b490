"""Nothing listens."""

import socket


def listen():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server


if attempt(listen):
    escaped("listens")
