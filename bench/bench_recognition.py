"""What recognising a face costs: the worker's path against the sum of its parts, and ONNX Runtime's threads.

    CAMFLEET_MODEL_DIR=… CAMFLEET_SAMPLE_DIR=… python bench/bench_recognition.py [--people 1000] [--seconds 8]

CPU time of one process. *Path* is what a worker does with pictures of a 1080p street view, five a second:
find faces, follow them, choose whom to look at, measure quality, align, embed, compare with the enrolled
people and vote. The reference is what its parts cost alone, in the same run, as often as the path needed
them: YuNet on every picture, one alignment and one embedding a face that was embedded. The second look at
faces that are small in the source is in the path, not in the sum.

Threads: each model ten times a second, with one thread that does not spin (as Camfleet runs it) and with what
ONNX Runtime does by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

CLIP = "people_walking_1080p.mp4"
PATH = """
import json, sys, time
from pathlib import Path
import av, numpy as np
from camfleet_protocol.gallery import GalleryPart, GalleryPerson, GalleryUpdate
from camfleet_protocol.settings import FaceRecognitionSettings, InferenceSettings, PrivacySettings, Settings
from camfleet_worker.detectors.base import DetectorContext, load_detector
from camfleet_worker.recognition.align import align_face
from camfleet_worker.recognition.gallery import GalleryStore
from camfleet_worker.recognition.recognizer import Recognizer
from camfleet_worker.recognition.refine import WORTH_IT_BELOW, LandmarkRefiner, SecondLook
from camfleet_worker.sources.video import VideoPicture
from camfleet_worker.tracking.tracker import Tracker
from camfleet_worker.vision import prepare_opencv

clip, models, people, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
prepare_opencv(1)
context = DetectorContext(models)
settings = Settings(
    inference=InferenceSettings(face_recognition=FaceRecognitionSettings(enabled=True)),
    privacy=PrivacySettings(retention_days=30),
)
with av.open(clip) as container:
    container.streams.video[0].codec_context.thread_count = 1
    frames = [frame for n, frame in enumerate(container.decode(video=0)) if n % 5 == 0]
pictures = []
for turn in range(rounds):
    for n, frame in enumerate(frames):
        at = round((1e6 + turn * 1000 + n / 5) * 1e9)
        pictures.append(VideoPicture(frame, number=n, captured_ns=at, discontinuity=n == 0))
for picture in pictures:
    picture.bgr(640)

