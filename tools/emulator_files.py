"""Find the programs of the Firestore and the Pub/Sub emulator, and make them startable.

Looked for in this order: the environment variables that the Firebase CLI knows, the Cloud SDK, and
what the Firebase CLI has downloaded. `python -m tools.emulator_files` checks that both are there,
has the Firebase CLI download what is not, and fails with one line that says what to do.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Literal

from tools.java import MissingToolError, java_environment
from tools.processes import ROOT

Emulator = Literal["firestore", "pubsub"]

FIREBASE = ROOT / "node_modules" / ".bin" / "firebase"
MAIN_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"

_IN_CLOUD_SDK = {
    "firestore": "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar",
    "pubsub": "platform/pubsub-emulator/bin/cloud-pubsub-emulator",
}
_DOWNLOADED = {
    "firestore": "cloud-firestore-emulator-v*.jar",
    "pubsub": "pubsub-emulator-*/pubsub-emulator/bin/cloud-pubsub-emulator",
}


def prepare(emulator: Emulator, folder: Path) -> Path:
    """Return a file that starts `emulator`: a jar for Firestore, a script for Pub/Sub.

    What the Cloud SDK holds is wrapped in a file made in `folder`: its Firestore jar names no main
    class, which `java -jar` wants, and the Firebase CLI sets the mode of whatever file it is given,
    which it may not do to the files of a system package.
    """
    if named := os.environ.get(_variable(emulator)):
        return Path(named)
    if sdk := _in_cloud_sdk(emulator):
        return _wrapped_jar(sdk, folder) if emulator == "firestore" else _wrapped(sdk, folder)
    if downloaded := _downloaded(emulator):
        return downloaded
    message = (
        f"The {emulator} emulator is missing: go online and run make again, install the Cloud SDK "
        f"package google-cloud-cli-{emulator}-emulator, or set {_variable(emulator)}."
    )
    raise MissingToolError(message)


def emulator_environment(folder: Path) -> dict[str, str]:
    """Return the variables that tell the Firebase CLI where its emulators and its Java are."""
    emulators: tuple[Emulator, ...] = ("firestore", "pubsub")
    return java_environment() | {_variable(name): str(prepare(name, folder)) for name in emulators}


def available(emulator: Emulator) -> bool:
    """Tell whether `emulator` can be started without downloading anything."""
    named = os.environ.get(_variable(emulator))
    if named and not Path(named).is_file():
        message = f"{_variable(emulator)} names {named}, which is not a file: correct or unset it."
        raise MissingToolError(message)
    return bool(named or _in_cloud_sdk(emulator) or _downloaded(emulator))


def _variable(emulator: Emulator) -> str:
    return f"{emulator.upper()}_EMULATOR_BINARY_PATH"


def _in_cloud_sdk(emulator: Emulator) -> Path | None:
    gcloud = shutil.which("gcloud")
    if not gcloud:
        return None
    # `gcloud` is as a rule a link into <root>/bin; asking gcloud itself takes a second.
    for root in (Path(gcloud).resolve().parent.parent, Path("/usr/lib/google-cloud-sdk")):
        if (path := root / _IN_CLOUD_SDK[emulator]).is_file():
            return path
    question = [gcloud, "info", "--format=value(installation.sdk_root)"]
    answer = subprocess.run(question, capture_output=True, text=True, check=False).stdout.strip()
    path = Path(answer) / _IN_CLOUD_SDK[emulator]
    return path if answer and path.is_file() else None


def _downloaded(emulator: Emulator) -> Path | None:
    home = os.environ.get("FIREBASE_EMULATORS_PATH", "~/.cache/firebase/emulators")
    found = list(Path(home).expanduser().glob(_DOWNLOADED[emulator]))
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _wrapped_jar(jar: Path, folder: Path) -> Path:
    """Write a jar that holds only a manifest: the main class, and `jar` as its class path."""
    wrapper = folder / "firestore-emulator.jar"
    lines = ("Manifest-Version: 1.0", f"Main-Class: {MAIN_CLASS}", f"Class-Path: {jar.as_uri()}")
    # A manifest's line holds at most 72 bytes; what is longer goes on after a space.
    manifest = "".join(f"{_folded(line)}\r\n" for line in (*lines, ""))
    with zipfile.ZipFile(wrapper, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", manifest)
    return wrapper


def _folded(line: str) -> str:
    return "\r\n ".join(line[start : start + 70] for start in range(0, max(len(line), 1), 70))


def _wrapped(script: Path, folder: Path) -> Path:
    wrapper = folder / "pubsub-emulator"
    wrapper.write_text(f'#!/bin/sh\nexec "{script}" "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def main() -> None:
    """Check that Java and both emulators are there; download what can be."""
    try:
        environment = os.environ | java_environment()
        emulators: tuple[Emulator, ...] = ("firestore", "pubsub")
        for emulator in emulators:
            if not available(emulator):
                download = [str(FIREBASE), f"setup:emulators:{emulator}"]
                subprocess.run(download, env=environment, check=False, capture_output=True)
        for emulator in emulators:
            if not available(emulator):
                prepare(emulator, ROOT)
    except MissingToolError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
