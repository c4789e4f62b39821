#!/usr/bin/env python3
"""Receives webhooks and believes only what is signed, each event once.

    RECEIVER_SECRET=whsec_... ./receiver.py [--port 8000]      Standard Webhooks, by its own library
    RECEIVER_KEY=... ./receiver.py [--port 8000]               "signature": "TENCENT_MD5": sign = md5(key + t)

Prints a line for each event; 401 for what is not signed, 200 for what is, even if it came before.
"""

import argparse
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

# Larger bodies are nobody's event.
LARGEST = 1 << 20


def standard(secret, headers, body):
    """A CloudEvent of Standard Webhooks: its id and a line about it; None when the signature is wrong."""
    try:
        event = Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
    except (WebhookVerificationError, ValueError):
        return None
    return event["id"], f"{event['type']} {event['subject']}"


def vendor(key, body):
    """One of the vendor's bodies: what tells it apart and a line about it; None when the signature is wrong."""
    try:
        event = json.loads(body)
        expiry = int(event["t"])
        expected = hashlib.md5(f"{key}{expiry}".encode()).hexdigest()
        if expiry < time.time() or not hmac.compare_digest(expected, event["sign"]):
            return None
    except (ValueError, KeyError, TypeError):
        return None
    # The signature does not cover the body: take nothing from it that could not be asked for through the API.
    unsigned = {name: value for name, value in event.items() if name not in ("t", "sign")}
    return json.dumps(unsigned, sort_keys=True), f"event_type={event['event_type']} stream={event.get('stream_id')}"


def say(line):
    """In one piece: requests come side by side."""
    print(line + "\n", end="", flush=True)


class Receiver(BaseHTTPRequestHandler):
    seen = set()

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length).decode() if length <= LARGEST else ""
        secret, key = os.environ.get("RECEIVER_SECRET"), os.environ.get("RECEIVER_KEY")
        event = standard(secret, self.headers, body) if secret else vendor(key, body)
        if event is None:
            say("refused")
            self.answer(401)
            return
        identity, line = event
        if identity not in self.seen:
            self.seen.add(identity)
            say(line)
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000, help="0 = a free one")
    options = parser.parse_args()
    if not os.environ.get("RECEIVER_SECRET") and not os.environ.get("RECEIVER_KEY"):
        parser.error("RECEIVER_SECRET or RECEIVER_KEY is needed: without it nothing can be believed")
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
