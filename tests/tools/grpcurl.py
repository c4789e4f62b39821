#!/usr/bin/env python3
"""Stands in for grpcurl, which Debian does not have: the part of its command line that scripts use, over reflection.

    grpcurl.py [-plaintext] [-d JSON|@] [-max-time SECONDS] ADDRESS list|SERVICE/METHOD

Prints replies as indented JSON; a failed call is told on standard error and ends with 64 plus its code, as grpcurl does.
"""

import argparse
import json
import sys

import grpc

import recipes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-plaintext", action="store_true", required=True, help="TLS is not what this is for")
    parser.add_argument("-d", dest="data", default="{}", help="the request, @ = standard input")
    parser.add_argument("-max-time", type=int, default=recipes.TIMEOUT_SECONDS)
    parser.add_argument("address")
    parser.add_argument("symbol")
    options = parser.parse_args()
    recipes.TIMEOUT_SECONDS = options.max_time
    server = recipes.Server(options.address, "v1")
    if options.symbol == "list":
        print("\n".join(server.services()))
        return
    service, _, method = options.symbol.rpartition("/")
    data = sys.stdin.read() if options.data == "@" else options.data
    try:
        for reply in server.call(service, method, json.loads(data), sys.maxsize):
            print(json.dumps(reply, indent=2, ensure_ascii=False))
    except grpc.RpcError as error:
        name = "".join(word.title() for word in error.code().name.split("_"))
        print(f"ERROR:\n  Code: {name}\n  Message: {error.details()}", file=sys.stderr)
        sys.exit(64 + error.code().value[0])


if __name__ == "__main__":
    main()
