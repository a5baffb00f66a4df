"""What can't be used ends in `dead-letters` as it came, and never stops a partition."""

from collections import Counter

from chaos.malformed import MALFORMED, MAX_BYTES, Malformed
from tests.acceptance.conftest import Office
from tests.fakes.bus import until

REGISTER = "Register the customer ACME"
PARTITION = 3
"""One for all, so that each bad message stands before a good one."""


def kinds() -> list[Malformed]:
    """Fifty, and the largest among them."""
    largest = [bad for bad in MALFORMED if len(bad.value or b"") > MAX_BYTES]
    return [*largest, *(bad for bad in MALFORMED if bad not in largest)][:50]


async def test_fifty_malformed_messages_of_fifty_kinds_end_in_dead_letters_as_they_came(
    office: Office,
) -> None:
    observer = office.observer
    topics = {"tasks": observer.topics.tasks, "events": observer.topics.events}
    for number, bad in enumerate(kinds()):
        await observer.publish(
            topics[bad.topic],
            bad.value,
            key=b"bad-%d" % number,
            headers=bad.headers,
            partition=PARTITION,
        )
        await observer.task(f"good-{number}", REGISTER, "customer_id")
    await observer.completed(*(f"good-{number}" for number in range(50)))

    await until(lambda: len(observer.letters) >= 50, what="50 dead letters")
    values = {letter.key: letter.value for letter in observer.letters}
    assert len(observer.letters) == 50
    assert values == {b"bad-%d" % number: bad.value for number, bad in enumerate(kinds())}


async def test_a_dead_letter_says_why_and_where_it_came_from(office: Office) -> None:
    before = len(office.observer.letters)
    tasks = office.observer.topics.tasks

    await office.observer.publish(tasks, b'{"task_id": "x"}', key=b"k", partition=2)

    await until(lambda: len(office.observer.letters) > before, what="the letter")
    letter = office.observer.letters[-1]
    assert (letter.key, letter.value) == (b"k", b'{"task_id": "x"}')
    assert letter.header("reason") == "schema"
    assert letter.header("error").startswith("task_description: missing")
    assert letter.header("original.topic") == tasks
    assert letter.header("original.partition") == "2"


async def test_good_messages_around_bad_ones_are_done_in_the_same_partition(
    office: Office,
) -> None:
    tasks = office.observer.topics.tasks
    good = (
        b'{"task_id": "between-%d", "task_description": "Register the customer ACME",'
        b' "required_fields": ["customer_id"]}'
    )
    for number in range(5):
        await office.observer.publish(tasks, b"\xff", partition=PARTITION)
        await office.observer.publish(tasks, good % number, partition=PARTITION)

    await office.observer.completed(*(f"between-{number}" for number in range(5)))

    rows = await office.observer.rows("SELECT task_id FROM tasks WHERE task_id LIKE 'between-%'")
    assert Counter(row["task_id"] for row in rows) == {f"between-{n}": 1 for n in range(5)}
