#!/usr/bin/env python3
"""Copies the packets of a file into another, or to a publish URL, with a newer ffmpeg than Debian's.

Usage: remux.py INPUT OUTPUT

Its FLV muxer and demuxer (that of the libraries inside PyAV) speak Enhanced RTMP: H.265, AV1 and VP9 are published by it as
encoders publish them, and the FLV files that were recorded are read by it as players read them. An rtmp:// URL is FLV.
"""

import sys

import av


def remux(source, target):
    publishes = target.startswith("rtmp://")
    with av.open(source) as read, av.open(target, "w", format="flv" if publishes else None) as write:
        streams = {stream.index: write.add_stream_from_template(stream, opaque=True) for stream in read.streams}
        for packet in read.demux():
            # The last one of every stream is empty.
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                write.mux(packet)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        remux(*sys.argv[1:])
    except (OSError, av.FFmpegError) as error:
        sys.exit(f"failed: {error}")
