#!/usr/bin/env python3
"""Records what is published on a domain: makes a storage, a template and a domain, binds them, watches the next
recording to its end, and prints its files.

    ./generate.sh && PYTHONPATH=generated ./record.py localhost:7080 push.example.com cam1

RECCTL_TOKEN is sent as the bearer token, RECCTL_CA (PEM) turns TLS on.
"""

import argparse
import os
import sys
import time

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from recorder.v1 import common_pb2, domain_pb2, domain_pb2_grpc, recording_pb2, recording_pb2_grpc
from recorder.v1 import storage_pb2, storage_pb2_grpc, template_pb2, template_pb2_grpc

State = recording_pb2.Recording.State
OVER = (State.SUCCEEDED, State.INCOMPLETE, State.FAILED)
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED)


def connect(address):
    """A channel that sends the token with every call."""
    token, ca = os.environ.get("RECCTL_TOKEN"), os.environ.get("RECCTL_CA")
    if ca:
        with open(ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        if token:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
        return grpc.secure_channel(address, credentials)
    channel = grpc.insecure_channel(address)
    return grpc.intercept_channel(channel, Bearer(token)) if token else channel


class Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Without TLS gRPC sends no call credentials; a header does."""

    def __init__(self, token):
        self.header = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, call, details, request):
        return call(self.with_header(details), request)

    def intercept_unary_stream(self, call, details, request):
        return call(self.with_header(details), request)

    def with_header(self, details):
        return details._replace(metadata=[*(details.metadata or ()), self.header])


def details(error):
    """Every google.rpc detail of an error, unpacked."""
    status = rpc_status.from_call(error)
    for packed in status.details if status else ():
        for kind in (ErrorInfo, BadRequest):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                yield message


def create(call, request):
    """Creates something, or finds it there."""
    try:
        return call(request).name
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.ALREADY_EXISTS:
            return None
        raise


def prepare(channel, domain, directory):
    """Storage, template, domain and binding; returns when every media node has applied the binding."""
    # A bucket instead: Storage(s3=Storage.S3(bucket=..., region=..., access_key_id=..., secret_access_key=...)).
    storage = storage_pb2.Storage(file_system=storage_pb2.Storage.FileSystem(directory=directory))
    storages = storage_pb2_grpc.StorageServiceStub(channel)
    create(storages.CreateStorage, storage_pb2.CreateStorageRequest(storage_id="python", storage=storage))
    Template = template_pb2.Template
    template = Template(
        storage="storages/python",
        mp4=Template.Mp4(max_file_duration=Duration(seconds=3600)),
        hls=Template.Hls(segment_duration=Duration(seconds=2)),
    )
    templates = template_pb2_grpc.TemplateServiceStub(channel)
    create(templates.CreateTemplate, template_pb2.CreateTemplateRequest(template_id="python", template=template))
    domains = domain_pb2_grpc.DomainServiceStub(channel)
    create(domains.CreateDomain, domain_pb2.CreateDomainRequest(domain_id=domain))
    domains.BindTemplate(domain_pb2.BindTemplateRequest(template="python", domains=[domain]))
    while True:
        bindings = domains.ListBindings(domain_pb2.ListBindingsRequest(domain=domain, template="python")).bindings
        if bindings and all(binding.state == domain_pb2.Binding.ACTIVE for binding in bindings):
            return
        time.sleep(0.1)


def watch(recordings, stream, token):
    """The next recording of the stream, once it is over. The token misses nothing, whatever breaks in between."""
    while True:
        try:
            request = recording_pb2.WatchRecordingsRequest(stream=stream, resume_token=token)
            for message in recordings.WatchRecordings(request):
                token = message.resume_token or token
                if not message.HasField("recording"):
                    continue
                recording = message.recording
                print(f"{recording.name} {State.Name(recording.state)}", flush=True)
                if recording.state in OVER:
                    return recording
        except grpc.RpcError as error:
            if error.code() not in AGAIN:
                raise
            time.sleep(0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="address of the API, host:port")
    parser.add_argument("domain", help="push domain")
    parser.add_argument("stream", help="stream to wait for")
    parser.add_argument("--directory", default="examples", help="folder in the library of the media node")
    options = parser.parse_args()
    channel = connect(options.server)
    recordings = recording_pb2_grpc.RecordingServiceStub(channel)
    stream = common_pb2.StreamRef(domain=options.domain, app="live", stream=options.stream)
    try:
        prepare(channel, options.domain, options.directory)
        token = recordings.ListRecordings(recording_pb2.ListRecordingsRequest(stream=stream)).resume_token
        print(f"ready: publish {options.stream} on {options.domain}", flush=True)
        recording = watch(recordings, stream, token)
        for file in recordings.ListFiles(recording_pb2.ListFilesRequest(parent=recording.name)).files:
            state = recording_pb2.File.State.Name(file.state)
            print(f"file {file.name.rsplit('/')[-1]} {state} {file.size_bytes} {file.uri}", flush=True)
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        for detail in details(error):
            print(f"  {detail}".rstrip().replace("\n", "\n  "), file=sys.stderr)
        sys.exit(1)
    sys.exit(0 if recording.state == State.SUCCEEDED else 1)


if __name__ == "__main__":
    main()
