"""Code to copy: one request, in three languages."""

from __future__ import annotations

import json
from typing import NamedTuple

LONGEST = 2000  # characters of input; a longer one is fetched instead

_CURL = """\
curl {url}/models/{name}/predict{key} \\
  -H 'Content-Type: application/json' \\
  -d '{body}'"""
_PYTHON = """\
from modelyard.client import Client

with Client("{url}"{key}) as client:
    print(client.predict("{name}", {instances}))"""
_JAVASCRIPT = """\
{begin}const answer = await fetch("{url}/models/{name}/predict", {{
  method: "POST",
  headers: {{ "Content-Type": "application/json"{key} }},
  body: JSON.stringify({body}),
}});
console.log((await answer.json()).prediction);"""


class Snippet(NamedTuple):
    """Code in one language."""

    language: str
    code: str


def snippets_of(
    url: str, name: str, example: object, *, wants_key: bool, gives_pieces: bool = False
) -> list[Snippet]:
    """Return code that asks a model its example. ``url``: of the gateway. ``gives_pieces``: whether
    its answer can be had in pieces too.
    """
    instances = example if len(json.dumps(example)) <= LONGEST else []
    body = json.dumps({"input_data": instances}, ensure_ascii=False)
    curl = _CURL.format(
        url=url,
        name=name,
        body=body.replace("'", "'\\''"),
        key=' \\\n  -H "Authorization: Bearer $MODELYARD_API_KEY"' if wants_key else "",
    )
    python = _PYTHON.format(
        url=url, name=name, instances=repr(instances), key=', api_key="mdy_…"' if wants_key else ""
    )
    script = _JAVASCRIPT.format(
        url=url,
        name=name,
        body=body,
        begin='const key = "mdy_…";\n' if wants_key else "",
        key=', "X-API-Key": key' if wants_key else "",
    )
    found = [Snippet("curl", curl), Snippet("Python", python), Snippet("JavaScript", script)]
    if gives_pieces:
        code = curl.replace("curl ", "curl -N ", 1)
        code = code.replace("  -d ", "  -H 'Accept: text/event-stream' \\\n  -d ", 1)
        found.append(Snippet("curl, in pieces", code))
    return found
