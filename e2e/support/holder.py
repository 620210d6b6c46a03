"""Holds a listening socket, as systemd's socket activation does, and starts a command on it.

It prints its port, starts the command for each line on standard input, and prints when it starts and ends. In between, the
kernel takes connections and keeps them waiting.
"""

import os
import socket
import sys

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(1024)
print("holding", listener.getsockname()[1], flush=True)

for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.execve(sys.argv[1], sys.argv[1:], {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
    print("started", pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", pid, flush=True)
