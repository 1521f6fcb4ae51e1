"""A real worker gets the people that it compares faces with over its socket, and says which it has."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from camfleet_protocol.gallery import GalleryPart, GalleryPerson, encode_part
from camfleet_protocol.settings import Settings
from support.fake_gateway import fake_gateway
from support.require import model_dir
from support.worker_process import worker_process

PATTERN = '{"testPattern": {"width": 640, "height": 360, "fps": 10}}'
RECOGNISES = Settings.model_validate(
    {
        "inference": {"detectors": ["yunet"], "faceRecognition": {"enabled": True}},
        "privacy": {"retentionDays": 7},
    }
)


def gallery(
    embedder: str, version: int, people: int, *, base: int = 0, part: int = 0, parts: int = 1
) -> bytes:
    """A part with people of random faces."""
    vectors = np.random.default_rng(part).normal(size=(people, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return encode_part(
        version,
        GalleryPart(
            embedder=embedder,
            dimensions=128,
            base=base,
            part=part,
            parts=parts,
            people=tuple(GalleryPerson(id=f"{part}-{n}", name="A", rows=1) for n in range(people)),
        ),
        vectors.astype("<f2").tobytes(),
    )


async def test_a_gallery_takes_effect_with_its_last_part_and_rubbish_changes_nothing(tmp_path: Path) -> None:
    async with (
        fake_gateway() as gateway,
        worker_process(
            tmp_path,
            gateway_url=gateway.url,
            source_json=PATTERN,
            settings_json=RECOGNISES.model_dump_json(by_alias=True),
            model_dir=model_dir(),
        ) as worker,
    ):
        await gateway.until(lambda: gateway.stats and gateway.stats[-1].embedder, "the embedder in stats")
        embedder = gateway.stats[-1].embedder
        assert embedder.startswith("mobilefacenet@") and gateway.stats[-1].gallery_version == 0
        for part in range(4):
            await gateway.send(gallery(embedder, 10, 500, part=part, parts=4))
        await gateway.until(lambda: gateway.stats[-1].gallery_version == 10, "the gallery")
        for rubbish in (random.Random(5).randbytes(1000), gallery(embedder, 11, 3)[:-5]):
            await gateway.send(rubbish)
        await gateway.send(gallery("other@123", 12, 3))
        await gateway.send(gallery(embedder, 13, 3, base=9))
        await gateway.send(gallery(embedder, 14, 3, base=10))
        await gateway.until(lambda: gateway.stats[-1].gallery_version == 14, "the change")
        assert {stats.gallery_version for stats in gateway.stats} <= {0, 10, 14}
        assert worker.log().count("something that is no message") == 1 and gateway.connections == 1
        assert list((tmp_path / "work").glob("**/*gallery*")) == [], "nobody's face is left on the disk"
        await gateway.configure(Settings.model_validate({"inference": {"detectors": ["yunet"]}}))
        await gateway.until(lambda: gateway.stats[-1].embedder == "", "recognition off")
        assert gateway.stats[-1].gallery_version == 0