detector = load_detector("yunet", context)
store = GalleryStore()
recognizer = Recognizer(context, store)
assert recognizer.prepare(settings, 0.0), recognizer.message
embedder = recognizer._embedder
random = np.random.default_rng(0)
vectors = random.normal(size=(people, embedder.dimensions)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
parts = max(1, -(-people // 500))
for part in range(parts):
    some = vectors[part * 500 : part * 500 + 500].astype(np.float16)
    named = [GalleryPerson(id=f"p{part}-{n}", name="n", group="staff", rows=1) for n in range(len(some))]
    meta = GalleryPart(embedder=embedder.identity, dimensions=embedder.dimensions, base=0, part=part,
                       parts=parts, people=tuple(named))
    store.apply(GalleryUpdate(1, meta, some.tobytes()))

faces = []
class Counting:
    def __init__(self, real): self._real = real
    def __getattr__(self, name): return getattr(self._real, name)
    def embed(self, aligned):
        faces.extend(aligned)
        return self._real.embed(aligned)
recognizer._embedder = Counting(embedder)

tracker, found = Tracker(), []
def path(pictures):
    for picture in pictures:
        detections = detector.detect(picture.bgr(640), confidence=0.7)
        found.append(detections)
        at = picture.captured_ns / 1e9
        tracks = tracker.update(detections, looked_for=frozenset({"face"}), at=at, aspect=16 / 9)
        recognizer.reconsider(settings, at)
        recognizer.observe(picture, [track for track in tracks if track.confirmed], settings, at)
        recognizer.keep({track.id for track in tracker.live(at)})

looked_again = []
look_again = LandmarkRefiner.look_again
def counting(self, *arguments):
    looked_again.append(1)
    return look_again(self, *arguments)
LandmarkRefiner.look_again = counting
path(pictures[:3])
faces.clear(), found.clear(), looked_again.clear()
began = time.process_time()
path(pictures[3:])
whole = time.process_time() - began
number, twice = len(faces), len(looked_again)

def alone(function, arguments, times):
    for argument in arguments[:3]: function(*argument)
    began = time.process_time()
    for n in range(times): function(*arguments[n % len(arguments)])
    return (time.process_time() - began) / times

detect = alone(lambda p: detector.detect(p.bgr(640), confidence=0.7), [(p,) for p in pictures], len(pictures))
marks = []
refined = []
for picture, detections in zip(pictures[3 : 3 + len(frames)], found):
    image = picture.bgr(0)
    for one in detections:
        points = np.asarray(one.landmarks, np.float32) * (picture.width, picture.height)
        marks.append((image, points.astype(np.float32)))
        box = tuple(float(v) for v in np.multiply(one.box, (picture.width, picture.height) * 2))
        if box[3] < WORTH_IT_BELOW:
            refined.append((image, box, points.astype(np.float32)))
align = alone(align_face, marks, max(300, number))
embed = alone(lambda face: embedder.embed([face]), [(face,) for face in faces[:50]], max(100, number))
again = alone(SecondLook(context).landmarks, refined, 200)
print(json.dumps({"whole": whole, "pictures": len(pictures) - 3, "faces": number, "detect": detect,
                  "align": align, "embed": embed, "again": again, "twice": twice}))
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
    parser.add_argument("--rounds", type=int, default=4, help="how often the clip is seen")
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    if not {"CAMFLEET_MODEL_DIR", "CAMFLEET_SAMPLE_DIR"} <= os.environ.keys():
        sys.exit("set CAMFLEET_MODEL_DIR and CAMFLEET_SAMPLE_DIR")
    models, clip = Path(os.environ["CAMFLEET_MODEL_DIR"]), Path(os.environ["CAMFLEET_SAMPLE_DIR"]) / CLIP
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, Python {platform.python_version()}")

    got = run(PATH, clip, models, options.people, options.rounds)
    parts = got["pictures"] * got["detect"] + got["faces"] * (got["align"] + got["embed"])
    print(f"\n{got['pictures']:.0f} pictures, {got['faces']:.0f} faces embedded, {options.people} people")
    print("| what | CPU ms |\n|---|---|")
    for name, what in (
        ("detect", "YuNet, a picture"),
        ("align", "alignment, a face"),
        ("embed", "embedding, a face"),
    ):
        print(f"| {what} | {got[name] * 1000:.2f} |")
    twice = f"second look at a small face, {got['twice']:.0f} of them; not in the sum"
    print(f"| {twice} | {got['again'] * 1000:.2f} |")
    print(f"| sum of the parts, a recognised face | {parts / got['faces'] * 1000:.2f} |")
    print(f"| the path, a recognised face | {got['whole'] / got['faces'] * 1000:.2f} |")
    print(f"| **ratio** | **{got['whole'] / parts:.2f}** |")

    print("\n| model, ten times a second | threads | CPU ms a call | ms a call |\n|---|---|---|---|")
    for file, shape in MODELS:
        own = run(THREADS, models / file, json.dumps(shape), "own", options.seconds)
        other = run(THREADS, models / file, json.dumps(shape), "default", options.seconds, threads=None)
        print(f"| {file} | one, no spinning | {own['cpu'] * 1000:.1f} | {own['wall'] * 1000:.1f} |")
        print(f"| | ONNX Runtime's default | {other['cpu'] * 1000:.1f} | {other['wall'] * 1000:.1f} |")
        print(f"| | **ratio** | **{other['cpu'] / own['cpu']:.2f}** | {other['wall'] / own['wall']:.2f} |")


if __name__ == "__main__":
    main()
