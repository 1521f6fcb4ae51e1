"""What recognising a face costs: the worker's path against the sum of its parts, and ONNX Runtime's threads.

    CAMFLEET_MODEL_DIR=… CAMFLEET_SAMPLE_DIR=… python bench/bench_recognition.py [--people 1000] [--seconds 8]

CPU time of one process. *Path* is all that a worker's inference thread does with pictures of a 1080p street
view, five a second: find faces, follow them, choose whom to look at, measure quality, align, embed, compare
with the enrolled people and vote; and, told apart, keep appearances, each with its best picture as JPEG, and
put their events into the outbox on disk. The reference is what its parts cost alone, in the same run and in
turns with it, as often as the path needed them: YuNet on every picture, one alignment and one embedding a
face that was embedded. The second look at faces that are small in the source is in the path, not in the sum.

Threads: each model ten times a second, with one thread that does not spin (as Camfleet runs it) and with what
ONNX Runtime does by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from measuring import clip_and_models, machine

PATH = """
import json, sys, tempfile, time
from pathlib import Path
import av, numpy as np
from camfleet_protocol.gallery import GalleryPart, GalleryPerson, GalleryUpdate
from camfleet_protocol.settings import FaceRecognitionSettings, InferenceSettings, PrivacySettings, Settings
from camfleet_worker.counters import Counters
from camfleet_worker.detectors.base import DetectorContext, load_detector
from camfleet_worker.dispatch import Dispatcher
from camfleet_worker.inference import Inference
from camfleet_worker.live import Live
from camfleet_worker.outbox import Outbox
from camfleet_worker.presence import Presence
from camfleet_worker.recognition.align import align_face
from camfleet_worker.recognition.embedder import load_embedder
from camfleet_worker.recognition.refine import WORTH_IT_BELOW, LandmarkRefiner, SecondLook
from camfleet_worker.sources.video import VideoPicture
from camfleet_worker.tracking.facade import Tracks
from camfleet_worker.vision import prepare_opencv
from camfleet_worker.watchdog import Stage

clip, models, people, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
prepare_opencv(1)
context = DetectorContext(models)
settings = Settings(
    inference=InferenceSettings(detectors=("yunet",), face_recognition=FaceRecognitionSettings(enabled=True)),
    privacy=PrivacySettings(retention_days=30),
)
with av.open(clip) as container:
    container.streams.video[0].codec_context.thread_count = 1
    frames = [frame for n, frame in enumerate(container.decode(video=0)) if n % 5 == 0]
pictures = []
for turn in range(rounds):
    for n, frame in enumerate(frames):
        at = round((1.79e9 + turn * 1000 + n / 5) * 1e9)
        pictures.append(VideoPicture(frame, number=n, captured_ns=at, discontinuity=n == 0))
for picture in pictures:
    picture.bgr(640)

# All of a worker's inference thread, as worker.py puts it together.
folder = tempfile.TemporaryDirectory()
outbox, live, counters = Outbox(Path(folder.name), "bench"), Live(settings, ""), Counters()
dispatcher = Dispatcher(live, counters)
tracks = Tracks(context, put=outbox.put)
inference = Inference(context, live=live, dispatcher=dispatcher, counters=counters, stage=Stage("inference"),
                      presence=Presence(lambda kind: None, lambda kind, seconds: None, time.monotonic),
                      tracking=tracks)
def path(pictures):
    for picture in pictures:
        dispatcher.for_inference.put(picture)
        inference._step()

