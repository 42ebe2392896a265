"""Many questions with bounded concurrency. One that fails is an error in its place, and the others go on."""

from coe_client import Coe, CoeError, Progress

questions = [f"Which SQL adds {n} to a column?" for n in range(10)]


def show(progress: Progress) -> None:
    print(f"{progress.done} of {progress.total}, {progress.failed} failed")


with Coe() as coe:
    outcomes = coe.chat_many(questions, concurrency=4, on_progress=show, temperature=0)

for question, outcome in zip(questions, outcomes, strict=True):
    print(question, "->", f"failed: {outcome}" if isinstance(outcome, CoeError) else outcome.text)
