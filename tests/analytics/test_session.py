"""A session sees what its identity may see, and nothing without one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_batch_analytics.archive.store import Archive
from meter_batch_analytics.mirror import GAPS, Mirror
from meter_batch_analytics.report.hierarchy import members, terms
from meter_batch_analytics.session import ARCHIVE, DATA, IDENTITY, QUERY, Identity, Session, open_data
from meter_batch_analytics.site import Site
from meter_batch_engine.errors import ConfigError

from .data_site import ALL, NOW, SOME, build, registry


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("data"), days=25)


def environment(data: Path, identity: Identity, query: str = "") -> dict[str, str]:
    return {DATA: str(data), IDENTITY: json.dumps(identity.as_dict()), QUERY: query}


def test_who_may_see_all_sees_all_points_with_the_mirrors_names(data: Path) -> None:
    session = Session.from_environment(environment(data, ALL))
    assert set(session.site.points) == {"main", "p1", "p2", "p3", "p4", "p5", "rest"}
    assert session.site.name("p4") == "办公楼"
    assert {gap.point for gap in session.gaps()} == {"p2", "p4"}


def test_an_unknown_point_and_a_forbidden_one_are_the_same_error(data: Path) -> None:
    session = open_data(data, SOME)
    for text in ("p1", "Chiller", "main"):
        with pytest.raises(ConfigError) as forbidden:
            session.site.frame(text, since="2026-08-01")
        with pytest.raises(ConfigError) as unknown:
            session.site.frame("nonsense", since="2026-08-01")
        assert str(forbidden.value) == str(unknown.value).replace("nonsense", text)


def test_nothing_of_other_points_can_be_told_from_a_limited_site(data: Path) -> None:
    session = open_data(data, SOME)
    site = session.site
    assert set(site.points) == {"p3", "p4"}
    assert site.areas == {"Office": ["p3", "p4"]}
    assert site.lines == {"Line 1": ["p3"], "Line 2": ["p4"]}
    assert all(point.parent is None for point in site.points.values())
    assert site.name("p1") == "p1"
    frame = site.frame(since="2026-08-03", until="2026-08-04")
    assert set(frame["point"]) == {"p3", "p4"}
    assert [gap.point for gap in session.gaps()] == ["p4"]
    with pytest.raises(ConfigError):
        site.frame(area="Workshop", since="2026-08-01")


def test_a_point_from_others_is_whole_for_whoever_may_see_it_alone(data: Path) -> None:
    alone = open_data(data, Identity("u", "U", False, "en", frozenset({"rest"})))
    asked = {"since": "2026-08-03", "until": "2026-08-05", "resolution": "day"}
    mine = alone.site.frame(**asked)
    assert (
        mine["energy_import_kwh"].tolist()
        == open_data(data, ALL).site.frame("rest", **asked)["energy_import_kwh"].tolist()
    )
    assert mine["energy_import_kwh"].sum() > 0


def test_a_child_stands_beneath_the_nearest_point_that_may_be_seen(data: Path) -> None:
    whole = registry()
    points = dict(whole.points)
    points["p2"] = replace(points["p2"], parent="p1")
    points["p3"] = replace(points["p3"], parent="p2")
    points["p4"], points["p5"] = replace(points["p4"], parent="p5"), replace(points["p5"], parent="p4")  # a circle
    site = Site(replace(whole, points=points), []).limited(frozenset({"main", "p3", "p4"}))
    assert {id_: point.parent for id_, point in site.points.items()} == {"main": None, "p3": "main", "p4": None}
    assert members(site.points, {"main", "p3"}) == ("main",), "energy of p3 is in that of main already"


def test_of_a_sum_it_is_told_what_it_is_made_of_only_to_who_may_see_all_of_that(data: Path) -> None:
    parts = frozenset({"main", "p1", "p2", "p3", "p4", "p5"})
    every = open_data(data, Identity("u", "U", False, "en", parts | {"rest"})).site
    assert every.points["rest"] == registry().points["rest"]
    without = open_data(data, Identity("u", "U", False, "en", parts)).site
    assert "rest" not in without.points, "a sum that was not given is not there, even with all its parts"
    some = open_data(data, Identity("u", "U", False, "en", frozenset({"main", "rest"}))).site
    mine = some.points["rest"]
    assert mine.virtual and not {term.point for term in mine.formula} & (parts - {"main"})
    assert terms(some.points, "rest") == {"rest": 1} and members(some.points, some.points) == ("main",)
    asked: dict[str, Any] = {"since": "2026-08-03", "until": "2026-08-05", "resolution": "day"}
    assert some.frame("rest", **asked)["energy_import_kwh"].sum() == pytest.approx(
        every.frame("rest", **asked)["energy_import_kwh"].sum()
    )


def test_alarms_are_those_of_the_period_and_of_the_points_that_may_be_seen(data: Path) -> None:
    pytest.importorskip("meter_batch_engine.model.finding")
    everything = open_data(data, ALL).alarms(NOW - timedelta(days=30), NOW)
    assert [one.id for one in everything] == ["f1", "f2"]
    assert [one.id for one in open_data(data, ALL).alarms(NOW - timedelta(days=1), NOW)] == ["f2"]
    assert [one.id for one in open_data(data, SOME).alarms(NOW - timedelta(days=30), NOW)] == ["f2"]
    nobody = Identity("u", "U", False, "en", frozenset())
    assert open_data(data, nobody).alarms(NOW - timedelta(days=30), NOW) == []


@pytest.mark.parametrize(
    "identity",
    [
        "",
        "{}",
        "no json",
        '{"user": "", "name": "N", "admin": true, "language": "en", "scope": null}',
        '{"user": "u", "name": "N", "admin": true, "language": "en"}',
        '{"user": "u", "name": "N", "admin": true, "language": "en", "scope": "p1"}',
        '{"user": 1, "name": "N", "admin": true, "language": "en", "scope": null}',
        "[]",
    ],
)
def test_without_a_whole_identity_nothing_is_shown(data: Path, identity: str) -> None:
    with pytest.raises(ConfigError):
        Session.from_environment({DATA: str(data), IDENTITY: identity})


def test_the_address_chooses_language_and_theme_and_nothing_else(data: Path) -> None:
    session = Session.from_environment(environment(data, SOME))
    assert (session.language, session.theme) == ("zh-Hans", "light")
    session = Session.from_environment(environment(data, SOME, "lang=en-GB&theme=dark&points=p3&points=p4&scope=p1"))
    assert (session.language, session.theme) == ("en", "dark")
    assert session.query["points"] == ["p3", "p4"]
    assert session.identity.scope == {"p3", "p4"}
    assert Session.from_environment(environment(data, SOME, "theme=%3Cscript%3E")).theme == "light"


def test_without_a_mirror_the_archive_knows_the_names(data: Path, tmp_path: Path) -> None:
    session = Session.from_environment(environment(tmp_path, ALL) | {ARCHIVE: str(data / "archive")})
    assert session.site.name("p1") == "Chiller"
    assert session.gaps() == []
    assert session.mirror_at is None


def test_a_damaged_mirror_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "registry.json").write_text("{")
    with pytest.raises(ConfigError, match=r"registry\.json"):
        open_data(tmp_path, ALL, archive=data / "archive")
    mirror = Mirror(tmp_path / "mirror")
    mirror.keep(GAPS, {"not": "gaps"}, NOW)
    with pytest.raises(ConfigError, match=r"gaps\.json"):
        mirror.gaps()


def test_a_folder_without_an_archive_says_so(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="there is no archive"):
        open_data(tmp_path, ALL)
    with pytest.raises(Exception, match="there is no archive"):
        Archive(tmp_path / "archive")
