"""What judges and writers are asked, all in one place; coe.yaml may put a text of its own in a prompt's place.

A prompt is one user message, a template of langchain-core in its f-string form: {question} stands for a variable, and
braces that are meant as such are doubled. Drafts come with their quotation marks and the rule that they are data, see
`aggregators.quoting`: no text of a user's own can lose them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from string import Formatter

from langchain_core.prompts import ChatPromptTemplate


@dataclass(frozen=True, slots=True)
class Prompt:
    """needs: variables that a text must have. may: those that it can also have."""

    text: str
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


PROMPTS: Mapping[str, Prompt] = {
    "judge": Prompt(
        """Several assistants have answered this question:

{question}

{drafts}

Give every draft a whole number from 1 (bad) to 10 (excellent) for each of these:
{dimensions}

Reply with one JSON object of this form and nothing else:
{form}""",
        needs=("question", "drafts", "form"),
        may=("dimensions",),
    ),
    "compare": Prompt(
        """Two assistants have answered this question:

{question}

{drafts}

Which draft is better? Look at these:
{dimensions}

Reply with the letter A or B and nothing else.""",
        needs=("question", "drafts"),
        may=("dimensions",),
    ),
    "synthesize": Prompt(
        """{question}

Several assistants have drafted answers to the question above.

{drafts}

Some drafts may be wrong, even if most of them agree. Find out what is right, then answer the question yourself, \
in one complete answer. Do not speak of drafts or assistants.""",
        needs=("question", "drafts"),
    ),
    "refine": Prompt(
        """{question}

Several assistants, you among them, have drafted answers to the question above.

{drafts}

Some drafts may be wrong, even if most of them agree. Check them against each other, then answer the question again, \
better than any of them. Do not speak of drafts or assistants.""",
        needs=("question", "drafts"),
    ),
}


class PromptError(ValueError):
    """A text that cannot be a prompt. The message says which, why, and what is allowed."""


def check(name: str, text: str) -> None:
    """Raises PromptError if `text` cannot take the place of the prompt `name`."""
    if name not in PROMPTS:
        raise PromptError(f"there is no prompt {name!r}; use one of {', '.join(PROMPTS)}")
    prompt = PROMPTS[name]
    allowed = ", ".join(f"{{{variable}}}" for variable in (*prompt.needs, *prompt.may))
    try:
        found = set(_template(text).input_variables)
        formatted = [field for _, field, form, conversion in Formatter().parse(text) if form or conversion]
    except ValueError as error:
        why = str(error).rstrip(".")
        raise PromptError(
            f"prompt {name!r} is no template: {why}. Variables are {allowed}; write other braces twice: {{{{ }}}}"
        ) from None
    if formatted:
        raise PromptError(f"prompt {name!r} has a format in {{{formatted[0]}}}; write the variable's name alone")
    if unknown := sorted(found - {*prompt.needs, *prompt.may}):
        raise PromptError(
            f"prompt {name!r} has {{{unknown[0]}}}; allowed are {allowed}, and other braces written twice: {{{{ }}}}"
        )
    if lacking := [variable for variable in prompt.needs if variable not in found]:
        raise PromptError(f"prompt {name!r} lacks {{{lacking[0]}}}; it needs {', '.join(prompt.needs)}")


def render(text: str, **variables: str) -> str:
    """The template with its variables. They may hold anything: nothing in them is taken for a variable."""
    return str(_template(text).invoke(variables).to_messages()[0].content)


@cache
def _template(text: str) -> ChatPromptTemplate:
    return ChatPromptTemplate.from_messages([("human", text)])
