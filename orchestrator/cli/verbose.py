"""`--verbose`: what the model was shown and what it decided, as log lines for people."""

import orjson

from orchestrator.planners.planner import PromptMessage, PromptShown
from orchestrator.telemetry.logs import VERBOSE_LOGGER, get_logger

log = get_logger(VERBOSE_LOGGER)


def show_turn(shown: PromptShown) -> None:
    """One line for the prompt and one for the decision, each with its text as a block."""
    log.info(
        "prompt",
        step=shown.step,
        messages=len(shown.messages),
        tools=len(shown.tools),
        block="\n".join(_message_text(m) for m in shown.messages),
    )
    turn = shown.turn
    log.info(
        "decision",
        step=shown.step,
        type=turn.decision.type,
        model=turn.model,
        input_tokens=turn.usage.input_tokens,
        output_tokens=turn.usage.output_tokens,
        duration_ms=turn.duration_ms,
        block=_decision_text(shown),
    )


def _message_text(message: PromptMessage) -> str:
    calls = "".join(f"\n  → {_call_text(call)}" for call in message.tool_calls)
    return f"[{message.role}] {message.text}{calls}"


def _decision_text(shown: PromptShown) -> str:
    message = shown.turn.message
    lines = [_call_text(call) for call in message.tool_calls] if message else []
    lines += [f"answered at once: {reply.text}" for reply in shown.turn.replies]
    return "\n".join(lines)


def _call_text(call: object) -> str:
    assert isinstance(call, dict)
    args = call.get("args")
    text = args if isinstance(args, str) else orjson.dumps(args).decode()
    return f"{call.get('name')}({text})"
