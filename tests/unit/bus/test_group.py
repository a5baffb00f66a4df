"""How a member takes part in its group: under which name, and with which protocols."""

from dataclasses import replace

from orchestrator.bus.group import Group, GroupView, foreign_members, member_name, owner_problem
from orchestrator.bus.options import BusOptions, Topics
from orchestrator.store.service import Identity

OURS = Identity(service="s", place="p")
COPY = Identity(service="s", place="q")
OPTIONS = BusOptions(member="w")


def protocols(group: Group) -> list[str]:
    return [assignor.name for assignor in group.assignors]


def view(protocol: str = "", *services: str) -> GroupView:
    return GroupView(protocol=protocol, members=("x at /h",), services=frozenset(services))


def test_only_workers_of_the_same_database_share_a_protocol() -> None:
    ours, copy = Group(OPTIONS, OURS, cluster_id="c"), Group(OPTIONS, COPY, cluster_id="c")
    assert protocols(ours) == ["orchestrator-p"]
    assert not set(protocols(ours)) & set(protocols(copy))


def test_workers_of_an_earlier_release_are_admitted_as_long_as_it_is_said() -> None:
    group = Group(OPTIONS, OURS, cluster_id="c")
    assert group.admit_earlier_releases(True)
    assert not group.admit_earlier_releases(True)
    assert protocols(group) == ["orchestrator-p", "roundrobin"]
    assert group.admit_earlier_releases(False)
    assert protocols(group) == ["orchestrator-p"]


def test_a_join_after_the_first_says_something_new() -> None:
    group = Group(OPTIONS, OURS, cluster_id="c")
    before = group.assignors[0].metadata(["tasks"]).encode()
    group.renew()
    assert group.assignors[0].metadata(["tasks"]).encode() != before


def test_a_members_name_differs_with_what_it_reads_and_for_whom() -> None:
    other = replace(OPTIONS, topics=Topics(events="other"))
    names = {member_name(OPTIONS, OURS), member_name(OPTIONS, COPY), member_name(other, OURS)}
    assert len(names) == 3
    assert all(name and name.startswith("w.") for name in names)
    assert member_name(BusOptions(), OURS) is None


def test_a_group_is_foreign_by_its_protocol_or_by_the_service_that_committed() -> None:
    assert owner_problem(OPTIONS, view("", "s"), OURS) is None
    assert "belongs to service t" in (owner_problem(OPTIONS, view("", "s", "t"), OURS) or "")
    for protocol, earlier, is_well in (
        ("", False, True),
        ("orchestrator-p", False, True),
        ("roundrobin", True, True),
        ("roundrobin", False, False),
        ("orchestrator-q", True, False),
    ):
        said = foreign_members(OPTIONS, view(protocol), OURS, admits_earlier_releases=earlier)
        assert (said is None) == is_well
