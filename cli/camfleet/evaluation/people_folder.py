"""A folder per person, and the pairs that its pictures make."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from camfleet.evaluation.pair_set import Indexes, PairSet

_PICTURES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".gif", ".jp2")
)
MAX_GENUINE = 1_000_000
_SEED = 20


@dataclass(frozen=True, slots=True)
class PeopleFolder:
    """People by the names of their folders, and their pictures: `people` has an index into `names` each.

    Attributes:
        doubles: Names that lead to a picture that is there by another name already, and that name; left out.
        copies: Pictures of two folders that are the same to the byte; not left out, as nobody can say whose
            they are.
    """

    names: tuple[str, ...]
    files: tuple[Path, ...]
    people: Indexes
    doubles: tuple[tuple[Path, Path], ...] = ()
    copies: tuple[tuple[Path, Path], ...] = ()


def read(images: Path) -> PeopleFolder:
    """The pictures of each folder in `images`, also of folders in it; each picture once.

    A folder that holds nothing but one folder is passed through, as archives unpack.
    """
    folders = sorted(path for path in images.iterdir() if path.is_dir())
    while len(folders) == 1 and any(path.is_dir() for path in folders[0].iterdir()):
        folders = sorted(path for path in folders[0].iterdir() if path.is_dir())
    found = [
        (folder, sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PICTURES and p.is_file()))
        for folder in folders
    ]
    kept, doubles = _once([file for _, pictures in found for file in pictures], images)
    names: list[str] = []
    files: list[Path] = []
    people: list[int] = []
    for folder, pictures in found:
        own = [file for file in pictures if file in kept]
        if own:
            people.extend([len(names)] * len(own))
            files.extend(own)
            names.append(folder.name)
    return PeopleFolder(
        tuple(names), tuple(files), np.array(people, np.intp), tuple(doubles), tuple(_copies(files, people))
    )


def _once(files: list[Path], images: Path) -> tuple[set[Path], list[tuple[Path, Path]]]:
    """One name of each picture, and the others with it: a link beside its target is nobody else's picture."""
    real = images.resolve()
    leads = {file: file.resolve() for file in files}
    kept: dict[Path, Path] = {}
    for linked in (False, True):
        for file, target in leads.items():
            if (target != real / file.relative_to(images)) is linked:
                kept.setdefault(target, file)
    doubles = [(file, kept[target]) for file, target in leads.items() if kept[target] != file]
    return set(kept.values()), doubles


def _copies(files: list[Path], people: list[int]) -> list[tuple[Path, Path]]:
    """Files of two people with the same content; those of a size that no other has are not read."""
    by_size: dict[int, list[int]] = {}
    for place, file in enumerate(files):
        by_size.setdefault(file.stat().st_size, []).append(place)
    copies = []
    for places in by_size.values():
        first: dict[bytes, int] = {}
        for place in places if len(places) > 1 else ():
            try:
                with files[place].open("rb") as opened:
                    digest = hashlib.file_digest(opened, "sha256").digest()
            except OSError:
                continue  # looking at it will say why
            other = first.setdefault(digest, place)
            if people[other] != people[place]:
                copies.append((files[place], files[other]))
    return sorted(copies)


def make_pairs(folder: PeopleFolder, *, impostors: int) -> PairSet:
    """All pairs of one person, and of two people at most so many, no pair twice; the same ones each time."""
    random = np.random.default_rng(_SEED)
    places = [np.flatnonzero(folder.people == person) for person in range(len(folder.names))]
    return _pair_set(folder, _genuine(places, random), _impostors(places, impostors, random))


def _genuine(places: list[Indexes], random: np.random.Generator) -> tuple[Indexes, Indexes]:
    """All pairs of one person; of very many, as many as are bearable, from everybody alike."""
    total = sum(place.size * (place.size - 1) // 2 for place in places)
    most = MAX_GENUINE // max(1, len(places))
    x, y = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    for place in places:
        first, second = np.triu_indices(place.size, 1)
        if total > MAX_GENUINE and first.size > most:
            chosen = random.choice(first.size, most, replace=False)
            first, second = first[chosen], second[chosen]
        x.append(place[first])
        y.append(place[second])
    return np.concatenate(x), np.concatenate(y)


def _impostors(places: list[Indexes], wanted: int, random: np.random.Generator) -> tuple[Indexes, Indexes]:
    """Pairs of two people, each once: all of them, or so many at random.

    With files in the order of their people, file i has one such pair with each file behind its own person's:
    all pairs are numbered by that, and numbers are drawn.
    """
    files = np.concatenate((np.zeros(0, np.intp), *places))
    ends = np.cumsum([place.size for place in places])
    behind = np.repeat(ends, [place.size for place in places])
    begins = np.concatenate(([0], np.cumsum(files.size - behind)))
    numbers = _numbers(int(begins[-1]), wanted, random)
    first = np.searchsorted(begins, numbers, side="right") - 1
    return files[first], files[behind[first] + numbers - begins[first]]


def _numbers(total: int, wanted: int, random: np.random.Generator) -> Indexes:
    """So many different numbers from 0 to below `total`, in their order."""
    if total <= wanted:
        return np.arange(total)
    if total <= 4 * wanted:
        return np.sort(random.choice(total, wanted, replace=False))
    drawn = np.zeros(0, np.intp)
    while drawn.size < wanted:
        drawn = np.unique(np.concatenate((drawn, random.integers(total, size=wanted))))
    return np.sort(random.permutation(drawn)[:wanted])


def _pair_set(
    folder: PeopleFolder, genuine: tuple[Indexes, Indexes], impostor: tuple[Indexes, Indexes]
) -> PairSet:
    same = np.zeros(genuine[0].size + impostor[0].size, np.bool_)
    same[: genuine[0].size] = True
    return PairSet(
        files=folder.files,
        people=folder.people,
        x=np.concatenate((genuine[0], impostor[0])),
        y=np.concatenate((genuine[1], impostor[1])),
        same=same,
    )
