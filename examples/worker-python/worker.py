#!/usr/bin/env python3
"""Runs jobs of tidings over HTTP, with nothing but the standard library (Python 3.9 or newer).

    TIDINGS_URL=http://127.0.0.1:4080 python3 worker.py

Copy it, and put your own functions into HANDLERS. A process runs one job at a time; start as many as you like.
SIGTERM gives the running job back, same attempt, and ends.
"""

import http.client
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

URL = os.environ.get("TIDINGS_URL", "http://127.0.0.1:4080").rstrip("/")
QUEUE = os.environ.get("QUEUE", "default")
# A file that is refused looks like a lost connection if the refusal comes before its last byte.
UPLOADS = 8
WORKER = f"python-{socket.gethostname()[:64]}-{os.getpid()}"

stopping = threading.Event()


class Hopeless(Exception):
    """A handler raises it when another attempt would fail too."""


class Stop(Exception):
    """The handler is to stop: its job was cancelled or lost, or this process ends."""


class Unreachable(Exception):
    """No answer, or one that asks to come back later."""


def generate_report(job):
    """Stands for your own work: a CSV, page by page, as if from a database."""
    rows = job.input.get("rows") if isinstance(job.input, dict) else None
    if not isinstance(rows, int) or rows < 1:
        raise Hopeless("rows has to be a whole number above 0")
    job.log(f"a report of {rows} rows, attempt {job.attempt}")
    with tempfile.TemporaryFile(dir=os.environ.get("REPORTS_DIR")) as file:
        file.write(b"number,customer,cents\n")
        for first in range(1, rows + 1, 100):
            last = min(first + 99, rows)
            file.writelines(b"%d,customer %d,%d\n" % (n, n % 97, n * 37 % 10_000) for n in range(first, last + 1))
            time.sleep(0.05)
            job.progress(current=last, total=rows, unit="rows", step="writing")
        job.artifact("report.csv", file, "text/csv")
    return {"rows": rows}


HANDLERS = {"generate-report": generate_report}


class Job:
    def __init__(self, leased):
        self.id, self.type, self.input = leased["id"], leased["type"], leased["input"]
        self.attempt, self.token = leased["attempt"], leased["lease"]["token"]
        self.renew_s = leased["lease"]["renew_every_ms"] / 1000
        self.cancelled = self.lost = False
        self.reports = 0
        self.ended = threading.Event()

    def check(self):
        """Raises Stop when there is no use in going on. `progress` calls it; so should a long loop without one."""
        if self.lost or self.cancelled or stopping.is_set():
            raise Stop

    def progress(self, **fields):
        """`progress` (0-100), or `current` and `total`; `unit`, `step`, `message`, `eta_ms`, `data`."""
        self.check()
        self.reports += 1
        try:
            self._send("POST", "progress", fields)
        except Unreachable:
            pass  # The work goes on, and the next progress says more.
        self.check()

    def log(self, message, level="info"):
        self.surely("POST", "logs", {"message": message, "level": level})

    def artifact(self, name, file, content_type="application/octet-stream"):
        """Stores a file with the job; `file` is open for reading bytes."""
        headers = {"Content-Type": content_type, "Content-Length": str(file.seek(0, os.SEEK_END))}
        self.surely("PUT", f"artifacts/{quote(name)}", file, headers)

    def surely(self, method, path, body, headers=None):
        """Sends until tidings has taken it: leases outlive a restart of the server."""
        self.reports += 1
        for tries, pause in enumerate(pauses(), start=1):
            try:
                return self._send(method, path, body, headers)
            except Unreachable as error:
                if method == "PUT" and tries == UPLOADS:
                    raise
                say(f"{self.id}: {path}: {error}; again in {pause:.1f} s")
                if stopping.is_set() and pause > 2:
                    raise Stop from error  # The lease will expire, and the job run again.
                time.sleep(pause)

    def renew(self):
        """In a thread of its own, for as long as the job runs."""
        lease = {"worker_id": WORKER, "leases": [{"id": self.id, "token": self.token}]}
        while not self.ended.wait(self.renew_s):
            try:
                status, answer = request("POST", "/v1/leases:renew", lease)
            except Unreachable:
                continue  # There is time for one more before the lease expires.
            if status == 200:
                state = answer["leases"][0]["status"]
                self.lost, self.cancelled = self.lost or state == "lost", self.cancelled or state == "cancel"
                if answer["worker"]["state"] == "stop":
                    stopping.set()

    def _send(self, method, path, body, headers=None):
        headers = {"Tidings-Lease": self.token, **(headers or {})}
        if isinstance(body, dict):
            # The counter makes a report that is sent twice take effect once.
            body = {**body, "lease": self.token, "attempt": self.attempt, "n": self.reports}
        status, answer = request(method, f"/v1/jobs/{quote(self.id)}/{path}", body, headers)
        if status in (404, 409):
            self.lost = True  # Somebody else has it, or it has ended: what was done is discarded.
            raise Stop
        if status >= 400:
            raise RuntimeError(f"{path}: {answer.get('code')}: {answer.get('detail')}")
        self.cancelled = self.cancelled or bool(answer.get("cancel"))
        return answer


