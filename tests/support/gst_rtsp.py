"""A real RTSP server; run with the system's Python, which has GStreamer's bindings.

Reads one line of JSON from standard input, `{"port": …, "username": …, "password": …}` and perhaps `host` (no
arguments: a password would show in the process list), prints the port once it listens, and ends when standard
input does. Each further line is the pattern to show from then on: `ball` moves, `smpte75` does not.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc name=source is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=500"
    " ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
options = json.loads(sys.stdin.readline())
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address(options.get("host", "127.0.0.1"))
server.set_service(str(options["port"]))
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(PIPELINE)
factory.set_shared(True)
if options.get("username"):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    basic = GstRtspServer.RTSPAuth.make_basic(options["username"], options["password"])
    auth.add_basic(basic, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/cam", factory)
loop = GLib.MainLoop()
pattern, sources = "ball", []


def configure(_, media):
    sources[:] = [media.get_element().get_by_name("source")]
    Gst.util_set_object_arg(sources[0], "pattern", pattern)


def told(*_):
    global pattern
    line = sys.stdin.readline()
    pattern = line.strip() or pattern
    for source in sources:
        Gst.util_set_object_arg(source, "pattern", pattern)
    return bool(line)


factory.connect("media-configure", configure)
GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IO_IN, told)
GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IO_HUP, lambda *_: loop.quit())
if not server.attach(None):
    sys.exit("cannot listen")
print(server.get_bound_port(), flush=True)
loop.run()
