"""`camfleet eval` on the sample portraits, their worsened copies and tables as people write them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from camfleet.evaluation import box_table, pair_table
from camfleet.evaluation.gather import PictureUnreadableError, as_stored, read_picture
from camfleet.evaluation.pair_set import PairSet
from camfleet.main import cli
from support.require import model_dir, sample

PEOPLE = {"obama": ("obama.jpg", "obama1.jpg", "obama2.jpg"), "biden": ("biden.jpg", "biden2.jpg")}


def evaluate(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def run(*arguments: object) -> Result:
    return CliRunner().invoke(
        cli, ["eval", *(str(argument) for argument in arguments), "--model-dir", str(model_dir())]
    )


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per person: three of them, and for two a small, grey and blurred copy of each picture."""
    folder = tmp_path_factory.mktemp("people")
    for name, pictures in PEOPLE.items():
        (folder / name).mkdir()
        for picture in pictures:
            image = cv2.imread(str(sample(f"people/{picture}")), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            shutil.copy(sample(f"people/{picture}"), folder / name / picture)
            small = cv2.resize(
                image, (250, 250 * image.shape[0] // image.shape[1]), interpolation=cv2.INTER_AREA
            )
            cv2.imwrite(
                str(folder / name / f"{Path(picture).stem}-small.png"), cv2.GaussianBlur(small, (3, 3), 0)
            )
    return folder


@pytest.fixture(scope="module")
def report(people: Path) -> dict[str, Any]:
    return evaluate("identities", "--images", people)


def test_the_sample_people_are_told_apart(report: dict[str, Any]) -> None:
    assert report["embedder"] == "mobilefacenet@b7120c095d60"
    assert report["pictures"]["no_face_count"] == 0
    assert report["pairs"]["genuine"] == 15 + 6 and report["pairs"]["impostor"] == 24
    assert report["auc"] == 1.0 and report["failures"] == []
    assert report["accuracy_at_default"] == 1.0
    assert report["lookup"]["known"] == {"right": 10, "unknown": 0, "wrong": 0}
    assert report["lookup"]["strangers"] == {"unknown": 10, "taken_for_somebody": 0}


def test_two_people_are_too_few_to_hold_one_out_and_that_is_said(report: dict[str, Any]) -> None:
    assert report["accuracy"] is None and report["held_out_identities"] is False


def test_pairs_from_a_spreadsheet(people: Path, tmp_path: Path) -> None:
    """A byte order mark, semicolons, backslashes, names without their folder, a picture that is gone."""
    (tmp_path / "grey.png").write_bytes(cv2.imencode(".png", np.full((80, 80), 90, np.uint8))[1].tobytes())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    shutil.copytree(people, tmp_path / "set")
    table = tmp_path / "pairs.csv"
    table.write_bytes(
        "\ufeffNo;File_X;file_y;Same\r\n"
        "1;set\\obama\\obama.jpg;set/obama/obama2.jpg;1\r\n"
        "2;obama1.jpg;biden.jpg;False\r\n"
        "3;set/biden/biden2.jpg;set/biden/biden.jpg;TRUE\r\n"
        "4;set/obama/obama.jpg;gone.jpg;0\r\n"
        "5;set/obama/obama.jpg;grey.png;0\r\n"
        "6;set/obama/obama.jpg;broken.jpg;0\r\n"
        "\r\n".encode()
    )
    report = evaluate("pairs", "--images", tmp_path, "--pairs", table)
    assert report["pairs"] == {
        "compared": 3,
        "genuine": 2,
        "impostor": 1,
        "without_face": 1,
        "genuine_without_face": 0,
        "impostor_without_face": 1,
        "left_out": 2,
        "people": 3,  # by their folders: obama, biden, and whoever lies beside them
    }
    assert [(Path(item["file"]).name, item["reason"]) for item in report["skipped"]] == [
        ("broken.jpg", "not a picture, or a damaged one"),
        ("gone.jpg", "not found"),
    ]
    assert [Path(file).name for file in report["no_face"]] == ["grey.png"]
    assert report["accuracy_at_default"] == 1.0


def test_the_report_for_people(people: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(
        "file_x,file_y,same\nobama/obama.jpg,obama/obama1.jpg,1\nobama/obama.jpg,biden/biden.jpg,1\n"
    )
    done = run("pairs", "--images", people, "--pairs", tmp_path / "pairs.csv")
    assert done.exit_code == 0
    assert "mobilefacenet@b7120c095d60, yunet at confidence 0.6" in done.stdout
    assert "a stream is looked at once, 640 pixels wide" in done.stdout
    (failure,) = [line for line in done.stdout.splitlines() if "obama.jpg" in line and "biden.jpg" in line]
    assert "one person" in failure and float(failure.split()[0]) < 0.3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b,c\n1,2,3\n", "no column file_x, file_y, same"),
        ("file_x,file_y,same\n" + "x" * 200_000, "is no table"),
        ("", "no column"),
        ("file_x,file_y,same\na.jpg,b.jpg,perhaps\n", "line 2: same is 'perhaps'"),
        ("file_x,file_y,same\na.jpg\n", "line 2: 1 columns are too few"),
        ("file_x,file_y,same\n", "it has no rows"),
        ("file_x,file_y,same\ngone.jpg,away.jpg,1\n", "none of its pictures"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error_that_says_why(
    text: str, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    done = CliRunner().invoke(
        cli, ["eval", "pairs", "--images", str(tmp_path), "--pairs", str(tmp_path / "pairs.csv")]
    )
    assert done.exit_code == 1 and complaint in done.output and "Traceback" not in done.output


def test_names_on_disk_need_not_be_text(people: Path, tmp_path: Path) -> None:
    shutil.copytree(people / "biden", tmp_path / "biden")
    (tmp_path / "odd").mkdir()
    (Path(os.fsdecode(bytes(tmp_path / "odd") + b"/\xe9.jpg"))).write_bytes(b"nothing")
    for options in ([], ["--json"]):
        done = run("identities", "--images", tmp_path, *options)
        assert done.exit_code == 0 and "\ufffd.jpg" in done.stdout


def test_missing_weights_are_an_error_that_says_what_to_do(people: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["eval", "identities", "--images", str(people), "--model-dir", str(tmp_path)]
    )
    assert done.exit_code == 1 and "camfleet models fetch" in done.output


def _table(folder: Path, rows: list[tuple[str, str, int]]) -> PairSet:
    for name in {name for row in rows for name in row[:2]}:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()
    (folder / "pairs.csv").write_text(
        "\n".join(["file_x,file_y,same", *(f"{x},{y},{s}" for x, y, s in rows)])
    )
    return pair_table.read(folder / "pairs.csv", folder).pairs


def test_people_are_known_by_pairs_folders_or_names_unless_a_pair_contradicts(tmp_path: Path) -> None:
    chain = _table(tmp_path / "a", [("1.jpg", "2.jpg", 1), ("2.jpg", "3.jpg", 1), ("3.jpg", "4.jpg", 0)])
    assert [int(person) for person in chain.people] == [0, 0, 0, 1]
    folders = _table(tmp_path / "b", [("x/1.jpg", "y/2.jpg", 0), ("x/3.jpg", "y/4.jpg", 0)])
    assert [int(person) for person in folders.people] == [0, 1, 0, 1]
    names = _table(tmp_path / "c", [("Ada_1.jpg", "Ada_2.jpg", 1), ("Ada_3.jpg", "Bo_1.jpg", 0)])
    assert [int(person) for person in names.people] == [0, 0, 0, 1]
    flat = _table(tmp_path / "d", [("img_1.jpg", "img_2.jpg", 0), ("img_3.jpg", "img_4.jpg", 0)])
    assert [int(person) for person in flat.people] == [0, 1, 2, 3]


def test_known_boxes_are_found_also_tiny_ones_in_a_large_picture(tmp_path: Path) -> None:
    """The portrait of two and, in one picture of 12 megapixels, five faces of 40 pixels."""
    shutil.copy(sample("people/obama_and_biden.jpg"), tmp_path / "two.jpg")
    large = np.full((3000, 4000, 3), 150, np.uint8)
    noise = np.random.default_rng(0).normal(0, 8, (300, 400, 3))
    large = np.clip(large + cv2.resize(noise, (4000, 3000)), 0, 255).astype(np.uint8)
    boxes = []
    for number, picture in enumerate(name for pictures in PEOPLE.values() for name in pictures):
        image = cv2.imread(str(sample(f"people/{picture}")))
        assert image is not None
        found = evaluate_box(image)
        factor = 40 / found[3]
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        left, top = 100 + 750 * number, 150 + 520 * number
        large[top : top + small.shape[0], left : left + small.shape[1]] = small
        boxes.append(
            [round(left + found[0] * factor), round(top + found[1] * factor), round(found[2] * factor), 40]
        )
    cv2.imwrite(str(tmp_path / "large.jpg"), large)
    lines = "".join(
        f"<box top='{top}' left='{left}' width='{width}' height='{height}'/>"
        for left, top, width, height in boxes
    )
    (tmp_path / "faces.xml").write_text(
        "<?xml version='1.0' encoding='ISO-8859-1'?>\n<?xml-stylesheet type='text/xsl' href='x.xsl'?>\n"
        "<dataset><images>"
        "<image file='two.jpg'><box top='383' left='756' width='179' height='265'/>"
        "<box top='356' left='1146' width='184' height='240'><label>obama</label></box>"
        "<box top='1000' left='1600' width='250' height='300' ignore='1'/>"
        "<box top='5' left='5' width='0' height='9'/></image>"
        f"<image file='large.jpg'>{lines}</image>"
        "<image file='gone.jpg'><box top='1' left='1' width='9' height='9'/></image></images></dataset>"
    )
    report = evaluate("boxes", "--xml", tmp_path / "faces.xml")
    half, third = report["iou"]
    assert (half["iou"], third["iou"]) == (0.5, 0.35)
    assert (third["known"], third["recall"], third["precision"]) == (7, 1.0, 1.0)
    assert half["recall"] == 1.0
    assert [item["file"] for item in report["skipped"]] == ["gone.jpg"]
    assert report["boxes_without_area"] == [{"file": "two.jpg", "box": [5, 5, 0, 9]}]
    assert "640 pixels" in report["how"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_of_the_pixels_as_they_are_stored(orientation: int) -> None:
    """imglab, and dlib, do not turn a picture as its EXIF says; it is looked at upright all the same."""
    upright = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    upright[10:30, 5:15] = 255
    turned = orientation >= 5
    back = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
    down, across = back[orientation]
    stored = upright[::down, ::across]
    stored = np.ascontiguousarray(stored.transpose(1, 0, 2) if turned else stored)
    left, top, width, height = as_stored(upright, stored)((5, 10, 10, 20))
    assert (stored[top : top + height, left : left + width] == 255).all()


def test_a_photo_that_lies_on_its_side_is_looked_at_upright(tmp_path: Path) -> None:
    image = cv2.imread(str(sample("people/obama.jpg")))
    assert image is not None
    left, top, width, height = (round(value) for value in evaluate_box(image))
    jpeg = cv2.imencode(".jpg", cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: turn it right
    exif = b"\xff\xe1" + (8 + len(tiff)).to_bytes(2, "big") + b"Exif\0\0" + tiff
    (tmp_path / "side.jpg").write_bytes(jpeg[:2] + exif + jpeg[2:])
    (tmp_path / "faces.xml").write_text(
        f"<d><image file='side.jpg'><box left='{top}' top='{image.shape[1] - left - width}' "
        f"width='{height}' height='{width}'/></image></d>"
    )
    half = evaluate("boxes", "--xml", tmp_path / "faces.xml")["iou"][0]
    assert (half["recall"], half["precision"]) == (1.0, 1.0)


def evaluate_box(image: np.ndarray) -> tuple[float, float, float, float]:
    from camfleet_worker.detectors.base import DetectorContext
    from camfleet_worker.recognition.faces import FaceFinder

    return FaceFinder(DetectorContext(model_dir())).find(image)[0].box_px


def test_the_json_has_one_place_for_each_figure(report: dict[str, Any]) -> None:
    """Scripts read these: they stay."""
    figures = (
        "accuracy accuracy_std balanced_accuracy auc threshold default_threshold folds far_frr tar_at_far"
    )
    assert {*figures.split(), "pairs", "pictures", "failures", "no_face", "skipped"} <= report.keys()
    assert {"threshold", "far", "frr"} == report["far_frr"][0].keys()


def test_a_picture_that_is_gone_is_not_replaced_by_another_persons(tmp_path: Path) -> None:
    images = tmp_path / "faces"
    rows = [("ada/1.png", "ada/2.png", 1), ("ada/1.png", "bo/1.png", 0), ("ada/1.png", "bo/7.png", 0)]
    _table(images, rows)
    (images / "ada/7.png").touch()
    (images / "bo/7.png").unlink()
    made = pair_table.read(images / "pairs.csv", images)
    assert made.missing == ("bo/7.png",) and made.left_out == 1 and made.pairs.x.size == 2


def test_names_may_begin_elsewhere_as_long_as_they_say_which_file(tmp_path: Path) -> None:
    images = tmp_path / "faces"
    _table(images, [("set/ada/1.png", "set/bo/1.png", 0), ("set/ada/2.png", "set/ada/1.png", 1)])
    table = tmp_path / "pairs.csv"
    for begin, where in (
        ("faces/set/", images),
        ("", images),
        ("C:\\mine\\", images / "set"),
        ("/home/of/somebody/", images / "set"),
    ):
        table.write_text(
            f"file_x,file_y,same\n{begin}ada/1.png,{begin}bo/1.png,0\n{begin}ada/2.png,{begin}ada/1.png,1\n"
        )
        made = pair_table.read(table, where)
        found = [str(file.relative_to(images / "set")) for file in made.pairs.files]
        assert found == ["ada/1.png", "bo/1.png", "ada/2.png"], begin


def test_a_name_too_long_to_be_one_is_missing(tmp_path: Path) -> None:
    long = "x" * 300 + ".jpg"
    _table(tmp_path / "set", [("a.jpg", "b.jpg", 0)])
    (tmp_path / "pairs.csv").write_text(f"file_x,file_y,same\na.jpg,b.jpg,0\na.jpg,{long},0\n")
    assert pair_table.read(tmp_path / "pairs.csv", tmp_path / "set").missing == (long,)
    (tmp_path / "faces.xml").write_text(
        f"<d><image file='{long}'><box top='1' left='1' width='9' height='9'/></image></d>"
    )
    (picture,) = box_table.read(tmp_path / "faces.xml")
    with pytest.raises(PictureUnreadableError):
        read_picture(picture.file)


@pytest.mark.parametrize("command", ["identities", "boxes"])
def test_where_no_picture_can_be_read_nothing_is_reported(command: str, tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada/1.jpg").write_bytes(b"nothing")
    (tmp_path / "faces.xml").write_text("<d><image file='ada/1.jpg'/></d>")
    source = ("--images", tmp_path) if command == "identities" else ("--xml", tmp_path / "faces.xml")
    done = run(command, *source)
    assert done.exit_code == 1 and "none of 1 pictures can be read: not a picture" in done.output


@pytest.mark.parametrize(
    "text",
    [
        "no xml",
        "<dataset/>",
        "<dataset><images><image/></images></dataset>",
        "<d><image file='a.jpg'><box top='1' left='nan' width='9' height='9'/></image></d>",
        "<d><image file='a.jpg'><box top='1' left='1' width='inf' height='9'/></image></d>",
    ],
)
def test_a_document_that_cannot_be_used_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "faces.xml").write_text(text)
    done = CliRunner().invoke(cli, ["eval", "boxes", "--xml", str(tmp_path / "faces.xml")])
    assert done.exit_code == 1 and "faces.xml" in done.output and "Traceback" not in done.output


def test_a_table_of_pairs_needs_no_header(tmp_path: Path) -> None:
    images = tmp_path / "set"
    _table(images, [("a b.jpg", "ä.jpg", 1), ("a b.jpg", "c.jpg", 0)])
    (tmp_path / "pairs.csv").write_bytes("\ufeffa b.jpg,ä.jpg,True\r\n a b.jpg,c.jpg,False\r\n".encode())
    made = pair_table.read(tmp_path / "pairs.csv", images)
    assert made.missing == () and made.pairs.same.tolist() == [True, False]


def test_what_is_less_certain_than_asked_for_is_no_box(tmp_path: Path) -> None:
    """Enrolment takes the best there is in a picture; here that would be one more box, right or false."""
    shutil.copy(sample("people/obama2.jpg"), tmp_path / "a.jpg")
    (tmp_path / "faces.xml").write_text(
        "<dataset><images><image file='a.jpg'><box left='205' top='240' width='275' height='420'/>"
        "</image></images></dataset>"
    )
    for confidence, found in (("1", 0), ("0.6", 1)):
        half = evaluate("boxes", "--xml", tmp_path / "faces.xml", "--confidence", confidence)["iou"][0]
        assert (half["known"], half["right"], half["false"]) == (1, found, 0)


def test_pictures_come_in_many_formats(people: Path, tmp_path: Path) -> None:
    image = cv2.imread(str(people / "obama/obama.jpg"))
    assert image is not None
    small = cv2.resize(image, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    see_through = cv2.cvtColor(small, cv2.COLOR_BGR2BGRA)
    deep = grey.astype(np.uint16) * 257
    (tmp_path / "his").mkdir()
    kinds = {
        "a.bmp": small,
        "b.pgm": grey,
        "c.png": see_through,
        "d.tif": deep,
        "e.webp": small,
        "f.PNG": deep,
    }
    for name, picture in kinds.items():
        assert cv2.imwrite(str(tmp_path / "his" / name), picture)
    made = evaluate("identities", "--images", tmp_path)
    assert made["pictures"]["given"] == 6 and made["no_face"] == made["skipped"] == []
    assert made["pairs"]["genuine"] == 15 and made["accuracy_at_default"] == 1.0
    assert made["accuracy"] is None
