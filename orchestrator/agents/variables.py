"""`${NAME}` in a declaration: which variables may be used, and how they are filled in.

They are filled in once, where a file is read. What is stored is literal.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

ALLOWED = ("DEMO_AGENTS_URL",)
"""The variable of the demo's declarations."""

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclarationVariables:
    """The variables that a declaration may use in its URLs."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    allowed: tuple[str, ...] = ALLOWED
    """Names. One that ends in `*` allows every name that begins so."""

    def allows(self, name: str) -> bool:
        return any(
            name.startswith(known[:-1]) if known.endswith("*") else name == known
            for known in self.allowed
        )

    def filled(self, text: str) -> str:
        """`text` with `${NAME}` and `${NAME:-default}` replaced, once.

        An empty variable counts as not set. Raises `ValueError` that names a variable that is not
        set or not allowed.
        """

        def value(match: re.Match[str]) -> str:
            name, default = match["name"], match["default"]
            if not self.allows(name):
                raise ValueError(
                    f"uses ${{{name}}}, but ORCHESTRATOR_DECLARATION_VARIABLES does not allow "
                    f"{name}; add the name to that setting, or write the value itself"
                )
            found = self.environ.get(name) or default
            if found is None:
                raise ValueError(
                    f"uses ${{{name}}}, but the variable {name} is not set; "
                    f"set it, or write ${{{name}:-default}}"
                )
            # `http://agents/` before `/crm`: whoever sets it need not know how it is used.
            return found.rstrip("/") if text.startswith("/", match.end()) else found

        return _VARIABLE.sub(value, text)
