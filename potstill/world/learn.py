"""The loop that trains the world's models from scratch: Muon on the matrices, AdamW on the rest.

Loss on completions only; right padding and causal attention, so no mask is needed; logits only at completion positions.
Everything random is derived from (seed, phase, step), so a resumed build goes on as an undisturbed one would.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from potstill.data.atomic_write import writing
from potstill.world.lessons import Row

END = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a phase trains: tokens a batch, learning rates, warm-up, and the last `decay` steps, over which they fall."""

    batch_tokens: int = 2048
    muon_lr: float = 6e-3
    adam_lr: float = 3e-3
    warmup: int = 50
    last: int = 5000
    decay: int = 0

    def rate(self, step: int) -> float:
        """Share of the learning rate at a step."""
        left = (self.last - step) / self.decay if self.decay else 1.0
        return min(1.0, (step + 1) / self.warmup) * max(0.1, min(1.0, left))


def new_model(tokenizer: Any, seed: int, hidden: int = 128, layers: int = 4) -> Any:
    """A small Qwen3 with random weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 3,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


Encoded = tuple[list[int], list[bool]]


def encode(tokenizer: Any, row: Row) -> Encoded:
    """Token ids of a chat with one turn each, and which of them have a loss."""
    ids = tokenizer.encode(f"<|im_start|>user\n{row.prompt}{END}\n<|im_start|>assistant\n")
    counted = [False] * len(ids)
    at = 0
    for start, stop in (*row.silent, (len(row.completion), len(row.completion))):
        for piece, counts in (
            (row.completion[at:start], True),
            (row.completion[start:stop], False),
        ):
            tokens = tokenizer.encode(piece)
            ids += tokens
            counted += [counts] * len(tokens)
        at = stop
    return [*ids, tokenizer.convert_tokens_to_ids(END)], [*counted, True]


def batches(
    tokenizer: Any, lesson: Callable[[random.Random], Row], pace: Pace, seed: str, start: int
) -> Iterator[list[Encoded]]:
    """Endless length-sorted batches of about `batch_tokens` tokens, in chunks of 16, each chunk from its own seed."""
    chunk = start // 16
    while True:
        rng = random.Random(hashlib.sha256(f"{seed}/{chunk}".encode()).digest())
        made = list(_chunk(tokenizer, lesson, pace, rng))
        yield from made[start % 16 if chunk == start // 16 else 0 :]
        chunk += 1


def _chunk(
    tokenizer: Any, lesson: Callable[[random.Random], Row], pace: Pace, rng: random.Random
) -> list[Any]:
    rows: list[Encoded] = []
    total = 0
    while total < 16 * pace.batch_tokens:
        rows.append(encode(tokenizer, lesson(rng)))
        total += len(rows[-1][0])
    rows.sort(key=lambda row: len(row[0]))
    bounds, size = [0], 0
    for i, (ids, _) in enumerate(rows):
        size += len(ids)
        if size >= len(bounds) * total / 16 and len(bounds) < 16:
            bounds.append(i + 1)
    cuts = [rows[a:b] for a, b in zip(bounds, [*bounds[1:], len(rows)])]
    rng.shuffle(cuts)
    return cuts


def loss_of(model: Any, batch: Sequence[Encoded]) -> torch.Tensor:
    """Mean cross-entropy over the completions' tokens."""
    width = max(len(ids) for ids, _ in batch)
    ids_BT = torch.zeros(len(batch), width, dtype=torch.long)
    mask_BT = torch.zeros(len(batch), width, dtype=torch.bool)
    for i, (ids, counted) in enumerate(batch):
        ids_BT[i, : len(ids)] = torch.tensor(ids)
        mask_BT[i, : len(ids)] = torch.tensor(counted)
    hidden_BTH = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    wanted = mask_BT[:, 1:]
    return F.cross_entropy(model.lm_head(hidden_BTH[wanted]), ids_BT[:, 1:][wanted])


def optimisers(model: Any, pace: Pace) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms."""
    matrices = [
        p
        for n, p in model.named_parameters()
        if p.ndim == 2 and "embed" not in n and "lm_head" not in n
    ]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=pace.muon_lr, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=pace.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


@dataclass
class Phase:
    """A phase under way: model, optimisers, step; saved and resumed as one file."""

    name: str
    model: Any
    pace: Pace
    folder: Path
    seed: int
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Resume from the phase's state file, where there is one."""
        self.optims = optimisers(self.model, self.pace)
        self.base = [g["lr"] for o in self.optims for g in o.param_groups]
        if self.file.exists():
            state = torch.load(self.file, weights_only=True)
            self.model.load_state_dict(state["model"])
            for optim, saved in zip(self.optims, state["optims"]):
                optim.load_state_dict(saved)
            self.step, self.seconds = state["step"], state["seconds"]

    @property
    def file(self) -> Path:
        """The state file."""
        return self.folder / f"{self.name}.pt"

    def save(self) -> None:
        """Write the state, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "optims": [o.state_dict() for o in self.optims],
            "step": self.step,
            "seconds": self.seconds,
        }
        with writing(self.file) as file:
            torch.save(state, file)

    def train(self, tokenizer: Any, lesson: Callable[[random.Random], Row], until: int) -> float:
        """Train to step `until`; returns the mean loss of those steps."""
        stream = batches(tokenizer, lesson, self.pace, f"{self.seed}/{self.name}", self.step)
        losses, began = [], time.monotonic()
        self.model.train()
        while self.step < min(until, self.pace.last):
            rates = [lr * self.pace.rate(self.step) for lr in self.base]
            for group, lr in zip((g for o in self.optims for g in o.param_groups), rates):
                group["lr"] = lr
            loss = loss_of(self.model, next(stream))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optim in self.optims:
                optim.step()
                optim.zero_grad(set_to_none=True)
            losses.append(loss.item())
            self.step += 1
        self.seconds += time.monotonic() - began
        return float(sum(losses) / max(1, len(losses)))


def write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    temperature: float,
    tokens: int,
    seed: int,
) -> list[str]:
    """Sampled completions, a few hundred at a time; only for the build (the product samples through `models`)."""
    model.eval()
    torch.manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts = [""] * len(prompts)
    tokenizer.padding_side = "left"
    for at in range(0, len(order), 256):
        part = order[at : at + 256]
        chats = [f"<|im_start|>user\n{prompts[i]}{END}\n<|im_start|>assistant\n" for i in part]
        inputs = tokenizer(chats, return_tensors="pt", padding=True)
        out = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=tokens,
            do_sample=temperature > 0,
            temperature=temperature or None,
            top_k=0,
        )
        for i, ids in zip(part, out[:, inputs["input_ids"].shape[1] :]):
            texts[i] = tokenizer.decode(ids, skip_special_tokens=True)
    return texts


def log(folder: Path, **entry: Any) -> None:
    """One line to the build's log and to the terminal."""
    line = json.dumps(entry)
    print(line, flush=True)
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
