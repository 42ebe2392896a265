"""Readable names for clusters of prompts: the terms that set a cluster apart (class-based TF-IDF).

As in BERTopic (Grootendorst, arXiv 2203.05794): a term's weight in a cluster is how often its prompts have it times the
logarithm of how rare it is elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_TERMS = 30_000
MAX_CHARACTERS = 2000
"""Of a prompt that are looked at for terms; the topic is named early."""

_WORD = r"(?u)\b[^\W\d_]{3,}\b"


def name_clusters(prompts: Sequence[str], cluster_of: NDArray[np.integer], clusters: int, taken: set[str]) -> list[str]:
    """A name for each cluster 0..clusters-1, none of them equal to another or in `taken`.

    A name is the best term, with a second one where the first is taken; a number where no term is left (prompts
    without words). A word and a pair that has it do not stand together.
    """
    weights, terms = _weights(prompts, cluster_of, clusters)
    names: list[str] = []
    used = set(taken)
    for row in weights:
        best = [terms[i] for i in np.argsort(-row, kind="stable")[:12] if row[i] > 0]
        name = _unused(best, used)
        used.add(name)
        names.append(name)
    return names


def _unused(best: Sequence[str], used: set[str]) -> str:
    first = best[0] if best else "skill"
    apart = [term for term in best[1:] if not set(term.split()) & set(first.split())]
    for name in ([first] if best else []) + [f"{first}, {term}" for term in apart]:
        if name not in used:
            return name
    return next(name for i in range(1, len(used) + 2) if (name := f"{first} {i}") not in used)


def _weights(
    prompts: Sequence[str], cluster_of: NDArray[np.integer], clusters: int
) -> tuple[NDArray[np.float64], list[str]]:
    """(clusters, terms) weights and the terms in alphabetical order."""
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer

    least = 2 if len(prompts) >= 100 else 1
    counter = CountVectorizer(
        binary=True, ngram_range=(1, 2), token_pattern=_WORD, stop_words="english", min_df=least, max_features=MAX_TERMS
    )
    try:
        has: Any = counter.fit_transform([prompt[:MAX_CHARACTERS] for prompt in prompts])
    except ValueError:  # not a single term in all prompts
        return np.zeros((clusters, 0)), []
    n = len(prompts)
    member = sparse.csr_array((np.ones(n), (cluster_of, np.arange(n))), shape=(clusters, n))
    inside = np.asarray((member @ has).todense(), np.float64)
    sizes = np.maximum(np.bincount(cluster_of, minlength=clusters), 1)[:, None]
    overall = np.maximum(inside.sum(axis=0), 1.0) / n
    share = inside / sizes
    gain = np.where(inside >= least, share * np.log(np.maximum(share, 1e-12) / overall), 0.0)
    return gain, [str(term) for term in counter.get_feature_names_out()]
