"""The store against what a distributed system tells: late listings, lost events, names used again."""

from __future__ import annotations

from typing import Any

from camfleet_operator.cluster.store import Kind, Store


def camera(name: str = "door", version: int = 1, uid: str | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "site",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "generation": 1,
        },
        "spec": {"source": {"testPattern": {}}, **spec},
    }


def pod(name: str = "door-1", version: int = 1, owner: str = "uid-door", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "site",
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"camfleet.io/attempt": "1"},
            "ownerReferences": [{"kind": "Camera", "controller": True, "uid": owner}],
        },
        "spec": {"containers": [{"name": "worker", "image": "i"}], **spec},
    }


def profile(version: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "hall", "namespace": "site", "uid": "p", "resourceVersion": str(version)},
        "spec": spec,
    }


def listed(
    store: Store, kind: Kind, items: list[dict[str, Any]], version: str, within: str | None = None
) -> set[str]:
    """A complete listing, as `Resync` takes one in."""
    changed: set[str] = set()
    for raw in items:
        changed |= store.apply(kind, raw, live=False)
    uids = {raw["metadata"]["uid"] for raw in items}
    return changed | store.sweep(kind, uids, version, within=within)


def store() -> Store:
    return Store(lambda: 0.0)


def test_older_news_does_not_overwrite_newer() -> None:
    seen = store()
    assert seen.apply(Kind.CAMERA, camera(version=5, suspend=True)) == {"site.door"}
    assert seen.apply(Kind.CAMERA, camera(version=4)) == set()
    entry = seen.camera("site.door")
    assert entry is not None and entry.camera is not None and entry.camera.spec.suspend


def test_a_listing_on_its_way_does_not_bring_back_the_dead() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera(version=1))
    assert seen.remove(Kind.CAMERA, camera(version=2)) == {"site.door"}
    assert listed(seen, Kind.CAMERA, [camera(version=1)], "1") == set()
    assert seen.camera("site.door") is None


def test_a_listing_finds_what_no_event_has_said() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera("a", 1))
    seen.apply(Kind.CAMERA, camera("b", 2))
    assert listed(seen, Kind.CAMERA, [camera("a", 1)], "9") == {"site.b"}
    assert seen.keys() == ["site.a"]


def test_a_listing_does_not_judge_what_is_newer_than_itself() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera("new", 12))
    assert listed(seen, Kind.CAMERA, [], "10") == set()
    assert seen.keys() == ["site.new"]


def test_a_listing_of_one_namespace_says_nothing_of_others() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera("a", 1))
    assert listed(seen, Kind.CAMERA, [], "9", within="elsewhere") == set()
    assert listed(seen, Kind.CAMERA, [], "9", within="site") == {"site.a"}


def test_a_late_delete_does_not_take_the_next_of_its_name() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera(version=1, uid="old"))
    seen.apply(Kind.CAMERA, camera(version=7, uid="new"))
    assert seen.remove(Kind.CAMERA, camera(version=6, uid="old")) == set()
    entry = seen.camera("site.door")
    assert entry is not None and entry.uid == "new"


def test_pods_concern_their_owner_and_only_when_something_is_new() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera())
    assert seen.apply(Kind.POD, pod(version=2)) == {"site.door"}
    assert seen.apply(Kind.POD, pod(version=3)) == set()
    assert seen.apply(Kind.POD, pod(version=4, nodeName="n1")) == {"site.door"}
    assert [p.node for p in seen.pods_of("uid-door")] == ["n1"]
    assert seen.unseen_pods == 0
    assert seen.remove(Kind.POD, pod(version=5)) == {"site.door"}
    assert seen.pods_of("uid-door") == []


def test_a_pod_that_loses_and_gets_back_its_labels_is_seen_again() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera())
    seen.apply(Kind.POD, pod(version=2))
    seen.remove(Kind.POD, pod(version=3))
    assert seen.apply(Kind.POD, pod(version=4)) == {"site.door"}


def test_a_profile_concerns_the_cameras_that_name_it() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera("a", 1, profileRef={"name": "hall"}))
    seen.apply(Kind.CAMERA, camera("b", 2))
    assert seen.apply(Kind.PROFILE, profile(3, stream={"fps": 1})) == {"site.a"}
    assert seen.apply(Kind.PROFILE, profile(4, stream={"fps": 1})) == set()
    assert seen.remove(Kind.PROFILE, profile(5)) == {"site.a"}
    seen.apply(Kind.CAMERA, camera("a", 6))
    assert seen.apply(Kind.PROFILE, profile(7)) == set()


def test_a_camera_of_a_newer_version_is_kept_with_what_is_wrong() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera(source={"hologram": {}}) | {"spec": {"source": {"hologram": {}}}})
    entry = seen.camera("site.door")
    assert entry is not None and entry.camera is None and "hologram" in entry.problem


def test_nothing_is_kept_of_what_is_gone() -> None:
    seen = store()
    for number in range(20):
        seen.apply(Kind.CAMERA, camera(f"c{number}", number + 1, profileRef={"name": "hall"}))
        seen.apply(Kind.POD, pod(f"c{number}-1", number + 100, owner=f"uid-c{number}"))
    listed(seen, Kind.CAMERA, [], "1000")
    listed(seen, Kind.POD, [], "1000")
    assert seen.counts() == {"Camera": 0, "CameraProfile": 0, "Pod": 0}
    assert not seen._pods_of and not seen._users and not seen._by_uid


def test_only_a_change_of_the_same_pods_image_is_an_edit() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera())
    made = pod(version=2)
    del made["spec"]["containers"]  # our own answer does not know what admission has made of it
    seen.apply(Kind.POD, made)
    seen.apply(Kind.POD, pod(version=3, containers=[{"name": "worker", "image": "mirror/i"}]))
    assert [p.edited for p in seen.pods_of("uid-door")] == [False]
    seen.apply(Kind.POD, pod(version=4, containers=[{"name": "worker", "image": "other"}]))
    assert [p.edited for p in seen.pods_of("uid-door")] == [True]


def test_a_camera_that_is_being_deleted_says_so() -> None:
    seen = store()
    raw = camera()
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    seen.apply(Kind.CAMERA, raw)
    entry = seen.camera("site.door")
    assert entry is not None and entry.deleting


def test_a_pod_that_changes_hands_concerns_both() -> None:
    seen = store()
    seen.apply(Kind.CAMERA, camera("a", 1))
    seen.apply(Kind.POD, pod(version=2, owner="uid-a"))
    orphan = pod(version=3)
    del orphan["metadata"]["ownerReferences"]
    assert seen.apply(Kind.POD, orphan) == {"site.a"}
    assert seen.pods_of("uid-a") == []
