"""The demo LLM and the demo agents, each a child process, on ports that stay from run to run."""

import asyncio
import sys
import urllib.request
from pathlib import Path

from orchestrator.local.errors import LocalServerError
from orchestrator.local.ports import LOOPBACK, keep_ports
from orchestrator.local.process import ChildProcess, Command

PACKAGE = Path(__file__).resolve().parents[1]
DEMO_MODEL = "openai:demo-planner"
"""What the demo LLM lists, as `LLM_MODEL` names it."""
START_SECONDS = 30
PROBE_SECONDS = 2


def demo_folder() -> Path:
    """In a wheel the demo lies inside the package, in a checkout beside it."""
    inside = PACKAGE / "demo"
    return inside if inside.is_dir() else PACKAGE.parent / "demo"


class DemoServers:
    """What a newcomer has no address of yet. `start` returns when they answer."""

    def __init__(self, data_dir: Path, *, with_model: bool) -> None:
        """`with_model` False: a model of the user's own is asked, and only agents are started."""
        ports = keep_ports(data_dir / "demo-ports.json", ["model", "agents"])
        self.model_url = f"http://{LOOPBACK}:{ports['model']}/v1" if with_model else None
        self.agents_url = f"http://{LOOPBACK}:{ports['agents']}"
        self.declarations = demo_folder() / "agents"
        """The folder with the agents' YAML files."""
        logs = data_dir / "logs"
        self._children = [_child("agents/serve.py", "the demo agents", ports["agents"], logs)]
        self._probes = [f"{self.agents_url}/health"]
        if with_model:
            self._children.append(_child("llm/server.py", "the demo LLM", ports["model"], logs))
            self._probes.append(f"http://{LOOPBACK}:{ports['model']}/health")

    async def start(self) -> None:
        """Raises LocalServerError with the log's last lines when one does not come up."""
        outcomes = await asyncio.gather(
            *(
                _start(child, probe)
                for child, probe in zip(self._children, self._probes, strict=True)
            ),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self.stop()
                raise outcome

    async def stop(self) -> None:
        await asyncio.gather(*(child.stop(grace_seconds=5) for child in self._children))


def _child(script: str, name: str, port: int, logs: Path) -> ChildProcess:
    path = demo_folder() / script
    if not path.is_file():
        raise LocalServerError(f"{name}: {str(path)!r} is not there; is the installation whole?")
    logs.mkdir(parents=True, exist_ok=True)
    command = Command(name=name, argv=(sys.executable, str(path), "--port", str(port)))
    return ChildProcess(command, log=logs / f"{path.parent.name}.log")


async def _start(child: ChildProcess, probe: str) -> None:
    await child.start()
    await child.wait_until(lambda: asyncio.to_thread(_answers, probe), within_seconds=START_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:  # noqa: S310 - ours
            return bool(answer.status == 200)
    except OSError:
        return False
