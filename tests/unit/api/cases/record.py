"""Fills in the answers of the case files from a genuine kube-apiserver.

    python tests/unit/api/cases/record.py https://127.0.0.1:17443 CA CERT KEY [FILE…]

A case file is a JSON list of cases: {"name", "whole": compare objects too, "steps": [{"method", "path", "type", "body"
or "text"}]}. Each case is cleared away afterwards; its namespace is `case`. The answer of its last step (of each step
where "every" is true) is written beside it, as `replay.answer_of` reduces it. A case with "table" (a path) records the
object there and its cells in the table that kubectl prints. A case with "server" needs more than rules (addresses), and
is asked of the whole server only.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.unit.api.replay import answer_of

HERE = Path(__file__).parent
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Server:
    def __init__(self, url: str, ca: str, certificate: str, key: str) -> None:
        self.url = url
        self.tls = ssl.create_default_context(cafile=ca)
        self.tls.load_cert_chain(certificate, key)

    def send(self, step: dict[str, Any]) -> tuple[int, Any, list[str]]:
        body = step.get("text", "").encode() or (json.dumps(step["body"]).encode() if "body" in step else None)
        headers = {"Content-Type": step.get("type", "application/json"), "User-Agent": "probe"}
        headers["Accept"] = step.get("accept", "application/json")
        request = urllib.request.Request(self.url + step["path"], body, headers, method=step["method"])
        try:
            with urllib.request.urlopen(request, context=self.tls) as answer:
                return answer.status, parsed(answer.read()), warnings_of(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, parsed(error.read()), warnings_of(error.headers)


def parsed(body: bytes) -> Any:
    """A Status; the rims of kube-apiserver answer with text."""
    try:
        return json.loads(body)
    except json.JSONDecodeError:
        return {"message": body.decode().strip()}


def warnings_of(headers: Any) -> list[str]:
    texts = [text.split(" ", 2)[2] for text in headers.get_all("Warning") or []]
    return [json.loads(text) for text in texts]


def stored(obj: dict[str, Any]) -> dict[str, Any]:
    obj["metadata"].pop("managedFields", None)
    return obj


def record(server: Server, path: Path) -> None:
    cases = json.loads(path.read_text())
    for case in cases:
        made: list[str] = []
        for step in case["steps"]:
            code, body, warnings = server.send(step)
            step.pop("answer", None)
            if "table" not in case and (step is case["steps"][-1] or case.get("every")):
                step["answer"] = answer_of(code, body, warnings, whole=case.get("whole", False))
            elif code >= 400:
                raise SystemExit(f"{case['name']}: preparation failed: {body}")
            if code == 201 and "dryRun" not in step["path"] and body.get("kind") != "Status":
                base = step["path"].split("?")[0]
                made.append(base if step["method"] == "PATCH" else f"{base}/{body['metadata']['name']}")
        if "table" in case:
            case["object"] = stored(server.send({"method": "GET", "path": case["table"]})[1])
            table = server.send({"method": "GET", "path": case["table"], "accept": TABLE})[1]
            case["cells"] = table["rows"][0]["cells"]
        for url in reversed(made):
            bare = {"metadata": {"finalizers": None}}
            server.send({"method": "PATCH", "path": url, "type": "application/merge-patch+json", "body": bare})
            server.send({"method": "DELETE", "path": url + "?gracePeriodSeconds=0&propagationPolicy=Background"})
    path.write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    server = Server(*sys.argv[1:5])
    server.send({"method": "POST", "path": "/api/v1/namespaces", "body": {"metadata": {"name": "case"}}})
    account = {"method": "POST", "path": "/api/v1/namespaces/case/serviceaccounts"}
    server.send({**account, "body": {"metadata": {"name": "default"}}})
    for file in map(Path, sys.argv[5:]) if len(sys.argv) > 5 else sorted(HERE.glob("*.json")):
        record(server, file)
