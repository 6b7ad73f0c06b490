"""A socket in the abstract namespace of the host does not answer."""

import socket


def connect():
    client = socket.socket(socket.AF_UNIX)
    client.connect("\0" + facts["abstract"])
    return client


if attempt(connect):
    escaped("connected")
