"""The functions as they are uploaded: made by the project's own hook and the CLI's own packing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FIREBASE_TOOLS = ROOT / "node_modules" / "firebase-tools"
PROJECT = "demo-uploaded"

# Prints where the Firebase CLI has put the archive that it would upload.
_PACK = """
const [tools, project, functions, config] = process.argv.slice(1);
require(`${tools}/lib/deploy/functions/prepareFunctionsUpload`)
  .prepareFunctionsUpload(project, functions, JSON.parse(config), [], undefined, {})
  .then((packed) => console.log(packed.pathToSource));
"""


def project_in(folder: Path) -> Path:
    """Copy what a deploy needs of this project, and what a developer's folder has besides."""
    for name in ("firebase.json", "firestore.rules", "firestore.indexes.json"):
        shutil.copy(ROOT / name, folder)
    keep = shutil.ignore_patterns("venv", "firestate", "__pycache__")
    shutil.copytree(ROOT / "functions", folder / "functions", ignore=keep)
    shutil.copytree(ROOT / "shared" / "firestate", folder / "shared" / "firestate")
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "bundle.py", folder / "tools")
    for left in ("venv/bin/python", "__pycache__/main.pyc", "firestate/old.py", "debug.log"):
        path = folder / "functions" / left
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def upload(project: Path, to: Path) -> Path:
    """Do what `firebase deploy` does up to the upload; give the folder of what is uploaded."""
    (settings,) = json.loads((project / "firebase.json").read_text())["functions"]
    for hook in settings["predeploy"]:
        environment = os.environ | {"PROJECT_DIR": str(project)}
        subprocess.run(hook, shell=True, check=True, env=environment, cwd=project)  # noqa: S602 - as the CLI runs it
    source = project / settings["source"]
    packed = subprocess.run(
        ["node", "-e", _PACK, FIREBASE_TOOLS, project, source, json.dumps(settings)],
        check=True,
        capture_output=True,
        text=True,
    )
    archive = Path(packed.stdout.splitlines()[-1])
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(to / "functions")
    archive.unlink()
    shutil.copy(project / "firebase.json", to)
    return to / "functions"


def discovered(folder: Path, home: Path) -> dict[str, dict[str, Any]]:
    """Give the endpoints that the Firebase CLI finds in the project at `folder`."""
    done = subprocess.run(
        [
            ROOT / "node_modules" / ".bin" / "firebase",
            "internaltesting:functions:discover",
            *("--project", PROJECT),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "FIREBASE_CLI_EXPERIMENTS": "internaltesting",
            "METADATA_SERVER_DETECTION": "none",
            "NO_UPDATE_NOTIFIER": "1",
        },
    )
    _, _, told = done.stdout.partition("\n{\n")
    found: dict[str, dict[str, Any]] = json.loads("{" + told)["firestate"]["endpoints"]
    return found
