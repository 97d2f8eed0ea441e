"""Speaks to a unix socket as whoever runs it: `listen PATH` prints how many bytes each connection brought,
`ask PATH METHOD ROUTE [BODY]` prints the status and the body of the answer, or `closed` or `refused`."""
import os
import socket
import sys

verb, path = sys.argv[1:3]
if verb == "listen":
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    os.chmod(path, 0o777)
    server.listen()
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        connection.settimeout(2)
        got = b""
        try:
            while piece := connection.recv(65536):
                got += piece
        except OSError:
            pass
        print(len(got), flush=True)
else:
    method, route, *body = sys.argv[3:]
    text = "".join(body).encode()
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    answer = b""
    try:
        client.connect(path)
    except OSError as error:
        sys.exit(print("refused", error.strerror))
    try:
        head = f"{method} {route} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        upgrade = "Connection: Upgrade\r\nUpgrade: mcp-broker-launch/1\r\n" if route == "/v1/launches" else "Connection: close\r\n"
        client.sendall((head + upgrade + "\r\n").encode() + text)
        while piece := client.recv(65536):
            answer += piece
    except OSError:
        pass
    print(answer.decode() or "closed")
