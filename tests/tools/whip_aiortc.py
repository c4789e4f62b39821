#!/usr/bin/env python3
"""Publishes a flash and a beep at the beginning of every second over WHIP with aiortc.

Usage: whip_aiortc.py URL [--seconds N] [--token T] [--end delete|close|kill] [--audio-only|--video-only] [--vp8]

Prints `connected` when media flows, and at the end how many frames it has sent. `--end delete` deletes the session,
`close` closes the connection only, `kill` ends the process without a word.
"""

import argparse
import asyncio
import fractions
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import av
import numpy
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack

RATE, FRAME = 48_000, 960


def is_on(moment):
    """The first tenth of every second; a hair earlier, because thirtieths of a second are not exact."""
    return (moment + 0.001) % 1 < 0.1


class Clock:
    """One clock for both tracks: picture and sound of a moment belong together."""

    def __init__(self):
        self.start = None

    async def until(self, seconds):
        if self.start is None:
            self.start = time.monotonic()
        await asyncio.sleep(max(0.0, self.start + seconds - time.monotonic()))


class Picture(MediaStreamTrack):
    kind = "video"

    def __init__(self, clock, fps=30, size=(320, 180)):
        super().__init__()
        self.clock, self.fps, self.count = clock, fps, 0
        width, height = size
        self.dark = numpy.full((height, width, 3), 32, numpy.uint8)
        self.dark[:, :, 2] = numpy.arange(width, dtype=numpy.uint16) * 255 // width
        self.white = numpy.full((height, width, 3), 255, numpy.uint8)

    async def recv(self):
        at = self.count / self.fps
        await self.clock.until(at)
        image = self.white if is_on(at) else self.dark.copy()
        if image is not self.white:
            left = self.count * 2 % 300
            image[80:100, left:left + 20] = 200
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts, frame.time_base = self.count * 90_000 // self.fps, fractions.Fraction(1, 90_000)
        self.count += 1
        return frame


class Sound(AudioStreamTrack):
    def __init__(self, clock):
        super().__init__()
        self.clock, self.count = clock, 0

    async def recv(self):
        at = self.count * FRAME / RATE
        await self.clock.until(at)
        moments = at + numpy.arange(FRAME) / RATE
        loud = is_on(moments)
        wave = (numpy.sin(2 * numpy.pi * 1000 * moments) * 20_000 * loud).astype(numpy.int16)
        stereo = numpy.repeat(wave, 2).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(stereo, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self.count * FRAME, fractions.Fraction(1, RATE)
        self.count += 1
        return frame


def request(method, url, token, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    message = urllib.request.Request(url, data=body and body.encode(), headers=headers, method=method)
    try:
        with urllib.request.urlopen(message, timeout=8) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--token")
    parser.add_argument("--end", choices=["delete", "close", "kill"], default="delete")
    parser.add_argument("--audio-only", action="store_true")
    parser.add_argument("--video-only", action="store_true")
    parser.add_argument("--vp8", action="store_true")
    options = parser.parse_args()

    connection, clock = RTCPeerConnection(RTCConfiguration(iceServers=[])), Clock()
    picture, sound = Picture(clock), Sound(clock)
    if not options.video_only:
        connection.addTransceiver(sound, direction="sendonly")
    if not options.audio_only:
        transceiver = connection.addTransceiver(picture, direction="sendonly")
        wanted = "video/VP8" if options.vp8 else "video/H264"
        codecs = [codec for codec in RTCRtpSender.getCapabilities("video").codecs
                  if codec.mimeType in (wanted, "video/rtx")]
        transceiver.setCodecPreferences(codecs)
    await connection.setLocalDescription(await connection.createOffer())
    loop = asyncio.get_running_loop()
    offer = connection.localDescription.sdp
    status, headers, answer = await loop.run_in_executor(None, request, "POST", options.url, options.token, offer)
    if status != 201:
        print(f"refused {status} {answer}", flush=True)
        os._exit(3)
    session = urllib.parse.urljoin(options.url, headers["Location"])
    connected = asyncio.Event()

    @connection.on("connectionstatechange")
    def changed():
        print(connection.connectionState, flush=True)
        if connection.connectionState == "connected":
            connected.set()

    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await asyncio.wait_for(connected.wait(), 15)
    await asyncio.sleep(options.seconds)
    print(f"sent {picture.count} pictures {sound.count} sounds", flush=True)
    if options.end == "kill":
        os._exit(0)
    if options.end == "delete":
        await loop.run_in_executor(None, request, "DELETE", session, options.token)
    await connection.close()
    # Encoder threads may still hold the interpreter.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
