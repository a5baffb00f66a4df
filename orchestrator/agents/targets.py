"""All agents and models that this worker calls: their states, and the operators' pauses."""

import random
import time
from collections.abc import Callable, Mapping

from orchestrator.agents.target import Pause, Target, TargetOptions, TargetState
from orchestrator.domain.agent import Agent, Limits
from orchestrator.domain.ids import AgentId


def agent_target(tenant: str, agent: AgentId) -> str:
    """Under this name an agent is paused, parked for and told about; it is stored."""
    return f"agent/{tenant}/{agent}"


def model_target(name: str) -> str:
    return f"model/{name}"


class Targets:
    """One entry for each agent that was called, and for the model: as small as the catalogue."""

    def __init__(
        self,
        options: TargetOptions = TargetOptions(),
        *,
        seconds: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._seconds = seconds
        self._random = random
        self._targets: dict[str, Target] = {}
        self._endpoints: dict[str, str] = {}
        self._pauses: Mapping[str, Pause] = {}
        self.on_open: Callable[[str], None] = lambda _target: None
        """Told by name when calls may go out again: who is parked for it may come."""

    def agent(self, agent: Agent) -> Target:
        name = agent_target(agent.tenant, agent.id)
        if self._endpoints.get(name) != agent.endpoint:
            # What is known of another address says nothing about this one.
            self._targets.pop(name, None)
            self._endpoints[name] = agent.endpoint
        return self._target(name, agent.limits)

    def model(self, name: str, limits: Limits) -> Target:
        return self._target(model_target(name), limits)

    def is_open(self, name: str) -> bool:
        """Whether calls may go out, as far as pause and breaker go; true where it is not known."""
        target = self._targets.get(name)
        return name not in self._pauses if target is None else target.is_open()

    def set_pauses(self, pauses: Mapping[str, Pause]) -> None:
        """Takes the pauses that there are now, all of them."""
        resumed = [name for name in self._pauses if name not in pauses]
        self._pauses = dict(pauses)
        for name, target in self._targets.items():
            target.pause = self._pauses.get(name)
        for name in resumed:
            self.on_open(name)

    def states(self) -> tuple[TargetState, ...]:
        return tuple(target.state() for target in self._targets.values())

    def _target(self, name: str, limits: Limits) -> Target:
        target = self._targets.get(name)
        if target is None:
            target = self._targets[name] = Target(
                name,
                limits=limits,
                options=self._options,
                seconds=self._seconds,
                random=self._random,
                closed=lambda target: self.on_open(target),
            )
            target.pause = self._pauses.get(name)
        target.limit(limits)
        return target
