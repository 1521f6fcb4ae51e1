"""What `camfleet eval` prints: the same figures as JSON and as text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from camfleet.evaluation.box_table import Comparison, Matched
from camfleet.evaluation.gather import Faces, Gatherer
from camfleet.evaluation.metrics import Rates
from camfleet.evaluation.verification import Lookup, Verification

_SHOWN = 30
"""Lines of a list in the text; JSON has all of them, up to `_LISTED`."""
_LISTED = 10_000
_PROMINENT = "the one that is large and in the middle"
HOW_SINGLE = (
    "single pictures: looked at in several sizes, each face three times more alone; a stream is looked at "
    "once, 640 pixels wide, at confidence 0.7 unless set, and a second time only at faces lower than 80 "
    "pixels that are to be compared; landmarks, alignment and embedding are by the same code"
)

Report = tuple[dict[str, Any], str]


def comparison(
    kind: str,
    result: Verification,
    faces: Faces,
    gatherer: Gatherer,
    *,
    missing: Sequence[str] = (),
    left_out: int = 0,
    doubles: Sequence[tuple[Path, Path]] = (),
    copies: Sequence[tuple[Path, Path]] = (),
    lookup: Lookup | None = None,
) -> Report:
    """The report of `pairs` and `identities`.

    Args:
        kind: Which of them.
        result: What comparing showed.
        faces: What each picture gave.
        gatherer: What looked at them.
        missing: Names of pictures that are not there.
        left_out: Pairs left out for that.
        doubles: Names of pictures that are there by another name, and that name.
        copies: Pictures of two people with the same content.
        lookup: What looking each picture up showed.
    """
    no_face = [
        _path(file) for file, looked in faces.items() if looked.embedding is None and not looked.problem
    ]
    several = [_path(file) for file, looked in faces.items() if looked.count > 1]
    refused = [(_path(file), looked.refused) for file, looked in faces.items() if looked.refused]
    unreadable = [(_path(file), looked.problem) for file, looked in faces.items() if looked.problem]
    skipped = [
        *unreadable,
        *((name, "not found") for name in missing),
        *((_path(name), f"is {_path(other)}") for name, other in doubles),
    ]
    accuracy, deviation = result.accuracy or (None, None)
    balanced, balanced_deviation = result.balanced_accuracy or (None, None)
    share = result.share_with_face
    data: dict[str, Any] = {
        "command": kind,
        **_models(gatherer),
        "accuracy": _round(accuracy),
        "accuracy_std": _round(deviation),
        "accuracy_with_no_face_as_failure": _round(accuracy * share if accuracy is not None else None),
        "balanced_accuracy": _round(balanced),
        "balanced_accuracy_std": _round(balanced_deviation),
        "auc": _round(result.auc),
        "threshold": _round(result.threshold),
        "accuracy_at_threshold": _round(result.accuracy_at[0]),
        "default_threshold": result.default_threshold,
        "accuracy_at_default": _round(result.accuracy_at[1]),
        "held_out_identities": bool(result.folds),
        "pairs_tested": result.tested,
        "folds": [
            {
                "threshold": _round(fold.threshold),
                "accuracy": _round(fold.accuracy),
                "balanced_accuracy": _round(fold.balanced_accuracy),
                "pairs": fold.genuine + fold.impostor,
                "genuine": fold.genuine,
                "impostor": fold.impostor,
                "people": fold.people,
            }
            for fold in result.folds
        ],
        "equal_error": _rates(result.equal_error),
        "tar_at_far": [
            {"far": far, **_at(rates, result.genuine, result.genuine_without_face)}
            for far, rates in result.at_false_accepts
        ],
        "far_frr": [_rates(rates) for rates in result.table],
        "pairs": {
            "compared": result.genuine + result.impostor,
            "genuine": result.genuine,
            "impostor": result.impostor,
            "without_face": result.genuine_without_face + result.impostor_without_face,
            "genuine_without_face": result.genuine_without_face,
            "impostor_without_face": result.impostor_without_face,
            "left_out": result.unreadable + left_out,
            "people": result.people,
        },
        "pictures": {
            "given": len(faces),
            "no_face_count": len(no_face),
            "skipped_count": len(skipped),
            "several_faces_count": len(several),
            "several_faces": several[:_LISTED],
            "several_faces_rule": _PROMINENT,
            "poor_quality": [{"file": file, "reason": reason} for file, reason in refused[:_LISTED]],
            "copies": [{"file": _path(one), "same_as": _path(other)} for one, other in copies[:_LISTED]],
        },
        "no_face": no_face[:_LISTED],
        "skipped": [{"file": file, "reason": reason} for file, reason in skipped[:_LISTED]],
        "failures_count": len(result.failures),
        "failures": [
            {
                "file_x": _path(failure.x),
                "file_y": _path(failure.y),
                "same": failure.same,
                "score": _round(failure.score),
                "threshold": _round(failure.threshold),
            }
            for failure in result.failures[:_LISTED]
        ],
    }
    if lookup is not None:
        data["lookup"] = {
            "threshold": lookup.threshold,
            "margin": lookup.margin,
            "known": {"right": lookup.right, "unknown": lookup.unknown, "wrong": lookup.wrong},
            "strangers": {"unknown": lookup.strangers_unknown, "taken_for_somebody": lookup.strangers_wrong},
        }
    return data, "\n".join(_comparison_text(data))


def boxes(result: Comparison, gatherer: Gatherer) -> Report:
    """The report of `boxes`."""
    data: dict[str, Any] = {
        "command": "boxes",
        **_models(gatherer),
        "pictures": {"given": result.pictures, "skipped_count": len(result.problems)},
        "skipped": [{"file": file, "reason": reason} for file, reason in result.problems],
        "boxes_without_area": [{"file": file, "box": _box(box)} for file, box in result.empty],
        "iou": [_matched(matched) for matched in result.matched],
    }
    lines = _head(data)
    lines.append(f"pictures    {result.pictures}, {len(result.problems)} of them unreadable")
    lines += _listed(f"{item['file']}: {item['reason']}" for item in data["skipped"])
    if result.empty:
        lines += ["", "boxes without area, left out:"]
        lines += _listed(f"{item['file']} {item['box']}" for item in data["boxes_without_area"])
    lines += ["", "IoU    recall   precision   known   found   missed   false"]
    lines += [
        f"{item['iou']:<6} {_percent(item['recall']):>6}   {_percent(item['precision']):>9}"
        f"   {item['known']:>5}   {item['right']:>5}   {len(item['misses']):>6}   {item['false']:>5}"
        for item in data["iou"]
    ]
    for item in data["iou"]:
        lines += ["", f"missed at IoU {item['iou']}:"]
        lines += _listed(f"{miss['file']} {miss['box']}" for miss in item["misses"])
        lines += ["", f"false boxes at IoU {item['iou']}:"]
        lines += _listed(
            f"{false['file']} {false['box']} score {false['score']}" for false in item["false_boxes"]
        )
    return data, "\n".join(lines)


def _models(gatherer: Gatherer) -> dict[str, Any]:
    compares = {"embedder": gatherer.embedder} if gatherer.embedder else {}
    return {**compares, "detector": gatherer.detector, "confidence": gatherer.confidence, "how": HOW_SINGLE}


def _matched(matched: Matched) -> dict[str, Any]:
    return {
        "iou": matched.iou,
        "recall": _round(matched.recall),
        "precision": _round(matched.precision),
        "known": matched.known,
        "right": matched.right,
        "false": matched.false,
        "misses": [{"file": file, "box": _box(box)} for file, box in matched.misses],
        "false_boxes": [
            {"file": file, "box": _box(box), "score": round(score, 3)}
            for file, box, score in matched.false_boxes
        ],
    }


def _comparison_text(data: dict[str, Any]) -> list[str]:
    pictures, pairs = data["pictures"], data["pairs"]
    lines = _head(data)
    lines += [
        f"pictures    {pictures['given']}, {pictures['no_face_count']} without a face, "
        f"{pictures['several_faces_count']} with several ({_PROMINENT} counts), "
        f"{len(pictures['poor_quality'])} that a worker's quality gate would refuse, "
        f"{pictures['skipped_count']} skipped",
        f"pairs       {pairs['genuine']} of one person, {pairs['impostor']} of two, {pairs['people']} people"
        f"; {pairs['without_face']} more without a face, {pairs['left_out']} left out",
    ]
    if data["folds"]:
        lines += [
            f"accuracy    {_percent(data['accuracy'])} of the pairs told right, standard deviation "
            f"{_percent(data['accuracy_std'])}, over {len(data['folds'])} parts of the people "
            f"({data['pairs_tested']} pairs), by thresholds from nobody's pairs who is tested",
            f"            {_percent(data['accuracy_with_no_face_as_failure'])} "
            "if a pair without a face counts as wrong",
            f"balanced    {_percent(data['balanced_accuracy'])}, standard deviation "
            f"{_percent(data['balanced_accuracy_std'])}: the same where pairs of one person count half, "
            "pairs of two the other half",
        ]
    else:
        lines += [
            f"accuracy    {_percent(data['accuracy_at_default'])} of the pairs told right by the model's own "
            f"threshold, {_number(data['default_threshold'])}, which was chosen without these pairs;",
            "            not told for people held out: these are too few, or pairs of one kind only",
        ]
    lines += [
        f"threshold   {_number(data['threshold'])} is best on all pairs: "
        f"{_percent(data['accuracy_at_threshold'])} right (optimistic: tested on what it was chosen by)",
        f"            {_number(data['default_threshold'])} is the model's own: "
        f"{_percent(data['accuracy_at_default'])} right",
        f"AUC         {_number(data['auc'], 5)}",
    ]
    if data["equal_error"]:
        equal = data["equal_error"]
        lines.append(f"equal error {_percent(equal['frr'])} at {_number(equal['threshold'])}")
    lines += ["", "false accepts   true accepts   no face as reject   threshold"]
    lines += [
        f"{item['far']:<13g}   {_percent(item['tar']):>12}   {_percent(item['tar_with_no_face']):>17}"
        f"   {_number(item['threshold']):>9}"
        if item["tar"] is not None
        else f"{item['far']:<13g}   too few pairs of two people to say"
        for item in data["tar_at_far"]
    ]
    if data["far_frr"]:
        lines += ["", "threshold   false accepts   false rejects"]
        lines += [
            f"{rates['threshold']:<9.2f}   {_percent(rates['far'], 3):>13}   {_percent(rates['frr'], 3):>13}"
            for rates in data["far_frr"]
        ]
    if "lookup" in data:
        known, strangers = data["lookup"]["known"], data["lookup"]["strangers"]
        lines += [
            "",
            f"Each picture looked up among all others, threshold {data['lookup']['threshold']}, "
            f"margin {data['lookup']['margin']}:",
            f"  enrolled    {known['right']} by the right name, {known['unknown']} unknown, "
            f"{known['wrong']} by a wrong name",
            f"  strangers   {strangers['unknown']} unknown, {strangers['taken_for_somebody']} "
            "taken for somebody",
        ]
    lines += ["", f"failures    {data['failures_count']}"]
    lines += _listed(
        f"{item['score']:+.3f} {'<' if item['same'] else '>='} {item['threshold']:.3f}  "
        f"{'one person' if item['same'] else 'two people'}  {item['file_x']}  {item['file_y']}"
        for item in data["failures"]
    )
    for title, names in (
        ("without a face", data["no_face"]),
        ("skipped", [f"{item['file']}: {item['reason']}" for item in data["skipped"]]),
        (
            "the same picture of two people",
            [f"{item['file']} = {item['same_as']}" for item in pictures["copies"]],
        ),
    ):
        if names:
            lines += ["", f"{title}:", *_listed(names)]
    return lines


def _head(data: dict[str, Any]) -> list[str]:
    compares = f"{data['embedder']}, " if "embedder" in data else ""
    return [
        f"models      {compares}{data['detector']} at confidence {data['confidence']}",
        f"how         {data['how']}",
    ]


def _listed(items: Iterable[str]) -> list[str]:
    lines = [f"  {item}" for item in items]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"  … and {more} more: see --json"] if more > 0 else [])


def _at(rates: Rates | None, genuine: int, without_face: int) -> dict[str, float | None]:
    if rates is None:
        return {"tar": None, "tar_with_no_face": None, "threshold": None, "measured_far": None}
    accepted = 1 - rates.frr
    return {
        "tar": _round(accepted),
        "tar_with_no_face": _round(accepted * genuine / (genuine + without_face)),
        "threshold": _round(rates.threshold),
        "measured_far": _round(rates.far, 6),
    }


def _rates(rates: Rates | None) -> dict[str, float | None] | None:
    if rates is None:
        return None
    return {
        "threshold": _round(rates.threshold),
        "far": _round(rates.far, 6),
        "frr": _round(rates.frr, 6),
    }


def _path(file: Path) -> str:
    """A path that can be printed: names on disk need not be UTF-8."""
    return os.fsencode(file).decode(errors="replace")


def _box(box: Sequence[float]) -> list[int]:
    return [round(value) for value in box]


def _round(value: float | None, digits: int = 5) -> float | None:
    return None if value is None else round(value, digits)


def _percent(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
