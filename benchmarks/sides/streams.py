"""Clients of a server, all at once, and nothing more than that: they share the machine with it.

    python -m benchmarks.sides.streams HOST PORT BODIES     # BODIES: a JSON list of requests

Each line that comes on stdin asks all requests anew; the seconds until the last one ends come out.
"""

import json
import select
import socket
import sys
import time


def main() -> None:
    """Ask whenever a line comes."""
    host, port, bodies = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    for _ in sys.stdin:
        begun = time.perf_counter()
        read([opened(host, port, body) for body in bodies])
        print(time.perf_counter() - begun, flush=True)


def opened(host: str, port: int, body: dict[str, object]) -> socket.socket:
    """A connection on which a request is under way."""
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection = socket.create_connection((host, port))
    connection.sendall(head.encode() + data)
    return connection


def read(connections: list[socket.socket]) -> None:
    """Take what comes, until the last one ends as it should."""
    tails = dict.fromkeys(connections, b"")
    while tails:
        for connection in select.select(list(tails), [], [])[0]:
            part = connection.recv(65536)
            if part:
                tails[connection] = (tails[connection] + part)[-40:]
            else:
                assert b"[DONE]" in tails.pop(connection)
                connection.close()


if __name__ == "__main__":
    main()
