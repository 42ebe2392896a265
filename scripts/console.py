"""Builds the web console from `console/` into `orchestrator/console/`, or checks that what lies there is built from it.

    python scripts/console.py           install, check, test, build
    python scripts/console.py --check   the same into another folder, and compare

Takes Node.js 20.19 or newer and npm. Nobody needs it to run the service: the built files are a part of it.
"""

import argparse
import filecmp
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES, BUILT = ROOT / "console", ROOT / "orchestrator" / "console"
STAMP = "built-from.txt"
"""Below the built files: the fingerprint of what they were built from."""
PARTS = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src")


def fingerprint(sources: Path = SOURCES) -> str:
    """Of all that a build depends on."""
    hashed = hashlib.sha256()
    for part in PARTS:
        path = sources / part
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                hashed.update(f"{file.relative_to(sources).as_posix()}\0{file.stat().st_size}\0".encode())
                hashed.update(file.read_bytes())
    return hashed.hexdigest()


def run(*command: str) -> None:
    """Raises CalledProcessError."""
    print("+", *command, flush=True)
    subprocess.run(command, cwd=SOURCES, check=True)


def build(into: Path) -> None:
    """Raises CalledProcessError if a test fails, too."""
    if not (SOURCES / "node_modules").is_dir() or _is_older(SOURCES / "node_modules" / ".package-lock.json"):
        run("npm", "ci", "--no-audit", "--no-fund")
    run("npm", "run", "--silent", "check")
    run("npm", "run", "--silent", "test")
    run("npm", "run", "--silent", "build", "--", "--outDir", str(into), "--emptyOutDir", "--logLevel", "warn")
    (into / STAMP).write_text(fingerprint() + "\n")


def _is_older(installed: Path) -> bool:
    return not installed.is_file() or installed.stat().st_mtime < (SOURCES / "package-lock.json").stat().st_mtime


def differences(one: Path, other: Path) -> list[str]:
    """Paths of files that are not the same in both."""
    names = {path.relative_to(top).as_posix() for top in (one, other) for path in top.rglob("*") if path.is_file()}
    same, _, _ = filecmp.cmpfiles(one, other, sorted(names), shallow=False)
    return sorted(names - set(same))


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the web console.")
    parser.add_argument("--check", action="store_true", help="compare what is there with a new build")
    arguments = parser.parse_args()
    if shutil.which("npm") is None:
        print("console: npm is missing; install Node.js 20.19 or newer to build the console", file=sys.stderr)
        return 1
    try:
        if not arguments.check:
            build(BUILT)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder))
            wrong = differences(BUILT, Path(folder))
    except subprocess.CalledProcessError as error:
        return error.returncode
    for name in wrong:
        print(f"console: {name} is not what the sources make; run: make console", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
