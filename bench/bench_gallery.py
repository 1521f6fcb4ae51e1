"""What it costs to compare a face with 10,000 enrolled people, and to follow what detectors find.

    CAMFLEET_MODEL_DIR=… CAMFLEET_SAMPLE_DIR=… python bench/bench_gallery.py [--people 10000]

Comparing: CPU milliseconds of one thread a face, with one and with eight pictures of it in the vote, against
one product of a matrix of all people with one vector, in the same run. Following: CPU a picture of the street
clip (detections at 5/s; 1,000 people, none of whom is in it) beyond detection itself, against the detector.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
from measuring import machine  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from camfleet_protocol.gallery import GalleryPart, GalleryPerson, GalleryUpdate  # noqa: E402

MODEL = "bench@0123456789ab"
SHAPES = ((128, 1), (128, 4), (512, 1), (512, 3))
"""Values of a vector, and pictures that a person is enrolled with."""
CLIP = "people_walking_1080p.mp4"
ROUNDS = 300
PER_PART = 500


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_ms(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Median CPU milliseconds of this thread."""
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return statistics.median(times) * 1e3


def updates(people: int, dimensions: int, rows: int) -> tuple[list[GalleryUpdate], NDArray[np.float32]]:
    """A whole gallery of synthetic people in parts, and a face like one of them."""
    random = np.random.default_rng(dimensions + rows)
    parts, query = [], None
    for start in range(0, people, PER_PART):
        centres = random.normal(size=(PER_PART, 1, dimensions))
        faces = centres + 0.6 * random.normal(size=(PER_PART, rows, dimensions))
        faces /= np.linalg.norm(faces, axis=2, keepdims=True)
        if query is None:
            query = centres[0] + 0.8 * random.normal(size=(8, dimensions))
            query /= np.linalg.norm(query, axis=1, keepdims=True)
        meta = GalleryPart(
            embedder=MODEL,
            dimensions=dimensions,
            base=0,
            part=start // PER_PART,
            parts=people // PER_PART,
            people=tuple(
                GalleryPerson(id=f"person-{start + n}", name=f"Person {start + n}", group="staff", rows=rows)
                for n in range(PER_PART)
            ),
        )
        parts.append(GalleryUpdate(1, meta, faces.astype("<f2").tobytes()))
    assert query is not None
    return parts, query.astype(np.float32)


def compare(people: int, dimensions: int, rows: int) -> None:
    """One line of the table; a process of its own, so that memory can be measured."""
    from camfleet_worker.heap import keep_heap_small
    from camfleet_worker.recognition.gallery import GalleryStore

    keep_heap_small()  # as in a worker
    updates(PER_PART, dimensions, rows)  # loads what it needs
    before = resident()
    parts, query = updates(people, dimensions, rows)
    store = GalleryStore()
    store.use(MODEL, dimensions)
    began = time.process_time()
    while parts:
        store.apply(parts.pop(0))
    whole = time.process_time() - began
    taken = resident() - before
    gallery = store.current
    assert gallery is not None and len(gallery) == people
    matrix = np.ascontiguousarray(np.random.default_rng(0).normal(size=(people, dimensions)), np.float32)
    groups = ("staff", "visitor")
    one = cpu_ms(lambda: gallery.match(query[:1], now=1.0, groups=groups))
    eight = cpu_ms(lambda: gallery.match(query, now=1.0, groups=groups))
    bare = cpu_ms(lambda: matrix @ query[0])
    assert gallery.match(query, now=1.0).best is not None
    change = GalleryPart(
        embedder=MODEL, dimensions=dimensions, base=1, part=0, parts=1, removed=("person-7",)
    )
    began = time.process_time()
    store.apply(GalleryUpdate(2, change, b""))
    delta = time.process_time() - began
    print(
        f"| {dimensions} | {rows} | {bare:.2f} | {one:.2f} | {eight:.2f} | {one / bare:.1f} |"
        f" {gallery.bytes / 1e6:.0f} | {max(0, taken) / 1e6:.0f} | {whole:.2f} | {delta * 1e3:.0f} |",
        flush=True,
    )


def follow() -> None:
    """CPU of following and recognising, a picture."""
    import av

    from camfleet_protocol.settings import Settings
    from camfleet_worker.detectors.base import DetectorContext, load_detector
    from camfleet_worker.sources.video import VideoPicture
    from camfleet_worker.tracking.facade import Tracks
    from camfleet_worker.tracking_port import Ran
    from camfleet_worker.vision import prepare_opencv

    prepare_opencv(1)
    context = DetectorContext(Path(os.environ["CAMFLEET_MODEL_DIR"]))
    detector = load_detector("yunet", context)
    recognises = {"inference": {"faceRecognition": {"enabled": True}}, "privacy": {"retentionDays": 1}}
    for label, document in (("follow", {}), ("follow and recognise", recognises)):
        settings = Settings.model_validate(document)
        told: list[str] = []
        tracks = Tracks(context, put=lambda event_id, told=told, **fields: told.append(event_id))
        detect = observe = 0.0
        pictures = faces = 0
        for loop in range(3):
            with av.open(str(Path(os.environ["CAMFLEET_SAMPLE_DIR"]) / CLIP)) as container:
                for number, frame in enumerate(container.decode(video=0)):
                    if number % 5:
                        continue
                    at = 1_790_000_000 + loop * 30 + number / 25
                    picture = VideoPicture(
                        frame, number=number, captured_ns=round(at * 1e9), discontinuity=False
                    )
                    image = picture.bgr(640)
                    began = time.thread_time()
                    found = detector.detect(image, confidence=0.7)
                    middle = time.thread_time()
                    tracks.observe(picture, found, [Ran("yunet", "face")], settings)
                    end = time.thread_time()
                    if tracks.embedder and not tracks.gallery_version:
                        for update in updates(1000, 128, 1)[0]:
                            part = update.part.model_copy(update={"embedder": tracks.embedder})
                            tracks.apply_gallery(GalleryUpdate(1, part, update.vectors))
                    if loop:  # libraries and models are loaded in the first
                        detect, observe = detect + middle - began, observe + end - middle
                        pictures, faces = pictures + 1, faces + len(found)
        print(
            f"| {label} | {faces / pictures:.1f} | {detect / pictures * 1e3:.1f} |"
            f" {observe / pictures * 1e3:.2f} | {observe / detect:.2f} | {len(set(told))} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--shape", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.shape:
        compare(arguments.people, *arguments.shape)
        return
    print(f"{machine('numpy')}; {arguments.people} people\n")
    print("| values | pictures each | matrix x vector, ms | a face, ms | a vote of 8, ms | ratio", end="")
    print(" | vectors, MB | RSS, MB | taken over, CPU s | one removed, CPU ms |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for shape in SHAPES:
        command = [sys.executable, __file__, "--people", str(arguments.people), "--shape", *map(str, shape)]
        subprocess.run(command, check=True)
    print("\n| street clip | faces a picture | detection, ms | beyond it, ms | ratio | events |")
    print("|---|---|---|---|---|---|", flush=True)
    follow()


if __name__ == "__main__":
    main()
