"""A small MCP client for the quickstart: starts the command after `--`, does the handshake, calls `get-env`.

Prints one line of JSON for each thing it saw, and digests instead of values. After the `ready` line it waits
until the server's command has ended, then says how, and whether any process of its tree is still there.
Python's standard library only.
"""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

ANSWER_LIMIT = 30  # seconds for one answer
END_LIMIT = 60  # seconds for the end that the script brings about
GONE_LIMIT = 5  # seconds for the tree to be gone after that


def say(event, **details):
    print(json.dumps({"event": event, **details}), flush=True)


def stat(pid):
    """Parent and start time of a process, or None where it is gone (proc_pid_stat(5))."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else (int(fields[1]), fields[19])


def variable_of(pid, name):
    """The value of a variable in the environment that a process was started with; None without it."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None
    prefix = name.encode() + b"="
    return next((entry[len(prefix) :] for entry in entries if entry.startswith(prefix)), None)


def tree(root):
    """Every descendant of `root` with its start time, so that a reused number is not mistaken for it."""
    known = {int(p.name): stat(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit()}
    known = {pid: seen for pid, seen in known.items() if seen}
    found, grown = {root}, True
    while grown:
        more = {pid for pid, (parent, _) in known.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return {pid: known[pid][1] for pid in found if pid in known}


class Server:
    def __init__(self, command, log):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self.last = 0

    def send(self, message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method, params):
        """Sends a request and answers with its result; notifications in between are passed over."""
        self.last += 1
        self.send({"id": self.last, "method": method, "params": params})
        watchdog = threading.Timer(ANSWER_LIMIT, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                message = json.loads(line)
                if message.get("id") != self.last or "method" in message:
                    continue
                if "error" in message:
                    raise SystemExit(f"the server answered {method} with an error")
                return message["result"]
        finally:
            watchdog.cancel()
        raise SystemExit(f"no answer to {method}")


    def end(self):
        """As the stdio transport says: close its input, wait, then make sure."""
        if self.process.poll() is not None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()


def main(variable, log_path, command):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with open(log_path, "wb") as log:
        server = Server(command, log)
        try:
            talk(server, variable)
        finally:
            server.end()


def talk(server, variable):
    about = {"name": "quickstart", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about}
    hello = server.ask("initialize", params)
    server.send({"method": "notifications/initialized"})
    say("initialized", server=hello["serverInfo"]["name"])
    say("tools", count=len(server.ask("tools/list", {})["tools"]))

    result = server.ask("tools/call", {"name": "get-env", "arguments": {}})
    environment = json.loads(result["content"][0]["text"])
    processes = tree(server.process.pid)
    # What the server says of its secret comes back masked, so the process itself is looked at.
    had = next(filter(None, (variable_of(process, variable) for process in processes)), None)
    digest = hashlib.sha256(had).hexdigest() if had is not None else None
    say("called", names=sorted(environment), said=environment.get(variable), digest=digest)
    say("ready", processes=len(processes))
    code = server.process.wait(END_LIMIT)
    deadline = time.monotonic() + GONE_LIMIT
    left = processes
    while left and time.monotonic() < deadline:
        left = {pid: start for pid, start in left.items() if (stat(pid) or (0, None))[1] == start}
        time.sleep(0.02)
    say("ended", code=code, left=len(left))


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[3] != "--":
        raise SystemExit("usage: client.py VARIABLE LOG -- COMMAND…")
    main(sys.argv[1], sys.argv[2], sys.argv[4:])
