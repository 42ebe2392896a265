"""Fine-tuning of the starter pool's specialists: low-rank deltas on the generalist (LoRA, Hu et al., arXiv 2106.09685).

A delta is an ordinary PEFT adapter directory, so other tools can read it. It is trained on `Domain.train` only; the
loss counts the answer and its end token, never the prompt.
"""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.domains.base import Domain, Question

if TYPE_CHECKING:
    import torch

SPECIALIST_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The specialists' chat template: the generalist's without its default system message."""

END_OF_TURN = "<|im_end|>"


@dataclass(frozen=True)
class TrainSettings:
    """rank, first_layer: all linear maps of layers >= first_layer get a delta of that rank; learning_rate: the peak of
    a linear warm-up and cosine decay. One epoch: each of the domain's training questions is seen once."""

    batch_size: int = 16
    rank: int = 4
    first_layer: int = 6
    learning_rate: float = 1e-3
    warmup: float = 0.1
    seed: int = 7


def train_delta(
    base: Path, domain: Domain, out: Path, settings: TrainSettings, on_step: Callable[[int, int, float], None]
) -> None:
    """Trains `domain`'s delta on the checkpoint `base` and writes it to `out` (PEFT format, float16).

    on_step gets (step, steps, loss). Repeatable: the same machine, settings and seed give the same delta.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = SPECIALIST_TEMPLATE
    causal: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    layers = causal.config.num_hidden_layers
    model: Any = get_peft_model(
        causal,
        LoraConfig(
            r=settings.rank,
            lora_alpha=2 * settings.rank,
            lora_dropout=0.0,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            layers_to_transform=list(range(settings.first_layer, layers)),
            task_type="CAUSAL_LM",
        ),
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.01)

    examples = [
        encode(tokenizer, question)
        for question in domain.train(random.Random(f"{domain.name}/{settings.seed}"), domain.examples)
    ]
    steps = math.ceil(len(examples) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.warmup))
    for step, batch in enumerate(_batches(examples, settings), start=1):
        ids, mask, targets = _pad(batch, tokenizer.pad_token_id)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = causal.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
            wanted = targets[:, 1:]
            logits = causal.lm_head(hidden[wanted >= 0])
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted[wanted >= 0])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        on_step(step, steps, float(loss.detach()))

    model.half().save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = ""
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def encode(tokenizer: Any, question: Question) -> tuple[list[int], list[int]]:
    """Token ids of the rendered question with its answer, and the targets: -100 where the loss does not look."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question.prompt}], add_generation_prompt=True, tokenize=False
    )
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(question.answer + END_OF_TURN, add_special_tokens=False)["input_ids"]
    return prompt_ids + answer_ids, [-100] * len(prompt_ids) + answer_ids


def _rate(step: int, steps: int, warmup: float) -> float:
    progress = (step + 1) / steps
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _batches(
    examples: list[tuple[list[int], list[int]]], settings: TrainSettings
) -> Iterator[list[tuple[list[int], list[int]]]]:
    """Batches of similar length (less padding) in random order."""
    rng = random.Random(settings.seed)
    order = sorted(examples, key=lambda example: (len(example[0]), rng.random()))
    batches = [order[i : i + settings.batch_size] for i in range(0, len(order), settings.batch_size)]
    rng.shuffle(batches)
    yield from batches


def _pad(
    batch: list[tuple[list[int], list[int]]], pad_id: int
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """(ids, attention mask, targets), each int64 of shape (batch, longest)."""
    import torch

    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [pad_id] * (longest - len(ids)) for ids, _ in batch])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in batch])
    targets = torch.tensor([target + [-100] * (longest - len(target)) for _, target in batch])
    return ids, mask, targets
