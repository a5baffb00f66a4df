"""What can go wrong with a server that we run ourselves."""

from orchestrator.domain.errors import OperatorError


class LocalServerError(OperatorError):
    """A local server can't be started or used; the text says why and what to do."""

    code = "local_server"
