"""The names of things: ids as types of their own, and the idempotency key that is made of them."""

from typing import NewType

TaskId = NewType("TaskId", str)
"""The id that a user knows: the Kafka key, `tasks.task_id`."""

TaskKey = NewType("TaskKey", int)
"""The row's own number, `tasks.id`: what the other tables refer to."""

WorkerId = NewType("WorkerId", int)
"""One life of a worker process: a restart under the same name gets a new one."""

Epoch = NewType("Epoch", int)
"""Grows with each change of a task's owner; a write that carries an older one is refused."""

Seq = NewType("Seq", int)
"""A step's number within its task, from 1 without gaps."""

AgentId = NewType("AgentId", str)


def idempotency_key(task_id: TaskId, *, step: Seq, call: int) -> str:
    """The key under which an agent may do this call's effect once.

    Agents store it: never change the format, or calls under way during an upgrade are done twice.
    """
    return f"{task_id}/{step}/{call}"
