#!/usr/bin/env python3
"""Calls the API the way a script writer does: nothing but a server address and JSON.

    recipes.py HOST:PORT [--node HOST:PORT] [--reflection v1|v1alpha] [--messages N] < recipes.tsv

Reads lines of `Service/Method<TAB>JSON` and writes one line of JSON for each:
`{"method", "code", "message", "details", "replies"}`. Requests and replies are built from what server reflection
says; there is no generated code. `node:` before a service means `recorder.node.v1` on the node listener; a service
name with a dot is used as it is; `list` shows the services that reflection lists. Of a streaming call the first
`--messages` replies are taken.
"""

import argparse
import json
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

# Waiting longer than this for an answer on one machine means that none comes.
TIMEOUT_SECONDS = 30


class ReflectionStub:
    """The v1 service; its messages are those of v1alpha under another name, which is all the library knows."""

    def __init__(self, channel, version):
        self.ServerReflectionInfo = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )


class Server:
    """One listener, known by its address alone."""

    def __init__(self, address, reflection):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.database._stub = ReflectionStub(self.channel, reflection)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def services(self):
        return sorted(self.database.get_services())

    def call(self, service, method, request, messages):
        """Makes one call; returns the replies, or raises grpc.RpcError."""
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        message = self.message(described.input_type, request)
        reply = message_factory.GetMessageClass(described.output_type)
        kind = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        send = kind(
            f"/{service}/{method}",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        answer = send(message, timeout=TIMEOUT_SECONDS)
        if not described.server_streaming:
            return [self.to_json(answer)]
        replies = []
        for received in answer:
            replies.append(self.to_json(received))
            if len(replies) == messages:
                answer.cancel()
                break
        return replies

    def message(self, descriptor, request):
        """JSON to message as grpcurl does it: snake_case or camelCase, and a FieldMask is `{"paths": [...]}`."""
        masks = []
        plain = take_masks(descriptor, request, (), masks)
        message = message_factory.GetMessageClass(descriptor)()
        json_format.ParseDict(plain, message, descriptor_pool=self.pool)
        for path, mask in masks:
            at = message
            for name in path:
                at = getattr(at, name)
            at.paths.extend(mask["paths"])
            at.SetInParent()
        return message

    def to_json(self, message):
        return json_format.MessageToDict(message, descriptor_pool=self.pool)

    def details(self, error):
        """The google.rpc details of a failed call, decoded through the server's own descriptors."""
        trailers = {entry.key: entry.value for entry in error.trailing_metadata() or ()}
        packed = trailers.get("grpc-status-details-bin")
        if packed is None:
            return []
        status = message_factory.GetMessageClass(self.pool.FindMessageTypeByName("google.rpc.Status"))
        return self.to_json(status.FromString(packed)).get("details", [])


def take_masks(descriptor, request, path, masks):
    """A copy of `request` without its field masks, which go to `masks` with their path of field names."""
    plain = {}
    for key, value in request.items():
        field = descriptor.fields_by_name.get(key) or descriptor.fields_by_camelcase_name.get(key)
        single = field is not None and field.message_type is not None and not field.is_repeated
        here = (*path, field.name) if single else path
        if single and field.message_type.full_name == "google.protobuf.FieldMask" and isinstance(value, dict):
            masks.append((here, value))
        elif single and isinstance(value, dict) and not field.message_type.full_name.startswith("google.protobuf."):
            plain[key] = take_masks(field.message_type, value, here, masks)
        else:
            plain[key] = value
    return plain


def answer(servers, line, messages):
    """One input line to one output object."""
    recipe, _, text = line.partition("\t")
    name, _, method = recipe.rpartition("/")
    node = recipe.startswith("node:")
    server = servers["node" if node else "api"]
    if recipe in ("list", "node:list"):
        return {"method": recipe, "code": "OK", "message": "", "details": [], "replies": server.services()}
    name = name.removeprefix("node:")
    if "." not in name:
        name = f"recorder.{'node.' if node else ''}v1.{name}"
    try:
        replies = server.call(name, method, json.loads(text or "{}"), messages)
        return {"method": recipe, "code": "OK", "message": "", "details": [], "replies": replies}
    except grpc.RpcError as error:
        code, message, details = error.code().name, error.details(), server.details(error)
        return {"method": recipe, "code": code, "message": message, "details": details, "replies": []}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("api", help="address of the public API")
    parser.add_argument("--node", help="address of the node listener")
    parser.add_argument("--reflection", choices=["v1", "v1alpha"], default="v1")
    parser.add_argument("--messages", type=int, default=1, help="how many replies of a stream to take")
    arguments = parser.parse_args()
    servers = {"api": Server(arguments.api, arguments.reflection)}
    if arguments.node:
        servers["node"] = Server(arguments.node, arguments.reflection)
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(answer(servers, line.rstrip("\n"), arguments.messages), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
