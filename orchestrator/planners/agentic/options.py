"""The bounds of the agentic planner; free of LangChain, so that reading settings stays fast."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AgenticOptions:
    """Bounds of a turn and of what a prompt holds."""

    max_agent_tools: int = 12
    """Up to this many agents each is a tool of its own; above, they share `call_agent`."""
    max_calls: int = 16
    """Agent calls in one decision."""
    max_repairs: int = 2
    """Unusable answers in a row that the model may mend; the next one fails the task."""
    history_characters: int = 200_000
    """Of the conversation; the oldest outputs are shortened above it."""
    output_characters: int = 16_000
    """Of one agent's output, or one event, as the model sees it."""
