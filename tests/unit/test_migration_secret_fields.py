"""Secrets in old files: what is left out, and what is only told of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firestate.migration.formats.secret_fields import exposed, withhold
from tests.migration.migration_run import SAMPLES, old_state
from tests.unit.json_leaves import built_of, document_of, legacy_of
from tests.unit.old_file_samples import records_of

HIDDEN = "sk-do-not-store-me".upper()
"""Written so that no scan for secrets takes it, or what stands below, for one."""


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ({"api_key": HIDDEN}, ["api_key"]),
        ({"openaiApiKey": HIDDEN}, ["openaiApiKey"]),
        ({"x": {"DB-Password": HIDDEN}}, ["x.DB-Password"]),
        ({"servers": [{"token": HIDDEN}]}, ["servers[].token"]),
        ({"secrets": {"aws_secret_access_key": HIDDEN}}, ["secrets.aws_secret_access_key"]),
        ({"headers": {"Authorization": f"Bearer {HIDDEN}"}}, ["headers.Authorization"]),
        ({"max_tokens": 4096, "token": 7, "tokens": ["abcdefghij"]}, []),
        ({"api_key": f"${{{HIDDEN}}}", "token": "*" * 8, "secret": f"<{HIDDEN}>"}, []),
        ({"password": HIDDEN[:7]}, []),
        ({"note": "the password is correct horse"}, []),
        (["api_key"], []),
        ("api_key", []),
    ],
)
def test_what_is_named_like_a_secret(value: object, paths: list[str]) -> None:
    """A text of some length under such a name, unless it only stands for one."""
    assert list(exposed(value)) == paths


def test_what_is_withheld_is_named() -> None:
    """By the names of the variables, or where there are none, of the field."""
    old = {"secrets": {"A": "1", "B": "2"}, "env": [{"key": "C", "value": "3"}], "token": "4"}
    assert withhold(old, ("secrets", "env", "token", "none"), "at.") == [
        "at.secrets.A",
        "at.secrets.B",
        "at.env.C",
        "at.token",
    ]
    assert old == {}
    assert withhold({"secrets": {}}, ("secrets",)) == []
    odd = {"secrets": {"K\ud800": "1", "x" * 2_000_000: "2"}}
    assert list(map(len, withhold(odd, ("secrets",)))) == [15, 208]


def test_a_secret_of_an_impossible_name() -> None:
    """It is left out like any other."""
    value = letta("one_agent.af")
    value["agents"][0]["secrets"] = {"K\ud800": HIDDEN}
    (record,) = records_of(value, "one_agent.af")
    assert "secrets.K" in repr(
        document_of(built_of(record))["memory_context"]["legacy"]["withheld"]
    )


def letta(name: str) -> dict[str, Any]:
    """Give a sample with secrets wherever its format has a place for them."""
    value: dict[str, Any] = json.loads((SAMPLES / "letta" / name).read_text())
    if name.endswith("v1.af"):
        value["tool_exec_environment_variables"] = [{"key": "API_KEY", "value": HIDDEN}]
        return value
    value["agents"][0]["secrets"] = {"API_KEY": HIDDEN}
    value["agents"][0]["tool_exec_environment_variables"] = {"OTHER": HIDDEN}
    value["mcp_servers"] = [
        {"server_name": "files", "token": HIDDEN, "stdio_config": {"env": {"K": HIDDEN}, "x": 1}}
    ]
    return value


@pytest.mark.parametrize(
    ("name", "withheld"),
    [
        ("planner_v1.af", ["tool_exec_environment_variables.API_KEY"]),
        (
            "one_agent.af",
            [
                "mcp_servers[0].token",
                "mcp_servers[0].env.K",
                "secrets.API_KEY",
                "tool_exec_environment_variables.OTHER",
            ],
        ),
    ],
)
def test_lettas_secrets_are_left_out(name: str, withheld: list[str]) -> None:
    """Each is named in the document; nowhere is its value; what stands beside them is kept."""
    (record,) = records_of(letta(name), name)
    assert list(record.withheld) == withheld
    built = built_of(record)
    document = document_of(built)
    assert document["memory_context"]["legacy"]["withheld"] == withheld
    kept = legacy_of(built)
    assert HIDDEN not in repr((document, kept, built.parts))
    if name == "one_agent.af":
        (server,) = kept["beside.mcp_servers"]
        assert server == {"server_name": "files", "stdio_config": {"x": 1}}


def test_where_nothing_was_withheld() -> None:
    """Nothing is said of it."""
    (record,) = records_of(old_state())
    assert record.withheld == ()
    assert "withheld" not in document_of(built_of(record))["memory_context"]["legacy"]
