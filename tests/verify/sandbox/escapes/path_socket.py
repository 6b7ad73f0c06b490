"""A socket in a folder of the host does not answer, not even to a datagram of a pair."""

import socket


def connect():
    client = socket.socket(socket.AF_UNIX)
    client.connect(facts["socket"])
    return client


def redirect():
    pair, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return pair.sendto(b"x", facts["datagram"])


if attempt(connect):
    escaped("connected")
if attempt(redirect):
    escaped("sent")
