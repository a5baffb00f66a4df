"""How a worker works: its limits, its intervals and how long it may be silent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator.domain.budget import NO_BUDGET, Budget
from orchestrator.domain.errors import InvalidSettings
from orchestrator.domain.retry import RetryPolicy

MIN_KEPT = timedelta(days=30)
"""For so long a producer may send a message again, and be told apart from a new one."""
MIN_WEIGHT = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimits:
    """Bounds of a task that brings none of its own; what it used is in its journal."""

    max_steps: int = 100
    max_attempts: int = 100
    """Failed tries of the model and of agents, of all calls together."""
    max_tokens: int = 200_000
    max_cost_micros: int | None = None
    max_age: timedelta = timedelta(days=7)
    """From the task's acceptance, waiting included; a task's own `deadline` may be earlier."""
    ceilings: Budget = NO_BUDGET
    """What a task's own budget and the top-ups of events come to at most.

    None: ten times the limit above.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Of one worker process."""

    worker_name: str
    """A restart under the same name takes its tasks back at once."""
    concurrency: int = 200
    """Tasks that run at the same time."""
    max_loaded_bytes: int = 64 * 1024 * 1024
    """Of the journals, as JSON, of the tasks that run at the same time: memory is a few times that.

    One task is run whatever its size.
    """
    lease: timedelta = timedelta(seconds=8)
    """How long a worker may be silent before others take its tasks."""
    poll: timedelta = timedelta(seconds=1)
    """Until a runnable task is found without a notice; four times that where all is quiet."""
    grace: timedelta = timedelta(seconds=20)
    """How long calls may go on after a stop was asked for."""
    async_result_timeout: timedelta = timedelta(hours=24)
    """How long an agent that answered 202 may take."""
    max_claims: int = 5
    """Claims without a step after which a task is set aside."""
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    """How often a tenant gets a turn where tasks queue up, against 1 of those not named."""
    dead_letters: str = "dead-letters"
    """The topic's name."""
    keep_finished: timedelta | None = None
    """How long tasks stay that are over, with all that is theirs; None: for ever."""
    limits: TaskLimits = TaskLimits()
    agent_retry: RetryPolicy = RetryPolicy()
    model_retry: RetryPolicy = RetryPolicy(max_attempts=8, base_seconds=1.0)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InvalidSettings(f"concurrency {self.concurrency} must be at least 1")
        if self.keep_finished is not None and self.keep_finished < MIN_KEPT:
            raise InvalidSettings(
                f"finished tasks must be kept for {MIN_KEPT.days} days at least, not "
                f"{self.keep_finished}: a message that comes again would be a new task"
            )
        if self.lease < timedelta(seconds=1):
            raise InvalidSettings(f"lease {self.lease} must be at least one second")
        for tenant, weight in self.tenant_weights.items():
            if not MIN_WEIGHT <= weight <= 1 / MIN_WEIGHT:
                raise InvalidSettings(
                    f"weight {weight:g} of tenant {tenant!r} must lie between {MIN_WEIGHT:g} "
                    f"and {1 / MIN_WEIGHT:g}"
                )

    @property
    def shared_claims(self) -> int:
        """So many claims without a step are made among others; the last three as a suspect.

        Not fewer as a suspect: where workers die of something else, one of them dies beside a
        suspect once in a while. Not fewer among others: one death would make suspects of all that a
        worker held.
        """
        return max(1, self.max_claims - 3)

    @property
    def heartbeat(self) -> timedelta:
        """Three may be lost before the lease ends."""
        return self.lease / 4

    @property
    def heartbeat_patience(self) -> timedelta:
        """For one heartbeat; a second one that follows at once may still save the lease."""
        return self.lease * 0.3

    @property
    def fence(self) -> timedelta:
        """After this long without a heartbeat nothing is sent: others may not take over yet."""
        return self.lease * 0.7
