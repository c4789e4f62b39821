#!/usr/bin/env python3
"""Publishes a flash and a beep at the beginning of every second over WHIP with GStreamer's webrtcbin.

Usage: whip_gstreamer.py URL [--seconds N] [--codec h264|h265|vp9|vp8] [--backlog N] [--token T] [--end delete|kill]

Prints `connected` when media flows. `--backlog` offers so many seconds after the encoders have begun.
"""

import argparse
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

CODECS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=500 key-int-max=60"
            " ! video/x-h264,profile=constrained-baseline ! h264parse"
            " ! rtph264pay config-interval=-1 pt=96 aggregate-mode=zero-latency",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast bitrate=500 key-int-max=60 ! h265parse"
            " ! rtph265pay config-interval=-1 pt=96 aggregate-mode=zero-latency",
    "vp9": "vp9enc deadline=1 cpu-used=8 lag-in-frames=0 threads=1 target-bitrate=500000 keyframe-max-dist=60 ! rtpvp9pay pt=96",
    "vp8": "vp8enc deadline=1 cpu-used=8 lag-in-frames=0 threads=1 target-bitrate=500000 keyframe-max-dist=60 ! rtpvp8pay pt=96",
}

PIPELINE = """
webrtcbin name=out bundle-policy=max-bundle
videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=180,framerate=30/1
  ! videobalance name=light
  ! {chain} ! application/x-rtp,media=video,encoding-name={name},payload=96 ! out.
audiotestsrc is-live=true wave=ticks freq=1000 sine-periods-per-tick=100 volume=0.5 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay pt=111
  ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! out.
"""


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


class Publisher:
    def __init__(self, options):
        self.options, self.session = options, None
        self.pipeline = Gst.parse_launch(PIPELINE.format(chain=CODECS[options.codec], name=options.codec.upper()))
        self.out = self.pipeline.get_by_name("out")
        self.light = self.pipeline.get_by_name("light")
        self.light.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self.flash)
        for index in range(2):
            transceiver = self.out.emit("get-transceiver", index)
            transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
        self.out.connect("on-negotiation-needed", self.negotiate)
        self.out.connect("notify::connection-state", self.changed)
        self.out.connect("notify::ice-gathering-state", self.gathered)
        self.loop = GLib.MainLoop()
        self.posted = False

    def flash(self, _, info):
        is_on = (info.get_buffer().pts + Gst.MSECOND) % Gst.SECOND < Gst.SECOND // 10
        self.light.set_property("brightness", 1.0 if is_on else 0.0)
        return Gst.PadProbeReturn.OK

    def negotiate(self, _):
        promise = Gst.Promise.new_with_change_func(self.created)
        self.out.emit("create-offer", None, promise)

    def created(self, promise):
        # The reply owns the offer.
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.out.emit("set-local-description", offer, Gst.Promise.new())

    def gathered(self, *_):
        complete = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if self.out.get_property("ice-gathering-state") != complete or self.posted:
            return
        self.posted = True
        threading.Thread(target=self.post, daemon=True).start()

    def post(self):
        time.sleep(self.options.backlog)
        offer = self.out.get_property("local-description").sdp.as_text()
        status, headers, answer = request("POST", self.options.url, self.options.token, offer)
        if status != 201:
            print(f"refused {status} {answer}", flush=True)
            os._exit(3)
        self.session = urllib.parse.urljoin(self.options.url, headers["Location"])
        _, message = GstSdp.SDPMessage.new_from_text(answer)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.out.emit("set-remote-description", description, Gst.Promise.new())

    def changed(self, *_):
        state = self.out.get_property("connection-state")
        print(state.value_nick, flush=True)
        if state == GstWebRTC.WebRTCPeerConnectionState.CONNECTED:
            GLib.timeout_add(int(self.options.seconds * 1000), self.end)

    def end(self):
        if self.options.end == "delete":
            request("DELETE", self.session, self.options.token)
        os._exit(0)

    def run(self):
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add_seconds(int(self.options.seconds + self.options.backlog) + 30, lambda: os._exit(4))
        self.loop.run()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--codec", choices=list(CODECS), default="h264")
    parser.add_argument("--backlog", type=float, default=0)
    parser.add_argument("--token")
    parser.add_argument("--end", choices=["delete", "kill"], default="delete")
    Gst.init(None)
    Publisher(parser.parse_args()).run()


if __name__ == "__main__":
    main()
