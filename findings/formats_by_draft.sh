#!/usr/bin/env bash
# jsonschema-rs has two verdicts on one value: $schema decides, also with validate_formats=True.
#
# Expected: with validate_formats=True a schema says the same whether it has "$schema" or not; a draft 7
#   schema of a tool (most generators write one) refuses what a 2020-12 schema refuses.
# Seen: "format" of uuid and duration is passed over under draft 7, seven more (iri, json-pointer,
#   uri-template, …) under older drafts: "uuid" takes any text. The other way round, contentEncoding and
#   contentMediaType are asserted under draft 7 and are annotations under 2020-12: the same
#   {"contentEncoding": "base64"} refuses "$" or takes it. The schema without $schema is 2020-12.
# Versions: jsonschema-rs 0.60.3.
# What to do: hand the newer formats to validator_for as `formats`, and the content keywords as `keywords`
#   that do nothing.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check jsonschema-rs==0.60.3
cat >"$dir/try.py" <<'PYTHON'
import sys

import jsonschema_rs

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_4 = "http://json-schema.org/draft-04/schema#"


def takes(contract: dict, value: str, schema: str | None) -> bool:
    named = contract if schema is None else {"$schema": schema, **contract}
    return jsonschema_rs.validator_for(named, validate_formats=True).is_valid(value)


seen = {
    "a date": [takes({"format": "date"}, "x", each) for each in (None, DRAFT_7, DRAFT_4)],
    "a uuid": [takes({"format": "uuid"}, "x", each) for each in (None, DRAFT_7, DRAFT_4)],
    "an iri": [takes({"format": "iri"}, "x y", each) for each in (None, DRAFT_7, DRAFT_4)],
    "base64": [takes({"contentEncoding": "base64"}, "$", each) for each in (None, DRAFT_7)],
}
for name, verdicts in seen.items():
    print(f"{name} that is none is taken without $schema, under draft 7, under draft 4: {verdicts}")
expected = {
    "a date": [False, False, False],
    "a uuid": [False, True, True],
    "an iri": [False, False, True],
    "base64": [True, False],
}
sys.exit(0 if seen == expected else f"the behaviour has changed: {seen}")
PYTHON
"$dir/venv/bin/python" "$dir/try.py"
