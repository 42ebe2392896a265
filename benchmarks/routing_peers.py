"""Other projects' routers on the same prompts, vectors and split. Runs under a Python that has their packages.

    python benchmarks/routing_peers.py FOLDER PEER

FOLDER holds `task.json` (train and test prompts, experts) and `task.npz` (unit vectors `train` and `test`, training
`scores` with nan where not measured); benchmarks.routing writes both. The last line of standard output is a JSON object
with `chosen`, the expert's number for each test prompt, and for two experts `lead`, how much better the first one of
`pair` is expected to be.

Each is used with the settings of its own documentation. What their own encoders need (OpenAI's service, Longformer from
a hub) is replaced by our vectors, for all of them: the same knowledge of a prompt for everyone.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SEED = 0


@dataclass(frozen=True)
class Task:
    """pair: numbers of the strong and the weak expert, None where there are not two."""

    folder: Path
    train: list[str]
    test: list[str]
    experts: list[str]
    train_vectors: NDArray[np.float32]
    test_vectors: NDArray[np.float32]
    scores: Floats
    pair: tuple[int, int] | None

    @property
    def best(self) -> NDArray[np.intp]:
        """The best expert of each training prompt, of equal ones the better one on average."""
        known = np.where(np.isnan(self.scores), -1.0, self.scores)
        best: NDArray[np.intp] = (known + 1e-6 * np.nanmean(self.scores, axis=0)).argmax(axis=1)
        return best


@dataclass(frozen=True)
class Choice:
    chosen: NDArray[np.intp]
    lead: Floats | None = None


def read(folder: Path) -> Task:
    task, arrays = json.loads((folder / "task.json").read_text()), np.load(folder / "task.npz")
    return Task(
        folder=folder,
        train=task["train"],
        test=task["test"],
        experts=task["experts"],
        train_vectors=arrays["train"],
        test_vectors=arrays["test"],
        scores=arrays["scores"],
        pair=tuple(task["pair"]) if task["pair"] else None,
    )


def _llmrouter(task: Task, name: str, settings: dict[str, Any]) -> Any:
    """A router of llmrouter-lib, configured by files as it wants them."""
    import torch
    import yaml

    torch.manual_seed(SEED)
    torch.save(torch.from_numpy(task.train_vectors), task.folder / "vectors.pt")
    best_first = np.argsort(-np.nanmean(task.scores, axis=0))  # of equal scores it takes the first row
    with (task.folder / "routing.jsonl").open("w") as file:
        for i, prompt in enumerate(task.train):
            for j in best_first:
                if not np.isnan(score := task.scores[i, j]):
                    row = {"query": prompt, "model_name": task.experts[j], "performance": score, "embedding_id": i}
                    file.write(json.dumps(row) + "\n")
    paths = {"query_embedding_data": "vectors.pt", "routing_data_train": "routing.jsonl"}
    config = {
        "data_path": {key: str(task.folder / path) for key, path in paths.items()},
        "model_path": {key: str(task.folder / f"{name}-{key}.pkl") for key in ("ini_model_path", "save_model_path")},
        "hparam": settings,
    }
    (task.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return str(task.folder / f"{name}.yaml")


def _numbers(task: Task, names: Any) -> NDArray[np.intp]:
    return np.array([task.experts.index(str(name)) for name in names], np.intp)


def llmrouter_knn(task: Task) -> Choice:
    from llmrouter.models import KNNRouter, KNNRouterTrainer

    router = KNNRouter(_llmrouter(task, "knn", {"n_neighbors": 5, "metric": "cosine"}))
    KNNRouterTrainer(router).train()
    return Choice(_numbers(task, router.knn_model.predict(task.test_vectors)))


def llmrouter_svm(task: Task) -> Choice:
    from llmrouter.models import SVMRouter, SVMRouterTrainer

    router = SVMRouter(_llmrouter(task, "svm", {"kernel": "rbf", "C": 1.0, "gamma": "scale"}))
    SVMRouterTrainer(router).train()
    return Choice(_numbers(task, router.svm_model.predict(task.test_vectors)))


def llmrouter_mlp(task: Task) -> Choice:
    import torch
    from llmrouter.models import MLPRouter, MLPTrainer

    settings = {"hidden_layer_sizes": [128, 64], "activation": "relu", "lr": 0.001, "epochs": 100, "batch_size": 32}
    router = MLPRouter(_llmrouter(task, "mlp", settings))
    trainer = MLPTrainer(router)
    trainer.train()
    places = trainer.model.predict(torch.from_numpy(task.test_vectors)).tolist()
    return Choice(_numbers(task, [router.idx_to_model[place] for place in places]))


def llmrouter_mf(task: Task) -> Choice:
    import torch
    from llmrouter.models import MFRouter, MFRouterTrainer

    settings = {"latent_dim": 128, "text_dim": task.train_vectors.shape[1], "lr": 0.001, "epochs": 5}
    router = MFRouter(_llmrouter(task, "mf", settings))
    trainer = MFRouterTrainer(router)
    trainer.train()
    with torch.no_grad():
        projected = trainer.model.project_text(torch.from_numpy(task.test_vectors))
        scores = torch.stack([trainer.model.score_all(row) for row in projected]).numpy()
    places = {expert: router.model_to_idx[expert] for expert in task.experts}
    scores = scores[:, [places[expert] for expert in task.experts]]
    return Choice(
        scores.argmax(axis=1), None if task.pair is None else scores[:, task.pair[0]] - scores[:, task.pair[1]]
    )


def routellm_mf(task: Task) -> Choice:
    """Its matrix factorization, trained as its script does, on the prompts where one of the two was better."""
    if task.pair is None:
        raise LookupError("chooses between two experts only")
    os.environ.setdefault("OPENAI_API_KEY", "none")  # its modules make a client when they are imported; it stays unused
    import torch
    from routellm.routers.matrix_factorization.model import MODEL_IDS
    from routellm.routers.matrix_factorization.train_matrix_factorization import (
        MFModel_Train,
        PairwiseDataset,
        train_loops,
    )

    torch.manual_seed(SEED)
    strong, weak = task.pair
    names = {strong: "gpt-4-1106-preview", weak: "mixtral-8x7b-instruct-v0.1"}  # rows of its table of models
    lead = task.scores[:, strong] - task.scores[:, weak]
    data = [
        {
            "idx": int(i),
            "model_a": names[strong],
            "model_b": names[weak],
            "winner": "model_a" if lead[i] > 0 else "model_b",
        }
        for i in np.flatnonzero(np.nan_to_num(lead))
    ]
    cut = int(len(data) * 0.95)
    data = [data[i] for i in np.random.default_rng(SEED).permutation(len(data))]
    vectors = np.concatenate([task.train_vectors, task.test_vectors])
    np.save(task.folder / "vectors.npy", vectors)
    model = MFModel_Train(
        dim=128,
        num_models=len(MODEL_IDS),
        num_prompts=len(vectors),
        text_dim=vectors.shape[1],
        npy_path=str(task.folder / "vectors.npy"),
    )
    train_loops(
        model,
        PairwiseDataset(data[:cut]).get_dataloaders(batch_size=64, shuffle=True),
        PairwiseDataset(data[cut:]).get_dataloaders(1024, shuffle=False),
        lr=3e-4,
        weight_decay=1e-5,
        alpha=0.1,
        num_epochs=100,
        device="cpu",
    )
    prompts = torch.arange(len(task.train), len(vectors))
    ids = [torch.full_like(prompts, MODEL_IDS[names[expert]]) for expert in (strong, weak)]
    with torch.no_grad():
        won = model(*ids, prompts, test=True).numpy().astype(np.float64)
    return Choice(np.where(won > 0, strong, weak), won)


def semantic_router(task: Task) -> Choice:
    """Each expert is a route; its utterances are the training prompts on which it is the best."""
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    known = dict(zip(task.train + task.test, np.concatenate([task.train_vectors, task.test_vectors]), strict=True))

    class Vectors(DenseEncoder):  # type: ignore[misc]  # known to the peers' Python only
        def __call__(self, docs: list[Any]) -> list[list[float]]:
            return [known[text].tolist() for text in docs]

    best = task.best
    routes = [
        Route(name=expert, utterances=[task.train[i] for i in np.flatnonzero(best == j)])
        for j, expert in enumerate(task.experts)
        if (best == j).any()
    ]
    router = IndexedRouter(encoder=Vectors(name="shared"), routes=routes)
    found = [{choice.name: choice.confidence for choice in router(prompt, limit=None)} for prompt in task.test]
    overall = task.experts[int(np.nanmean(task.scores, axis=0).argmax())]
    chosen = _numbers(task, [max(own, key=lambda name: own[name]) if own else overall for own in found])
    if task.pair is None:
        return Choice(chosen)
    strong, weak = (task.experts[expert] for expert in task.pair)
    return Choice(chosen, np.array([own.get(strong, 0.0) - own.get(weak, 0.0) for own in found]))


PEERS: dict[str, Callable[[Task], Choice]] = {
    "llmrouter-lib knn": llmrouter_knn,
    "llmrouter-lib svm": llmrouter_svm,
    "llmrouter-lib mlp": llmrouter_mlp,
    "llmrouter-lib mf": llmrouter_mf,
    "routellm mf": routellm_mf,
    "semantic-router": semantic_router,
}
"""Name -> router; the first word is its package on PyPI."""


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # litellm would look prices up on the network
    try:
        found = PEERS[name](read(folder))
    except ImportError as error:
        answer: dict[str, Any] = {"missing": f"{error.name or error} is not installed"}
    except LookupError as error:
        answer = {"missing": str(error)}
    else:
        answer = {"chosen": found.chosen.tolist(), "lead": None if found.lead is None else found.lead.tolist()}
    print(f"\n{json.dumps(answer)}")


if __name__ == "__main__":
    main()
