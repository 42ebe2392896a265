"""Many questions as one job, which the service runs expert by expert. It goes on while this program waits."""

from coe_client import Batch, Coe

questions = [f"Which SQL adds {n} to a column?" for n in range(20)]


def show(batch: Batch) -> None:
    counts = batch.request_counts
    print(f"{batch.status}: {counts.completed} of {counts.total}")


with Coe() as coe:
    file = coe.files.upload(questions, defaults={"temperature": 0})
    plan = coe.batches.wait(coe.batches.create(file, dry_run=True), poll=0.1).plan
    if plan is not None:
        print(f"{plan.distinct_experts} experts, {plan.loads} loads")
    results = coe.batches.run(questions, defaults={"temperature": 0}, poll=0.1, on_progress=show)
    coe.files.delete(file)

for question, result in zip(questions, results, strict=True):
    print(question, "->", f"failed: {result.error}" if result.error else result.answer.text)
