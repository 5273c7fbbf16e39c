"""The commands `firestate roles ...`: who may look, and who may operate."""
# ruff: noqa: PLC0415 - what they need is loaded only here, and may not be installed

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from firestate.cli.connect import ProjectOption, check_emulator, project_or_fail
from firestate.cli.output import JsonOption, console, fail, print_json, table
from firestate.errors import UnknownAccountError
from firestate.extras import required_extra
from firestate.schema.enums import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.auth.role_claims import Account, Accounts

app = typer.Typer(
    help="Say who of the people who sign in may look (viewer), and who may operate (operator).\n\n"
    "Agents and functions have no roles: they answer to IAM."
)

WhoArgument = Annotated[
    str, typer.Argument(metavar="WHO", help="The e-mail address of an account, or its uid.")
]


@app.command("grant")
def grant(
    who: WhoArgument,
    role: Annotated[Role, typer.Argument(help="viewer reads; operator also writes controls.")],
    project: ProjectOption = None,
    *,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Also to an address that is not verified.")
    ] = False,
) -> None:
    """Give somebody a role, in place of any other. It counts from their next token on.

    That is at once on signing in, else within the hour.
    """
    with _accounts(project) as accounts:
        account = accounts.find(who.strip())
        if "@" in who and not (account.verified or unverified):
            # Whoever signs up first has the address: it need not be its owner.
            fail(
                f"{who} has not verified this address, so anybody may have signed up with it: "
                f"if you know that {account.uid} is the right account, name that, or add "
                "--unverified"
            )
        accounts.grant(account.uid, role)
    console().print(
        f"{account.email or account.uid} is {role.value}: at once on signing in, else within the "
        "hour.",
        markup=False,
    )


@app.command("revoke")
def revoke(who: WhoArgument, project: ProjectOption = None) -> None:
    """Take somebody's role away. What is signed in by now ends within the hour."""
    with _accounts(project) as accounts:
        account = accounts.find(who.strip())
        accounts.revoke(account.uid)
    had = account.role or "no role"
    console().print(
        f"{account.email or account.uid} had {had}, and has none now; a session that is open ends "
        "within the hour.",
        markup=False,
    )


@app.command("list")
def list_roles(
    project: ProjectOption = None,
    *,
    everybody: Annotated[bool, typer.Option("--all", help="Also accounts without a role.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List who has a role."""
    with _accounts(project) as accounts:
        found = [one for one in accounts.every() if everybody or one.role is not None]
    found.sort(key=lambda one: (one.role or "~", one.email or one.uid))
    if as_json:
        names = ("uid", "email", "verified", "disabled", "role")
        print_json([{name: getattr(one, name) for name in names} for one in found])
        return
    rows = [
        (
            one.email or "-",
            one.role,
            _notes(one),
            one.uid,
        )
        for one in found
    ]
    console().print(table(f"Roles ({len(rows)})", ["account", "role", "note", "uid"], rows))


def _notes(account: Account) -> str | None:
    known = [each.value for each in Role]
    notes = {
        "unverified": account.email is not None and not account.verified,
        "disabled": account.disabled,
        "allows nothing": account.role is not None and account.role not in known,
    }
    return ", ".join(note for note, true in notes.items() if true) or None


@contextmanager
def _accounts(project: str | None) -> Iterator[Accounts]:
    name = project_or_fail(project, "name one with --project or GOOGLE_CLOUD_PROJECT")
    check_emulator("FIREBASE_AUTH_EMULATOR_HOST")
    with required_extra("roles", "`firestate roles`"):
        from firestate.auth.role_claims import Accounts
    accounts = Accounts(name)
    try:
        yield accounts
    except UnknownAccountError as error:
        fail(str(error))
    finally:
        accounts.close()
