"""What one turn of the model may use, known before it is asked: its prompt, and its answer.

Where a budget bounds the task the request says how long the answer may be, so that it can't use
more than there is for it.
"""

from dataclasses import dataclass, replace

from orchestrator.domain.budget import Allowance, Resource
from orchestrator.domain.decision import Usage
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.chat.options import ModelOptions
from orchestrator.planners.planner import OverBudget
from orchestrator.telemetry import metrics

BOUNDED_OUTPUT_TOKENS = 16_000
"""The longest answer of a task with a budget, where no setting bounds it: a decision has some 50 to
500, but a model that thinks first counts its thoughts as output. Few models write more."""
TEXT_OUTPUT_TOKENS = 4000
"""Of the answer after one in plain text: an endpoint that ignores tools may write without end."""
LOST_OUTPUT_TOKENS = 4000
"""Of a lost answer, at most: what it may have used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What a turn may use, as far as it can be known before."""

    usage: Usage
    """What the task is charged with where the answer gets lost."""
    cost_micros: int
    max_output_tokens: int | None = None
    """To be said in the request; None where it says so anyway, or nothing bounds the answer."""
    has_budget: bool = False
    """Without one of its own, a task is not charged for what got lost."""


def reserve(
    snapshot: Snapshot, *, prompt_bytes: int, options: ModelOptions, can_bound: bool
) -> Reserved:
    """What the turn with this prompt gets; `can_bound`: a request can say how long its answer is.

    Raises:
        OverBudget: it may need more tokens or money than there is for it.
        ModelFailed: the task has a budget of money, and the model no price.
    """
    allowance = snapshot.allowance
    if allowance.cost_micros is not None and options.price is None:
        raise ModelFailed(
            f"the task has a budget of money, and nobody said what {options.model} costs: set "
            "ORCHESTRATOR_MODEL_PRICES, then `orchestrator tasks retry`",
            retryable=False,
        )
    usage = options.turn_bound(prompt_bytes=prompt_bytes)
    _afford(allowance, usage, options.cost(usage))
    has_budget = _has_budget(snapshot)
    if options.max_output_tokens is not None or not (can_bound and has_budget):
        return Reserved(usage=usage, cost_micros=options.cost(usage), has_budget=has_budget)
    # At its least it was seen to fit, by sums that are rounded otherwise than this division.
    bound = max(usage.output_tokens, _output_left(allowance, usage.input_tokens, options))
    usage = replace(usage, output_tokens=min(bound, LOST_OUTPUT_TOKENS))
    return Reserved(
        usage=usage, cost_micros=options.cost(usage), max_output_tokens=bound, has_budget=True
    )


def _afford(allowance: Allowance, usage: Usage, cost_micros: int) -> None:
    needs: tuple[tuple[Resource, int, int | None], ...] = (
        ("tokens", usage.total, allowance.tokens),
        ("cost_micros", cost_micros, allowance.cost_micros),
    )
    for resource, needed, left in needs:
        if left is not None and needed > left:
            metrics.BUDGETS_SPENT.labels(resource).inc()
            raise OverBudget(resource, needed=needed, left=left)


def _has_budget(snapshot: Snapshot) -> bool:
    """Of tokens or money; the service's own limit of tokens, which every task has, is none."""
    return snapshot.task.budget.tokens is not None or snapshot.allowance.cost_micros is not None


def _output_left(allowance: Allowance, input_tokens: int, options: ModelOptions) -> int:
    """How long an answer to so long a prompt may be."""
    left: float = BOUNDED_OUTPUT_TOKENS
    if allowance.tokens is not None:
        left = min(left, allowance.tokens - input_tokens)
    price = options.price
    if allowance.cost_micros is not None and price is not None and price.output > 0:
        left = min(left, (allowance.cost_micros - input_tokens * price.input) / price.output)
    return int(left)
