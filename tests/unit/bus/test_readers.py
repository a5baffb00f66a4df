"""Which partitions no worker of the service reads, by what the workers say."""

from orchestrator.bus.readers import elsewhere, unread
from orchestrator.domain.ids import WorkerId
from orchestrator.store.service import Intake, Peer


def reading(*reads: tuple[str, int], cluster: str = "c", group: str = "g") -> Intake:
    return Intake(cluster=cluster, group=group, topics={"tasks": 3}, reads=frozenset(reads))


def peer(intake: Intake | None) -> Peer:
    return Peer(id=WorkerId(2), intake=intake)


def test_what_nobody_reads_is_unread() -> None:
    others = [peer(reading(("tasks", 1)))]
    assert unread(reading(("tasks", 0)), others) == {("tasks", 2)}


def test_nothing_is_unread_beside_a_worker_that_does_not_say_what_it_reads() -> None:
    assert unread(reading(), [peer(None), peer(reading())]) == frozenset()


def test_who_reads_another_cluster_reads_nothing_here() -> None:
    others = [peer(reading(("tasks", 1), cluster="other"))]
    assert unread(reading(("tasks", 0)), others) == {("tasks", 1), ("tasks", 2)}


def test_what_a_worker_says_comes_back_as_it_was() -> None:
    said = reading(("tasks", 2), ("tasks", 0)).to_json()
    assert said == {
        "cluster": "c",
        "group": "g",
        "topics": {"tasks": 3},
        "reads": {"tasks": [0, 2]},
    }


def test_workers_of_one_database_in_two_groups_or_clusters_are_told_apart() -> None:
    said = reading()
    assert elsewhere(said, [peer(reading()), peer(None), peer(reading(cluster=""))]) == ()
    others = [peer(reading(group="h")), peer(reading(cluster="d"))]
    assert elsewhere(said, others) == ("group 'g' of cluster d", "group 'h' of cluster c")
