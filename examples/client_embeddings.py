"""Find the text that is nearest to a question, with the encoder that the service's router uses."""

from coe_client import Coe

texts = ["how to count rows of a table", "what the sine of an angle is", "a poem about the sea"]

with Coe() as coe:
    made = coe.embeddings([*texts, "count the rows of my table"])

*vectors, question = made.vectors
likeness = [sum(x * y for x, y in zip(vector, question, strict=True)) for vector in vectors]
print(f"{made.model}: {texts[likeness.index(max(likeness))]}")