path(pictures[:1])
embedder = load_embedder("mobilefacenet", context)
random = np.random.default_rng(0)
vectors = random.normal(size=(people, embedder.dimensions)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
parts = max(1, -(-people // 500))
for part in range(parts):
    some = vectors[part * 500 : part * 500 + 500].astype(np.float16)
    named = [GalleryPerson(id=f"p{part}-{n}", name="n", group="staff", rows=1) for n in range(len(some))]
    meta = GalleryPart(embedder=embedder.identity, dimensions=embedder.dimensions, base=0, part=part,
                       parts=parts, people=tuple(named))
    tracks.apply_gallery(GalleryUpdate(1, meta, some.tobytes()))
assert tracks.gallery_version == 1, inference.message

faces, looked_again = [], []
class Counting:
    def __init__(self, real): self._real = real
    def __getattr__(self, name): return getattr(self._real, name)
    def embed(self, aligned):
        faces.extend(aligned)
        return self._real.embed(aligned)
recognizer = tracks._pipeline._recognizer
recognizer._embedder = Counting(recognizer._embedder)
look_again = LandmarkRefiner.look_again
def counting(self, *arguments):
    looked_again.append(1)
    return look_again(self, *arguments)
LandmarkRefiner.look_again = counting

# What events cost, apart: appearances, their pictures as JPEG, the outbox.
telling = [0.0]
def timed(owner, name):
    call = getattr(owner, name)
    def measured(*arguments, **named):
        began = time.process_time()
        try:
            return call(*arguments, **named)
        finally:
            telling[0] += time.process_time() - began
    setattr(owner, name, measured)
timed(tracks._pipeline._appearances, "observe")
timed(tracks._pipeline, "_photograph")
timed(tracks._pipeline, "_tell")

def cpu(work):
    began = time.process_time()
    work()
    return time.process_time() - began

# The path and its parts in turns, picture by picture, so that what else the machine does hits both alike; and
# of each picture the median over the rounds, in which it is the same work: everybody is gone after 1000 s.
detector = load_detector("yunet", context)
costs = {name: [[] for _ in frames] for name in ("whole", "events", "detect", "align", "embed")}
refined, seen, number, twice = [], 0, 0, 0
for n, picture in enumerate(pictures):
    before, found, frame = len(faces), [], n % len(frames)
    telling[0] = 0.0
    whole, events = cpu(lambda: path([picture])), telling[0]
    detect = cpu(lambda: found.extend(detector.detect(picture.bgr(640), confidence=0.7)))
    some, image = faces[before:], picture.bgr(0)
    size = np.float32((picture.width, picture.height))
    marks = [np.asarray(one.landmarks, np.float32) * size for one in found]
    align = cpu(lambda: [align_face(image, mark) for mark in marks]) / max(1, len(marks)) * len(some)
    embed = cpu(lambda: [embedder.embed([face]) for face in some])
    picture._images.clear()
    if n < len(frames):
        boxes = [tuple(map(float, np.multiply(one.box, np.tile(size, 2)))) for one in found]
        refined += [(image, box, mark) for box, mark in zip(boxes, marks) if box[3] < WORTH_IT_BELOW]
        looked_again.clear()
        continue
    for name, cost in zip(costs, (whole, events, detect, align, embed), strict=True):
        costs[name][frame].append(cost)
    seen, number = seen + len(found), number + len(some)
whole, events, detect, align, embed = (sum(map(np.median, costs[name])) for name in costs)
rounds -= 1
twice, second = len(looked_again), SecondLook(context)
second.landmarks(*refined[0])
again = cpu(lambda: [second.landmarks(*one) for one in refined]) / len(refined)
print(json.dumps({"whole": whole, "pictures": len(frames), "seen": seen / rounds, "faces": number / rounds,
                  "telling": events, "detect": detect, "align": align, "embed": embed, "again": again,
                  "twice": twice / rounds, "events": len(outbox) / (rounds + 1)}))
"""
THREADS = """
import json, sys, time
from pathlib import Path
import numpy as np, onnxruntime as ort
from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.detectors.session import make_session
path, shape, mode, seconds = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], float(sys.argv[4])
if mode == "own":
    session = make_session(path, DetectorContext())
else:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: np.random.default_rng(0).random(shape, np.float32)}
for _ in range(5): session.run(None, feed)
calls, began, cpu, wall = int(seconds * 10), time.monotonic(), time.process_time(), []
for n in range(calls):
    at = time.perf_counter()
    session.run(None, feed)
    wall.append(time.perf_counter() - at)
    time.sleep(max(0.0, began + (n + 1) / 10 - time.monotonic()))
print(json.dumps({"cpu": (time.process_time() - cpu) / calls, "wall": sorted(wall)[calls // 2]}))
"""
MODELS = (("yunet_n_dynamic.onnx", (1, 3, 384, 640)), ("mobilefacenet.onnx", (1, 3, 112, 112)))


def run(script: str, *arguments: object, threads: str | None = "1") -> dict[str, float]:
    """Run a script in a process of its own; what it says."""
    environment = dict(os.environ)
    if threads is not None:
        environment.update(OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
    done = subprocess.run(
        [sys.executable, "-c", script, *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=6, help="how often the clip is seen; once to warm up")
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    clip, models = clip_and_models()
    print(machine("onnxruntime"))

    got = run(PATH, clip, models, options.people, options.rounds)
    pictures, faces, parts = got["pictures"], got["faces"], got["detect"] + got["align"] + got["embed"]
    print(f"\n{pictures:.0f} pictures with {got['seen'] / pictures:.1f} faces each, {faces:.0f} embedded,")
    print(f"{options.people} people, {got['events']:.0f} events\n\n| what | CPU ms |\n|---|---|")
    print(f"| YuNet, a picture | {got['detect'] / pictures * 1000:.2f} |")
    print(f"| alignment, a face | {got['align'] / faces * 1000:.2f} |")
    print(f"| embedding, a face | {got['embed'] / faces * 1000:.2f} |")
    twice = f"second look at a small face, {got['twice']:.0f} of them; not in the sum"
    print(f"| {twice} | {got['again'] * 1000:.2f} |")
    print(f"| sum of the parts, a recognised face | {parts / faces * 1000:.2f} |")
    recognising = got["whole"] - got["telling"]
    print(f"| the path to a name, a recognised face | {recognising / faces * 1000:.2f} |")
    print(f"| **ratio** | **{recognising / parts:.2f}** |")
    print(f"| its appearances, pictures and events besides | {got['telling'] / faces * 1000:.2f} |")
    print(f"| ratio with these | {got['whole'] / parts:.2f} |", flush=True)

    print("\n| model, ten times a second | threads | CPU ms a call | ms a call |\n|---|---|---|---|")
    for file, shape in MODELS:
        own = run(THREADS, Path(models) / file, json.dumps(shape), "own", options.seconds)
        other = run(THREADS, Path(models) / file, json.dumps(shape), "default", options.seconds, threads=None)
        print(f"| {file} | one, no spinning | {own['cpu'] * 1000:.1f} | {own['wall'] * 1000:.1f} |")
        print(f"| | ONNX Runtime's default | {other['cpu'] * 1000:.1f} | {other['wall'] * 1000:.1f} |")
        print(f"| | **ratio** | **{other['cpu'] / own['cpu']:.2f}** | {other['wall'] / own['wall']:.2f} |")


if __name__ == "__main__":
    main()
