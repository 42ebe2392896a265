"""A service with a pool that looks like somebody's own: experts of two families, a router that was fitted and evaluated
on labelled prompts, an ensemble, prices. Its engines are fake, slow enough to be watched, and hold few images."""

import csv
import random
from dataclasses import dataclass
from pathlib import Path

from tests.service.commands import coe

GOOD_AT = {"data": "sql", "code": "python", "law": "counsel", "health": "medic", "verse": "poet"}
"""Category -> who answers it best."""
WORDS = {
    "data": "query table join rows column group index select database aggregate".split(),
    "code": "function loop class exception list module decorator script variable import".split(),
    "law": "contract clause liability court lease notice statute appeal tenant damages".split(),
    "health": "fever dose symptom blood vaccine allergy diet sleep pulse injury".split(),
    "verse": "poem rhyme haiku stanza moon autumn metaphor sonnet river line".split(),
}
CONFIG = """
experts:
  - {name: counsel, source: ./counsel, family: small, description: "Contracts", price: {input: 0.4, output: 1.2}}
  - {name: medic, source: ./medic, family: small, description: "Health", price: {input: 0.4, output: 1.2}}
  - {name: poet, source: ./poet, family: small, description: "Verse", price: {input: 0.2, output: 0.6}}
  - {name: python, source: ./python, family: large, description: "Code", price: {input: 0.9, output: 2.7}}
  - {name: sql, source: ./sql, family: large, description: "Queries", price: {input: 0.9, output: 2.7}}
router: {path: ./router}
ensembles:
  panel: {experts: [sql, python, counsel], aggregator: vote, description: "Three opinions"}
families:
  small: {engine_args: {fake_token_delay: 0.02, fake_images: 2}}
  large: {engine_args: {fake_token_delay: 0.02, fake_images: 1}}
batch: {in_flight: 2}
"""


@dataclass(frozen=True, slots=True)
class Pool:
    """key: without the scope `admin`, which `admin` has."""

    url: str
    key: str
    admin: str


def prompt(category: str, chance: random.Random) -> str:
    return f"please help me with the {' and the '.join(chance.sample(WORDS[category], 3))}"


def make(folder: Path) -> None:
    """coe.yaml in the folder, and the router that it names, by the command line."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "coe.yaml").write_text(CONFIG)
    chance = random.Random(9)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_id", "prompt", "expert", "score", "category", "split"])
        for number in range(240):
            category = list(GOOD_AT)[number % len(GOOD_AT)]
            asked = prompt(category, chance)
            for expert in GOOD_AT.values():
                right = chance.random() < (0.92 if GOOD_AT[category] == expert else 0.35)
                writer.writerow([number, asked, expert, int(right), category, "test" if number % 3 == 0 else "train"])
    labels, router = str(folder / "labels.csv"), str(folder / "router")
    for command in (
        ["fit", labels, "--split", "train", "--out", router],
        ["eval", router, labels, "--split", "test", "--save"],
    ):
        done = coe("router", *command)
        assert done.returncode == 0, done.stderr


def admin_key(home: Path) -> str:
    """A key with the scope `admin` of the service whose data folder this is."""
    done = coe("keys", "create", "operator", "--admin", COE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    return next(word for word in done.stdout.split() if word.startswith("coe-"))
