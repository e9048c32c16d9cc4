"""The life of a finding: told once, seen, put aside, over; whatever the order of events."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meter_batch_engine import AlarmState, ConfigError, Event, Override, Severity, load_rules

from .conftest import Site


def high(one: Site, first: float, volts: float = 250, minutes: int = 2) -> None:
    one.every([first + 10 * step for step in range(6 * minutes + 1)], lambda s: one.volts(s, volts))


@pytest.fixture
def raised(site) -> Site:
    one = site().add()
    one.settle()
    high(one, 10)
    return one


def test_seen_while_it_lasts_it_closes_by_itself(raised: Site) -> None:
    found = raised.the("over_voltage")
    (seen,) = raised.alarms.acknowledge([found.id], raised.at(200), "Li", "looking")
    assert (seen.finding.state, seen.event.by, seen.event.comment) == (AlarmState.ACKNOWLEDGED, "Li", "looking")
    assert not seen.notify and seen.finding.acknowledged_at == raised.at(200)
    assert raised.alarms.acknowledge([found.id], raised.at(210), "Wu") == [], "seen is seen"
    high(raised, 220, 230)
    assert raised.changes[-1].finding.state is AlarmState.NORMAL and raised.alarms.active() == []


def test_over_before_anybody_saw_it_it_waits_to_be_seen(raised: Site) -> None:
    high(raised, 200, 230)
    found = raised.the("over_voltage")
    assert found.state is AlarmState.RETURNED and not found.active
    (seen,) = raised.alarms.acknowledge([found.id], raised.at(900), "Li")
    assert seen.finding.state is AlarmState.NORMAL and raised.alarms.active() == []


def test_it_comes_back_before_anybody_saw_it_and_is_told_again_as_the_same(raised: Site) -> None:
    found = raised.the("over_voltage")
    high(raised, 200, 230)
    high(raised, 400)
    again = raised.the("over_voltage")
    assert (again.id, again.since, again.facts["times"]) == (found.id, found.since, 2)
    assert [one.event.what for one in raised.changes] == [Event.RAISED, Event.RETURNED, Event.RERAISED]
    assert raised.told() == [("over_voltage", "p1")] * 2


def test_shelved_it_is_not_told_until_the_shelf_ends_and_then_only_if_it_is_so_still(raised: Site) -> None:
    found = raised.the("over_voltage")
    (shelved,) = raised.alarms.shelve([found.id], raised.at(200), raised.at(3800), "Li", "works on the grid")
    assert (shelved.finding.state, shelved.notify) == (AlarmState.SHELVED, False)
    high(raised, 210, 230)
    high(raised, 400)
    assert raised.the("over_voltage").state is AlarmState.SHELVED and len(raised.told()) == 1
    assert raised.alarms.next_at == raised.at(3800)
    (again,) = raised.tick(3800)
    assert again.notify and (again.event.what, again.finding.state) == (Event.RERAISED, AlarmState.UNACKNOWLEDGED)
    raised.took(raised.alarms.shelve([found.id], raised.at(3900), raised.at(4000)))
    high(raised, 3910, 230)
    (ended,) = raised.tick(4000)
    assert not ended.notify and ended.finding.state is AlarmState.NORMAL and raised.alarms.active() == []


def test_shelved_it_is_not_told_either_when_its_cause_goes(site) -> None:
    one = site().add().add("p2")
    one.link(0)
    one.link(10, connected=False)
    one.tick(70)
    one.tick(1000)
    found = one.the("communication_lost")
    one.took(one.alarms.shelve([found.id], one.at(1001), one.at(90_000)))
    one.link(1100, "p1")
    one.tick(1130)
    one.tick(3000)
    assert one.the("communication_lost").state is AlarmState.SHELVED
    assert one.the("communication_lost").cause is None
    assert one.told() == [("line_lost", "east"), ("communication_lost", "p2")]


def test_taken_off_the_shelf_by_hand_nobody_is_told(raised: Site) -> None:
    found = raised.the("over_voltage")
    raised.alarms.shelve([found.id], raised.at(200), raised.at(3800))
    (back,) = raised.alarms.unshelve([found.id], raised.at(300), "Li")
    assert not back.notify and back.finding.state is AlarmState.UNACKNOWLEDGED
    assert back.finding.shelved_until is None and raised.alarms.unshelve([found.id], raised.at(310)) == []


def test_what_is_not_open_cannot_be_seen_and_then_none_is(raised: Site) -> None:
    found = raised.the("over_voltage")
    with pytest.raises(ConfigError, match="no open alarm nothing"):
        raised.alarms.acknowledge([found.id, "nothing"], raised.at(200))
    assert raised.the("over_voltage").state is AlarmState.UNACKNOWLEDGED
    with pytest.raises(ConfigError, match="to come"):
        raised.alarms.shelve([found.id], raised.at(200), raised.at(200))


def test_after_a_restart_what_was_active_is_not_told_again_and_returns_as_ever(site, raised: Site) -> None:
    other = site()
    other.alarms.restore(raised.alarms.active())
    other.add(second=300)
    high(other, 300)
    assert other.changes == [] and other.the("over_voltage").extreme == 250
    high(other, 500, 230)
    assert [one.event.what for one in other.changes] == [Event.RETURNED]


def test_what_is_over_when_it_is_read_first_after_a_restart_returns(site, raised: Site) -> None:
    other = site()
    other.alarms.restore(raised.alarms.active())
    other.add(second=300)
    high(other, 300, 230)
    assert [one.event.what for one in other.changes] == [Event.RETURNED]


def test_after_a_restart_the_shelf_still_ends_and_the_meter_is_still_lost(site) -> None:
    one = site().add().add("p2")
    one.link(0, "p1")
    one.tick(900)
    found = one.the("communication_lost")
    one.took(one.alarms.shelve([found.id], one.at(901), one.at(2000)))
    other = site()
    other.alarms.restore(one.alarms.active())
    other.add(second=1000).add("p2", second=1000)
    other.link(1000)
    other.link(1010, "p1")
    (again,) = other.tick(2000)
    assert again.notify and again.finding.id == found.id


def test_findings_of_points_that_are_gone_and_of_rules_that_are_switched_off_are_closed(site, raised: Site) -> None:
    (change,) = raised.alarms.set_overrides([Override("point:p1", "over_voltage", enabled=False)], raised.at(200))
    assert change.finding.state is AlarmState.NORMAL and not change.notify and raised.alarms.active() == []
    one = site().add()
    one.settle()
    high(one, 10)
    del one.subjects["p1"]
    one.put(200)
    assert one.alarms.active() == [] and one.changes[-1].event.what is Event.RETURNED


def test_a_point_that_was_changed_keeps_its_alarms(raised: Site) -> None:
    raised.add(area="Hall", second=200)
    assert raised.kinds() == ["over_voltage"]
    high(raised, 210)
    assert len(raised.changes) == 1


def test_behind_other_transformers_the_nominal_voltage_is_another(site) -> None:
    one = site().add()
    one.settle(63)
    one.add(ratio=(1, 100), second=5)
    one.every((6, 7, 8), lambda s: one.volts(s, 5800, 5800, 5800))
    one.every(range(10, 300, 10), lambda s: one.volts(s, 6300, 6300, 6300))
    assert one.kinds() == ["over_voltage"] and one.the("over_voltage").limit == pytest.approx(5774 * 1.07)


# --- any order of events

POINTS = ("p1", "p2")


class AnyOrder(RuleBasedStateMachine):
    """People, meters, lines and clocks in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.site = Site().add("p1").add("p2")
        self.now = 0.0
        self.volts = dict.fromkeys(POINTS, 230.0)
        for point in POINTS:
            self.site.settle(point=point)
        self.seen = 0
        self.open: dict[str, object] = {}
        self.told: set[str] = set()
        """Ids that people were told of and that have not returned."""

    @rule(seconds=st.sampled_from([1, 30, 61, 901, 3601, -4000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.site.tick(self.now)

    @rule(point=st.sampled_from(POINTS), volts=st.sampled_from([0.0, 100.0, 230.0, 244.5, 260.0]), good=st.booleans())
    def read(self, point: str, volts: float, good: bool) -> None:
        from meter_batch_engine import Flag

        self.site.read(self.now, point, [] if good else [Flag.RATE], voltage_l1=volts, voltage_l2=230.0)

    @rule(connected=st.booleans(), silent=st.sets(st.sampled_from(POINTS)))
    def link(self, connected: bool, silent: set[str]) -> None:
        self.site.link(self.now, *silent, connected=connected)

    @rule(share=st.sampled_from([0.0, 0.015, 0.5]), point=st.sampled_from(POINTS))
    def gap(self, share: float, point: str) -> None:
        self.site.took(self.site.alarms.gaps(self.site.at(self.now), {point: share}))

    @precondition(lambda self: self.site.alarms.active())
    @rule(data=st.data(), what=st.sampled_from(["acknowledge", "shelve", "unshelve"]))
    def people(self, data: st.DataObject, what: str) -> None:
        found = data.draw(st.sampled_from(sorted(one.id for one in self.site.alarms.active())))
        at = self.site.at(self.now)
        if what == "shelve":
            self.site.took(self.site.alarms.shelve([found], at, at + timedelta(seconds=600)))
        else:
            self.site.took(getattr(self.site.alarms, what)([found], at, "Li"))

    @rule(enabled=st.booleans(), kind=st.sampled_from(["over_voltage", "line_lost", "communication_lost"]))
    def override(self, enabled: bool, kind: str) -> None:
        override = Override("site", kind, enabled=enabled, severity=Severity.INFO)
        self.site.took(self.site.alarms.set_overrides([override], self.site.at(self.now)))

    @rule(point=st.sampled_from(POINTS))
    def point_goes_and_comes(self, point: str) -> None:
        subject = self.site.subjects.pop(point)
        self.site.put(self.now)
        self.site.subjects[point] = subject
        self.site.put(self.now)

    @rule()
    def restart(self) -> None:
        before = self.site.alarms.active()
        fresh = Site()
        fresh.alarms._findings._new_id = self.site.alarms._findings._new_id
        fresh.alarms.restore(before)
        self.site.alarms = fresh.alarms
        self.site.put(self.now)
        kinds = {one.kind for one in before}
        assert {one.id for one in self.site.alarms.active()} == {one.id for one in before}, kinds

    @invariant()
    def promises(self) -> None:
        changes, self.seen = self.site.changes[self.seen :], len(self.site.changes)
        for change in changes:
            finding, what = change.finding, change.event.what
            was = self.open.get(finding.id)
            # A raise opens; nothing else does, and what is closed never changes again.
            assert what in (Event.RAISED, Event.SUPPRESSED) if was is None else what is not Event.RAISED
            assert change.event.finding == finding.id
            if change.notify:
                assert finding.state is AlarmState.UNACKNOWLEDGED and finding.active and finding.cause is None
                assert finding.id not in self.told or was.state is AlarmState.SHELVED, "told once until it returned"
                self.told.add(finding.id)
            if finding.state is AlarmState.SHELVED:
                assert not change.notify and finding.shelved_until is not None
            else:
                assert finding.shelved_until is None
            if not finding.active:
                self.told.discard(finding.id)
                assert finding.until >= finding.since
            if finding.state is AlarmState.NORMAL:
                assert not finding.active and what is not Event.SHELVED
                del self.open[finding.id]
            else:
                self.open[finding.id] = finding
            if finding.state is AlarmState.RETURNED:
                assert not finding.active
            elif finding.state in (AlarmState.UNACKNOWLEDGED, AlarmState.ACKNOWLEDGED):
                assert finding.active
        # No finding is lost, none appears without a change, and of a kind and subject there is one.
        active = self.site.alarms.active()
        assert {one.id: one.state for one in active} == {id_: one.state for id_, one in self.open.items()}
        assert len({(one.kind, one.subject) for one in active}) == len(active)
        for one in active:
            if one.active and one.cause is None and one.state is AlarmState.UNACKNOWLEDGED:
                assert one.id in self.told, "what is wrong and unseen was told"
        due = self.site.alarms.next_at
        assert due is None or due.tzinfo is not None


AnyOrder.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
test_any_order_of_events_keeps_the_promises = AnyOrder.TestCase


# --- rules as data


def test_the_most_specific_override_counts(site) -> None:
    one = site(
        Override("point:p1", "over_voltage", pickup=1.2, severity=Severity.CRITICAL),
        Override("site", "over_voltage", pickup=1.05, on_delay_s=5),
        Override("area:Hall", "over_voltage", pickup=1.15),
        Override("line:east", "over_voltage", pickup=1.3),
    )
    one.add(area="Hall").add("p2", area="Hall").add("p3", area="Hall", line="west").add("p4", line="west")
    assert [one.alarms.rule("over_voltage", point).pickup for point in ("p1", "p2", "p3", "p4")] == [
        1.2,
        1.3,
        1.15,
        1.05,
    ]
    rule = one.alarms.rule("over_voltage", "p1")
    assert (rule.severity, rule.on_delay_s) == (Severity.CRITICAL, 5)


def test_a_pick_up_that_is_moved_takes_its_drop_out_along(site) -> None:
    one = site(Override("site", "over_voltage", pickup=1.10), Override("site", "high_power", pickup=100)).add()
    assert one.alarms.rule("over_voltage", "p1").dropout == pytest.approx(1.09)
    assert one.alarms.rule("high_power", "p1").dropout == pytest.approx(95)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (Override("site", "overvoltage"), "no alarm rule overvoltage"),
        (Override("house", "over_voltage"), "no scope"),
        (Override("point:", "over_voltage"), "no scope"),
        (Override("site:x", "over_voltage"), "no scope"),
        (Override("site", "over_voltage", pickup=float("nan")), "must be a number"),
        (Override("site", "over_voltage", on_delay_s=-1), "0 or more"),
        (Override("site", "over_voltage", dropout=1.08), "never return"),
        (Override("site", "over_voltage", pickup=-1), "pickup = -1 .* between 0.9 and 2"),
        (Override("site", "low_power_factor", pickup=1.5), "between 0 and 1"),
        (Override("site", "current_unbalance", pickup=0.15), "between 1 and 100"),
        (Override("site", "line_lost", pickup=3), "no level"),
        (Override("site", "communication_lost", on_delay_s=1e12), "between 0 and 604800"),
        (Override("site", "under_voltage", pickup=0.8, dropout=0.7), "never return"),
    ],
)
def test_an_override_that_cannot_be_is_refused_in_words_and_nothing_changes(
    site, override: Override, says: str
) -> None:
    one = site().add()
    with pytest.raises(ConfigError, match=says):
        one.alarms.set_overrides([Override("site", "high_power", pickup=5), override], one.at(0))
    assert one.alarms.rule("high_power", "p1").pickup is None


def test_a_rule_for_what_the_meter_lacks_is_named_where_somebody_asked_for_it(site) -> None:
    one = site(Override("point:p1", "overload", pickup=0.9), Override("site", "reverse_power", pickup=0.1))
    one.add(keys=["energy_import"])
    assert [str(words) for words in one.alarms.unusable()] == [
        "The alarm rule overload cannot work at p1, which has no active_power / apparent_power, "
        "transformer_kva / rated_kw."
    ]
    assert site().add(keys=["energy_import"]).alarms.unusable() == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a]\nlooks_at = 'power'\nseverity = 'bad'", r"\[a\]: severity must be critical"),
        ("[a]\nlooks_at = 'moon'\nseverity = 'info'", r"\[a\]: looks_at = \"moon\""),
        ("[a]\nlooks_at = 'power'\nseverity = 'info'\npickpu = 1", r"\[a\]: unknown key pickpu"),
        ("[a]\nlooks_at = 'power'\nseverity = 'info'\npickup = '1'", r"\[a\]: pickup = '1' must be int or float"),
        ("[a]\nlooks_at = 'power'\nseverity = 'info'\npickup = true", r"\[a\]: pickup = True"),
        ("[a]\nlooks_at = 'power'\nseverity = 'info'\non_delay_s = -1", r"\[a\]: on_delay_s"),
        ("[a]\nlooks_at = 'power'\nseverity = 'info'\npickup = 1\ndropout = 2", r"\[a\]: dropout"),
        ("[a]\nlooks_at = 'power'\nseverity = 'info'\nneeds = ['moon']", r"\[a\]: needs names moon"),
        ("[a]\nlooks_at = 'power'\nseverity = 'info'\nneeds = [1]", r"\[a\]: needs must hold texts"),
        ("[a]\nlooks_at = 'power'\nseverity = 'info'\nexplained_by = ['b']", r"explained_by names b"),
        ("[a]\nlooks_at = 'line'\nseverity = 'info'\n[b]\nlooks_at = 'line'\nseverity = 'info'", r"\[b\]: \[a\] looks"),
        ("a = 1", r"\[a\]: it must be a table"),
        ("a = ", "rules.toml: "),
    ],
)
def test_a_broken_file_of_rules_is_refused_with_file_rule_and_key(tmp_path, text: str, says: str) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as refused:
        load_rules(file)
    assert str(file) in str(refused.value)
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load_rules(tmp_path / "none.toml")


def test_a_site_s_own_file_may_watch_any_quantity(site, tmp_path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(
        "[low_frequency]\nlooks_at = 'frequency'\nseverity = 'info'\nabove = false\npickup = 49.8\ndropout = 49.85\n",
        encoding="utf-8",
    )
    one = site(rules=load_rules(file)).add(keys=["frequency"])
    (change,) = one.read(0, frequency=49.7)
    from meter_batch_engine import sentence

    assert sentence(change.finding, "Main") == "Main: low_frequency: 49.7 Hz; the limit is 49.8 Hz."
