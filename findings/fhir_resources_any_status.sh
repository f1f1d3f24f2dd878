#!/usr/bin/env bash
# fhir.resources 8.3.0, its models of FHIR R4B: what of a DiagnosticReport they check.
#
# Guess: a status that the standard does not have, a device as performer and a reference to a contained
# resource that is not there are each refused, as an unknown element or a malformed id is.
# What happened: all three pass, and so does an id of 65 characters (at most 64 are allowed). Only names of
# elements and the patterns of values are checked. The required codes and the kinds of references are listed in the
# models (enum_values, enum_reference_types), but nothing looks at them.
# Output seen: accepted: status 'bogus', performer Device/1, result #gone, id of 65 characters; refused:
#              unknown element, id a_b, issued 2024-01-01.
# Date: 2026-11-28.
#
# Why it matters here: a report whose status is misspelt "prelim" validates, is sent, and is either refused
# by the server or shown as if it were final. Whoever writes resources checks the required codes and the
# references himself, as tests/batch/test_reports.py does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet fhir.resources==8.3.0 pydantic==2.14.4
env/bin/python - <<'PY'
import importlib.metadata as md

from fhir.resources.R4B.diagnosticreport import DiagnosticReport

print({name: md.version(name) for name in ("fhir.resources", "pydantic")})


def accepted(**more):
    report = {"resourceType": "DiagnosticReport", "status": "preliminary", "code": {"text": "chest"}, **more}
    try:
        DiagnosticReport.model_validate(report)
        answer = True
    except ValueError:
        answer = False
    print("accepted" if answer else "refused ", more)
    return answer


assert accepted(status="final")
assert accepted(status="bogus"), "required codes are checked now"
assert accepted(performer=[{"reference": "Device/1", "type": "Device"}]), "kinds of references are checked now"
assert accepted(result=[{"reference": "#gone"}]), "references to contained resources are checked now"
assert accepted(id="x" * 65), "the length of an id is checked now"
assert not accepted(unknown=1)
assert not accepted(id="a_b")
assert not accepted(issued="2024-01-01")
PY
