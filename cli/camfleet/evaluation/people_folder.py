"""A folder per person, and the pairs that its pictures make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from camfleet.evaluation.pair_set import Indexes, PairSet, assign_folds

_PICTURES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".gif", ".jp2")
)
MAX_GENUINE = 1_000_000
_SEED = 20


@dataclass(frozen=True, slots=True)
class PeopleFolder:
    """People by the names of their folders, and their pictures: `people` has an index into `names` each."""

    names: tuple[str, ...]
    files: tuple[Path, ...]
    people: Indexes


def read(images: Path) -> PeopleFolder:
    """The pictures of each folder in `images`, also of folders in it.

    A folder that holds nothing but one folder is passed through, as archives unpack.
    """
    folders = sorted(path for path in images.iterdir() if path.is_dir())
    while len(folders) == 1 and any(path.is_dir() for path in folders[0].iterdir()):
        folders = sorted(path for path in folders[0].iterdir() if path.is_dir())
    names: list[str] = []
    files: list[Path] = []
    people: list[int] = []
    for folder in folders:
        pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PICTURES and p.is_file())
        if pictures:
            people.extend([len(names)] * len(pictures))
            files.extend(pictures)
            names.append(folder.name)
    return PeopleFolder(tuple(names), tuple(files), np.array(people, np.intp))


def make_pairs(folder: PeopleFolder, *, impostors: int, folds: int) -> PairSet:
    """All pairs of one person, and of two people at most so many; the same ones each time.

    Where there are more pairs of two people than are wanted, half of those that are taken are of people who
    are tested together.
    """
    random = np.random.default_rng(_SEED)
    places = [np.flatnonzero(folder.people == person) for person in range(len(folder.names))]
    x, y = _genuine(places, random)
    all_impostors = (len(folder.files) ** 2 - sum(place.size**2 for place in places)) // 2
    if all_impostors <= impostors:
        first, second = np.triu_indices(len(folder.files), 1)
        other = folder.people[first] != folder.people[second]
        return _pair_set(folder, (x, y), (first[other], second[other]))
    half = _impostors(folder.people, np.arange(len(folder.files)), impostors // 2, random)
    part = assign_folds(_pair_set(folder, (x, y), half), folds)
    if part is None:
        return _pair_set(folder, (x, y), half)
    of_file = part[folder.people]
    parts = [np.flatnonzero(of_file == number) for number in range(int(part.max()) + 1)]
    within = [
        _impostors(folder.people, files, (impostors - impostors // 2) // len(parts), random)
        for files in parts
    ]
    return _pair_set(
        folder,
        (x, y),
        (
            np.concatenate((half[0], *(first for first, _ in within))),
            np.concatenate((half[1], *(second for _, second in within))),
        ),
    )


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


def _impostors(
    people: Indexes, files: Indexes, wanted: int, random: np.random.Generator
) -> tuple[Indexes, Indexes]:
    """Random pairs of two people among some files, each once; fewer where there are not so many."""
    drawn = random.choice(files, (2, 4 * wanted + 16)) if files.size else np.zeros((2, 0), np.intp)
    first, second = drawn.min(axis=0), drawn.max(axis=0)
    kept = people[first] != people[second]
    keys = np.unique(first[kept].astype(np.int64) * people.size + second[kept])
    keys = random.permutation(keys)[:wanted]
    return keys // people.size, keys % people.size


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
