"""What `coe serve` and `coe setup` show on the terminal: a line per step, a bar for each long one, the banner."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from orchestrator.reporter import Banner

_PROMPT = "Which SQL lists the names of users older than 30? Table users(id, name, age)"


class ConsoleReporter:
    """Bars on a terminal, plain lines elsewhere (`orchestrator.reporter.Reporter`)."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_bar()

    def say(self, line: str) -> None:
        self._end_bar()
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  {line}")

    def progress(self, what: str, done: int, of: int) -> None:
        if not self._console.is_terminal:
            self.say(f"{done}/{of} {what}".rstrip())
            return
        if self._progress is None:
            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self._progress = Progress(*columns, console=self._console)
            self._task = self._progress.add_task(what, total=of)
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, description=what, completed=done, total=of)
        if done >= of:
            self._end_bar()

    def ready(self, banner: Banner) -> None:
        self._end_bar()
        for name, why in banner.failed.items():
            self._console.print(f"[red]{name} cannot answer:[/red] {why}")
        key = banner.new_key or "$COE_API_KEY"
        answering = banner.experts - len(banner.failed)
        print_ = self._console.print
        where = f"[bold]{answering} of {banner.experts} experts answer at {banner.url}/v1[/bold]"
        print_(f"\n{where}  ({banner.seconds:.0f} s)")
        if banner.new_key:
            print_(f"API key: [bold]{banner.new_key}[/bold]  (shown this once; only its hash is kept)")
        elif banner.key_given:
            print_("API key: the one in COE_API_KEY")
        else:
            print_("API key: the one shown at the first start; a new one: coe keys create NAME")
        if banner.console is not None:
            print_(f"Console: {banner.console}")
        body = f'{{"model": "auto", "messages": [{{"role": "user", "content": "{_PROMPT}"}}]}}'
        print_(
            f"\ncurl {banner.url}/v1/chat/completions -H 'Authorization: Bearer '\"{key}\" "
            f"-H 'Content-Type: application/json' \\\n  -d '{body}'\n",
            markup=False,
        )

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None
