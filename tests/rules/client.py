"""Firestore's REST interface as a person's browser uses it: with a token, under the rules."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from tools.emulators import firestore_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PROJECT = "demo-rules"
SECONDS = 60.0
"""How long an answer may take: on a busy machine the emulator is slow."""
_ALLOWED, _DENIED = (200, 404), 403


@contextmanager
def guarded_by(rules: Path) -> Iterator[RulesClient]:
    """Run an emulator with these rules."""
    with (
        firestore_emulator(rules=rules) as host,
        httpx.Client(base_url=f"http://{host}", timeout=SECONDS) as http,
    ):
        yield RulesClient(http)


class RulesClient:
    """An emulator under rules."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.owner = Person(http, PROJECT, "Bearer owner")
        """Whoever answers to IAM and not to the rules."""

    def somebody(self, claims: Mapping[str, Any] | None) -> Person:
        """Give a person with these claims in the token; with None one who is not signed in."""
        authorization = None if claims is None else f"Bearer {_token(claims)}"
        return Person(self._http, PROJECT, authorization)

    def coverage(self) -> dict[str, Any]:
        """Give the report of which expressions of the rules had which values."""
        answer = self._http.get(f"/emulator/v1/projects/{PROJECT}:ruleCoverage")
        report: dict[str, Any] = answer.raise_for_status().json()
        return report


class Person:
    """Each call tells whether it was allowed; any other answer raises RuntimeError."""

    def __init__(self, http: httpx.Client, project: str, authorization: str | None) -> None:
        self._http = http
        self._documents = f"projects/{project}/databases/(default)/documents"
        self._headers = {} if authorization is None else {"Authorization": authorization}

    def get(self, path: str) -> bool:
        """Read one document."""
        return _allowed(self._http.get(f"/v1/{self._documents}/{path}", headers=self._headers))

    def find(self, path: str) -> bool:
        """Query the collection that `path` is in."""
        parent, _, name = path.rpartition("/")[0].rpartition("/")
        return self.query({"from": [{"collectionId": name}], "limit": 5}, parent)

    def query(self, structured: Mapping[str, Any], parent: str = "") -> bool:
        """Query below the document `parent`."""
        below = f"/{parent}" if parent else ""
        return self._post(f"{below}:runQuery", {"structuredQuery": dict(structured)})

    def create(self, path: str, fields: Mapping[str, Any], *, stamped: bool = True) -> bool:
        """Create a document; `stamped` sets its `last_updated` to the time of the request."""
        return self._commit(_write(self._name(path), fields, exists=False, stamped=stamped))

    def update(
        self,
        path: str,
        fields: Mapping[str, Any],
        *,
        stamped: bool = True,
        mask: list[str] | None = None,
    ) -> bool:
        """Replace a document, or only the fields of `mask`."""
        write = _write(self._name(path), fields, exists=True, stamped=stamped)
        if mask is not None:
            write["updateMask"] = {"fieldPaths": mask}
        return self._commit(write)

    def delete(self, path: str) -> bool:
        """Remove a document."""
        return self._commit({"delete": self._name(path)})

    def _name(self, path: str) -> str:
        return f"{self._documents}/{path}"

    def _commit(self, write: Mapping[str, Any]) -> bool:
        return self._post(":commit", {"writes": [write]})

    def _post(self, method: str, body: Mapping[str, Any]) -> bool:
        url = f"/v1/{self._documents}{method}"
        return _allowed(self._http.post(url, json=body, headers=self._headers))


def _write(name: str, fields: Mapping[str, Any], *, exists: bool, stamped: bool) -> dict[str, Any]:
    write: dict[str, Any] = {
        "update": {"name": name, "fields": {key: _value(each) for key, each in fields.items()}},
        "currentDocument": {"exists": exists},
    }
    if stamped:
        transform = {"fieldPath": "last_updated", "setToServerValue": "REQUEST_TIME"}
        write["updateTransforms"] = [transform]
    return write


def _value(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"nullValue": None}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"integerValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"timestampValue": value} if value.endswith("Z") else {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"mapValue": {"fields": {key: _value(each) for key, each in value.items()}}}


def _allowed(answer: httpx.Response) -> bool:
    if answer.status_code in _ALLOWED:
        return True
    if answer.status_code == _DENIED:
        return False
    message = f"{answer.request.url} answered {answer.status_code}: {answer.text}"
    raise RuntimeError(message)


def _token(claims: Mapping[str, Any]) -> str:
    # The emulator takes tokens without a signature.
    body = {
        "sub": "somebody",
        "aud": PROJECT,
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "iat": 0,
        **claims,
    }
    return ".".join((_base64({"alg": "none", "typ": "JWT"}), _base64(body), ""))


def _base64(part: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
