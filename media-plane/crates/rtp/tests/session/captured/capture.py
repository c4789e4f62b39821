#!/usr/bin/env python3
"""Captures what real encoders and payloaders make of a moving picture, for the tests of the RTP crate.

Usage: capture.py FOLDER gstreamer   (with the system's Python, for GStreamer's payloaders)
       capture.py FOLDER ffmpeg      (with .tools/python, for those of ffmpeg 8)

A capture is a list of records: one byte (0 = a frame as the encoder gave it, 1 = an RTP packet as sent), its length in
four bytes, its bytes. Frames come in coding order, and before the packets they are sent in only by chance.
"""

import pathlib
import socket
import struct
import sys

SIZE, FRAMES, KEYS, BYTES = (96, 64), 12, 6, 220


def write(folder, name, records):
    path = pathlib.Path(folder) / f"{name}.rtp"
    path.write_bytes(b"".join(struct.pack(">BI", kind, len(data)) + data for kind, data in records))
    print(path, sum(kind == 0 for kind, _ in records), "frames", sum(kind == 1 for kind, _ in records), "packets")


def gstreamer(folder):
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    chains = {
        "gstreamer-h265": f"x265enc tune=zerolatency key-int-max={KEYS} bitrate=300"
        " ! video/x-h265,stream-format=byte-stream,alignment=au ! h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au ! tee name=coded ! queue ! rtph265pay config-interval=-1",
        "gstreamer-h265-reordered": f"x265enc key-int-max={KEYS} bitrate=300 option-string=bframes=2:open-gop=1:rc-lookahead=4"
        " ! video/x-h265,stream-format=byte-stream,alignment=au ! h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au ! tee name=coded ! queue ! rtph265pay config-interval=-1"
        " aggregate-mode=zero-latency",
        "gstreamer-vp9": f"vp9enc deadline=1 keyframe-max-dist={KEYS} target-bitrate=300000 ! tee name=coded ! queue ! rtpvp9pay picture-id-mode=15-bit",
        "gstreamer-vp8": f"vp8enc deadline=1 keyframe-max-dist={KEYS} target-bitrate=300000 error-resilient=partitions"
        " ! tee name=coded ! queue ! rtpvp8pay picture-id-mode=15-bit",
    }
    for name, chain in chains.items():
        records = []
        pipeline = Gst.parse_launch(
            f"videotestsrc num-buffers={FRAMES} pattern=ball ! video/x-raw,format=I420,width={SIZE[0]},height={SIZE[1]},framerate=30/1"
            f" ! {chain} mtu={BYTES} pt=96 timestamp-offset=1000 seqnum-offset=65530 ! appsink name=packets sync=false async=false"
            " coded. ! queue ! appsink name=frames sync=false async=false")
        pipeline.set_state(Gst.State.PLAYING)
        for kind, sink in ((0, "frames"), (1, "packets")):
            while sample := pipeline.get_by_name(sink).emit("pull-sample"):
                buffer = sample.get_buffer()
                records.append((kind, buffer.extract_dup(0, buffer.get_size())))
        pipeline.set_state(Gst.State.NULL)
        write(folder, name, records)


def ffmpeg(folder):
    import fractions

    import av
    import numpy

    encoders = {
        "ffmpeg-av1": ("libsvtav1", {"preset": "12", "g": str(KEYS), "crf": "40", "svtav1-params": "pred-struct=1"}),
        "ffmpeg-h265": ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": f"keyint={KEYS}:log-level=0:info=0"}),
        "ffmpeg-vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": str(KEYS), "lag-in-frames": "0"}),
        "ffmpeg-vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "g": str(KEYS)}),
    }
    for name, (encoder, options) in encoders.items():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.5)
        out = av.open(f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size={BYTES}", "w", format="rtp",
                      options={"strict": "experimental", "payload_type": "96"})
        video = out.add_stream(encoder, rate=30, options=options)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        if name != "ffmpeg-av1":
            video.bit_rate = 300_000
        records = []

        def send(frame):
            for packet in video.encode(frame):
                records.append((0, bytes(packet)))
                out.mux(packet)

        for count in range(FRAMES):
            image = numpy.zeros((SIZE[1], SIZE[0], 3), numpy.uint8)
            image[:, :, 0] = numpy.arange(SIZE[0])
            image[10:40, count * 4:count * 4 + 30] = numpy.random.default_rng(count).integers(0, 255, (30, 30, 3))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = count, fractions.Fraction(1, 30)
            send(frame)
        send(None)
        out.close()
        try:
            while True:
                packet = receiver.recv(65_536)
                # RTCP has its types where RTP has marker and payload type.
                if packet[1] not in range(200, 205):
                    records.append((1, packet))
        except socket.timeout:
            pass
        write(folder, name, records)


if __name__ == "__main__":
    {"gstreamer": gstreamer, "ffmpeg": ffmpeg}[sys.argv[2]](sys.argv[1])