def run(job):
    threading.Thread(target=job.renew, daemon=True).start()
    try:
        job.check()
        end, body = "complete", {"result": HANDLERS[job.type](job)}
    except Stop:
        end, body = ("fail", {"message": "cancelled", "state": "cancelled"}) if job.cancelled else ("release", {})
    except Hopeless as error:
        end, body = "fail", {"message": str(error), "retry": "never"}
    except Exception as error:
        stack = traceback.format_exc()
        end, body = "fail", {"error": {"message": str(error), "code": type(error).__name__, "stack": stack}}
    try:
        if not job.lost:
            job.surely("POST", end, body)
    except (Stop, RuntimeError) as error:
        say(f"{job.id}: {end} was not taken: {error}")
    finally:
        job.ended.set()
    say(f"{job.id}: attempt {job.attempt}: {'lost' if job.lost else end}")


def request(method, path, body=None, headers=None, timeout=60):
    """One request: its status and JSON."""
    headers = dict(headers or {})
    if hasattr(body, "seek"):
        body.seek(0)
    elif body is not None:
        body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    try:
        with urlopen(Request(URL + path, body, headers, method=method), timeout=timeout) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except HTTPError as error:
        with error:
            text = error.read()
        if error.code in (408, 429, 500, 502, 503, 504):
            raise Unreachable(f"{error.code} {text[:200]!r}") from error
        return error.code, json.loads(text) if text.startswith(b"{") else {}
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(str(error)) from error


def pauses():
    """Seconds to wait before each next try: longer and longer, and not at the same time as everybody else."""
    longest = 0.5
    while True:
        yield longest * random.uniform(0.5, 1)
        longest = min(longest * 2, 30)


def stop(*_):
    """At SIGTERM. A second one ends the process at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=hush, daemon=True).start()


def hush():
    stopping.set()
    while True:
        try:
            # The request for jobs that waits is answered now, and no job gets lost on its way here. One that was about
            # to be made is answered the next time.
            request("PUT", f"/v1/workers/{WORKER}", {"state": "stop"})
        except Unreachable:
            pass
        time.sleep(1)


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    wanted = {"worker_id": WORKER, "types": list(HANDLERS)}
    say(f"{WORKER} takes {', '.join(HANDLERS)} of {QUEUE} from {URL}")
    pause = pauses()
    while not stopping.is_set():
        try:
            status, answer = request("POST", f"/v1/queues/{quote(QUEUE)}/lease", wanted)
        except Unreachable as error:
            wait = next(pause)
            say(f"no jobs: {error}; again in {wait:.1f} s")
            stopping.wait(wait)
            continue
        if status >= 400:
            sys.exit(f"no jobs: {answer.get('code')}: {answer.get('detail')}")
        pause = pauses()
        for leased in (answer or {}).get("jobs", []):
            run(Job(leased))
        if answer and answer["worker"]["state"] == "stop":
            break
    say(f"{WORKER} has stopped")


if __name__ == "__main__":
    main()
