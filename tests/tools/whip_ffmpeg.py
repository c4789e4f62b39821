#!/usr/bin/env python3
"""Publishes a flash and a beep at the beginning of every second over WHIP with ffmpeg's own muxer (8.0 and later).

Usage: whip_ffmpeg.py URL [--seconds N] [--certificate PEM --key PEM]

The muxer is that of the libraries inside PyAV, because Debian's ffmpeg is older. Like `ffmpeg -f whip`, it makes itself a
certificate unless it is given one. Prints how many pictures it has sent; ends with 3 and the reason when it cannot.
"""

import argparse
import fractions
import sys
import time

import av
import numpy

FPS, RATE, FRAME = 30, 48_000, 960


def is_on(moment):
    return (moment + 0.001) % 1 < 0.1


def sound(count):
    moments = (count * FRAME + numpy.arange(FRAME)) / RATE
    wave = (numpy.sin(2 * numpy.pi * 1000 * moments) * 20_000 * is_on(moments)).astype(numpy.int16)
    frame = av.AudioFrame.from_ndarray(numpy.repeat(wave, 2).reshape(1, -1), format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, count * FRAME, fractions.Fraction(1, RATE)
    return frame


def picture(count):
    image = numpy.full((180, 320, 3), 255 if is_on(count / FPS) else 16, numpy.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame.pts, frame.time_base = count, fractions.Fraction(1, FPS)
    return frame


def publish(options):
    files = {"cert_file": options.certificate, "key_file": options.key}
    out = av.open(options.url, "w", format="whip", options={name: path for name, path in files.items() if path})
    video = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "tune": "zerolatency", "g": "30"})
    video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
    audio = out.add_stream("libopus", rate=RATE, options={"b": "64000"})
    audio.layout = "stereo"
    # The handshake is not part of the time that is published.
    out.start_encoding()
    start, sounds = time.monotonic(), 0
    for count in range(int(options.seconds * FPS)):
        time.sleep(max(0.0, start + count / FPS - time.monotonic()))
        while sounds * FRAME / RATE <= count / FPS:
            for packet in audio.encode(sound(sounds)):
                out.mux(packet)
            sounds += 1
        for packet in video.encode(picture(count)):
            out.mux(packet)
    out.close()
    print(f"sent {count + 1} pictures", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options = parser.parse_args()
    try:
        publish(options)
    except (OSError, av.FFmpegError) as error:
        print(f"failed: {error}", flush=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
