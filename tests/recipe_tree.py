"""Copies of the recipes to run, for their tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def copy_recipe(corpus: str, into: Path, task: str = "asr") -> Path:
    """A copy of recipes/ and of egs/CORPUS/TASK, without what was trained there -> the latter."""
    recipe = into / "egs" / corpus / task
    for name in ("recipes", f"egs/{corpus}/{task}/conf", f"egs/{corpus}/{task}/local"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for script in (ROOT / "egs" / corpus / task).glob("*.sh"):
        shutil.copy(script, recipe / script.name)
    return recipe


def run(script: Path, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script with the commands of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **(env or {})}
    return subprocess.run([script, *options], capture_output=True, text=True, env=environment, check=False)


def load_script(path: str) -> ModuleType:
    """A Python script of the repository as a module."""
    name = path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module
