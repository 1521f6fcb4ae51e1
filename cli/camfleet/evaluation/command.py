"""The commands of `camfleet eval`. Heavy imports wait until one runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from camfleet.paths import model_folder

if TYPE_CHECKING:
    from camfleet.evaluation.gather import Gatherer

F = TypeVar("F", bound=Callable[..., Any])
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DEFAULT_FOLDS = 10
_DEFAULT_IMPOSTORS = 100_000
_DEFAULT_CONFIDENCE = 0.6


def _shared(function: F) -> F:
    """The options that all of them have."""
    for option in reversed(
        (
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
            click.option("--detector", default="yunet", show_default=True, help="What finds the faces."),
            click.option(
                "--confidence",
                type=click.FloatRange(0, 1),
                default=_DEFAULT_CONFIDENCE,
                show_default=True,
                help="From when a finding counts as a face.",
            ),
            click.option(
                "--model-dir",
                type=click.Path(file_okay=False, path_type=Path),
                help="Folder with weights. [default: where `camfleet models fetch` puts them]",
            ),
            click.option(
                "--threads",
                type=click.IntRange(1, 64),
                default=2,
                show_default=True,
                help="Pictures looked at at once.",
            ),
        )
    ):
        function = option(function)
    return function


def _comparing(function: F) -> F:
    """The options of those that compare faces."""
    for option in reversed(
        (
            click.option(
                "--embedder", default="mobilefacenet", show_default=True, help="What compares them."
            ),
            click.option(
                "--folds",
                type=click.IntRange(2, 100),
                default=_DEFAULT_FOLDS,
                show_default=True,
                help="Parts that the people are split into; fewer where they are few.",
            ),
        )
    ):
        function = option(function)
    return function


@click.group(name="eval")
def command() -> None:
    """Measure how well faces are found and told apart, on pictures of your own.

    Pictures go through the code that workers and enrolment use: same detector, alignment and embedding.
    """


@command.command()
@click.option(
    "--images", required=True, type=_FOLDER, help="Folder that the names in the CSV are relative to."
)
@click.option(
    "--pairs", "table", required=True, type=_FILE, help="CSV with the columns file_x, file_y, same."
)
@_comparing
@_shared
def pairs(images: Path, table: Path, folds: int, as_json: bool, **options: Any) -> None:
    """Compare the pictures of each pair.

    The threshold is chosen on some people's pairs and tested on other people's, in turn.
    """
    from camfleet.evaluation import pair_table, report, verification

    try:
        given = pair_table.read(table, images)
    except pair_table.PairTableError as error:
        raise click.ClickException(str(error)) from None
    gatherer = _gatherer(**options)
    faces = gatherer.faces(given.pairs.files)
    _refuse_unreadable(images, [looked.problem for looked in faces.values()])
    result = verification.verify(given.pairs, faces, folds=folds, default=gatherer.threshold)
    made = report.comparison("pairs", result, faces, gatherer, missing=given.missing, left_out=given.left_out)
    _print(made, as_json)


@command.command()
@click.option("--images", required=True, type=_FOLDER, help="Folder with a folder of pictures per person.")
@click.option(
    "--impostors",
    type=click.IntRange(1, 5_000_000),
    default=_DEFAULT_IMPOSTORS,
    show_default=True,
    help="Pairs of two people that are compared at most; always the same ones.",
)
@_comparing
@_shared
def identities(images: Path, impostors: int, folds: int, as_json: bool, **options: Any) -> None:
    """Compare all pictures of each person, and pictures of different people.

    As with `pairs`, the threshold is chosen on other people than it is tested on. Each picture is also looked
    up among all others as a face in a stream would be: right name, wrong name, or unknown.
    """
    from camfleet.evaluation import people_folder, report, verification

    folders = people_folder.read(images)
    if not folders.files:
        raise click.ClickException(f"{images} has no folder with pictures in it")
    gatherer = _gatherer(**options)
    faces = gatherer.faces(folders.files)
    _refuse_unreadable(images, [looked.problem for looked in faces.values()])
    pairs = people_folder.make_pairs(folders, impostors=impostors)
    result = verification.verify(pairs, faces, folds=folds, default=gatherer.threshold)
    lookup = verification.look_up(folders.people, folders.files, faces, gatherer.threshold, gatherer.margin)
    made = report.comparison(
        "identities",
        result,
        faces,
        gatherer,
        doubles=folders.doubles,
        copies=folders.copies,
        lookup=lookup,
    )
    _print(made, as_json)


@command.command()
@click.option("--xml", "document", required=True, type=_FILE, help="Boxes as dlib's imglab writes them.")
@_shared
def boxes(document: Path, as_json: bool, **options: Any) -> None:
    """Find the faces of pictures whose faces are known.

    Paths in the XML are relative to it. Boxes marked `ignore` count neither way.
    """
    from camfleet.evaluation import box_table, report

    try:
        pictures = box_table.read(document)
    except box_table.BoxTableError as error:
        raise click.ClickException(str(error)) from None
    gatherer = _gatherer(embedder=None, **options)
    found = gatherer.boxes([picture.file for picture in pictures])
    _refuse_unreadable(document, [item.problem for item in found])
    _print(report.boxes(box_table.compare(pictures, found), gatherer), as_json)


def _gatherer(
    *, embedder: str | None, detector: str, confidence: float, model_dir: Path | None, threads: int
) -> Gatherer:
    from camfleet.evaluation.gather import Gatherer
    from camfleet_worker.detectors.base import InferenceUnavailableError

    try:
        return Gatherer(
            model_dir or model_folder(),
            embedder=embedder,
            detector=detector,
            confidence=confidence,
            threads=threads,
        )
    except InferenceUnavailableError as error:
        hint = "; `camfleet models fetch` downloads weights" if error.reason == "ModelMissing" else ""
        raise click.ClickException(f"{error}{hint}") from None


def _refuse_unreadable(source: Path, problems: Sequence[str]) -> None:
    """Where no picture could be read nothing was measured."""
    if all(problems):
        raise click.ClickException(f"{source}: none of {len(problems)} pictures can be read: {problems[0]}")


def _print(report: tuple[dict[str, Any], str], as_json: bool) -> None:
    data, text = report
    click.echo(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) if as_json else text)
