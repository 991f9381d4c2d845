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
from potstill.models.local import weights
from potstill.models.local.checkpoint import load_tokenizer
from potstill.world.lessons import Row

END = "<|im_end|>"
BATCHES_A_CHUNK = 16
WRITTEN_TOGETHER = 256  # prompts that are sampled at once
MAX_GRAD_NORM = 1.0

Encoded = tuple[list[int], list[bool]]
"""Token ids of a row, and which of them have a loss."""
DrawRow = Callable[[random.Random], Row]


@dataclass(frozen=True, slots=True)
class Schedule:
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


def model_from(checkpoint: Path, tokenizer: Any, seed: int) -> Any:
    """A model with a checkpoint's layers, and its embeddings of the tokens that both tokenizers have.

    Tokens that only the new tokenizer has begin at random.
    """
    source = weights.load_weights(checkpoint, torch.float32).state_dict()
    source_ids = load_tokenizer(checkpoint).get_vocab()
    model = new_model(tokenizer, seed)
    embeddings_VH = model.state_dict()["model.embed_tokens.weight"].clone()
    for token, index in tokenizer.get_vocab().items():
        if token in source_ids:
            embeddings_VH[index] = source["model.embed_tokens.weight"][source_ids[token]]
    # The output layer is tied to the embeddings.
    source["model.embed_tokens.weight"] = source["lm_head.weight"] = embeddings_VH
    model.load_state_dict(source)
    return model


def user_turn(prompt: str) -> str:
    """A chat with one user's turn, up to where the assistant writes."""
    return f"<|im_start|>user\n{prompt}{END}\n<|im_start|>assistant\n"


def encode_row(tokenizer: Any, row: Row) -> Encoded:
    """Token ids of a chat with one turn each, and which of them have a loss."""
    ids = tokenizer.encode(user_turn(row.prompt))
    has_loss = [False] * len(ids)

    def add_piece(text: str, *, counts: bool) -> None:
        piece_ids = tokenizer.encode(text)
        ids.extend(piece_ids)
        has_loss.extend([counts] * len(piece_ids))

    # Each piece is encoded on its own, so that no token lies on both sides of a border.
    position = 0
    for start, stop in row.silent:
        add_piece(row.completion[position:start], counts=True)
        add_piece(row.completion[start:stop], counts=False)
        position = stop
    add_piece(row.completion[position:], counts=True)
    end_id = tokenizer.convert_tokens_to_ids(END)
    return [*ids, end_id], [*has_loss, True]


def batches(
    tokenizer: Any, draw_row: DrawRow, schedule: Schedule, seed: str, start: int
) -> Iterator[list[Encoded]]:
    """Endless length-sorted batches of about `batch_tokens` tokens, in chunks of 16, each chunk from its own seed.

    Args:
        tokenizer: of the model.
        draw_row: gives a row for a random generator.
        schedule: of the phase.
        seed: of the phase.
        start: the step whose batch comes first.
    """
    chunk, skipped = divmod(start, BATCHES_A_CHUNK)
    while True:
        rng = random.Random(hashlib.sha256(f"{seed}/{chunk}".encode()).digest())
        yield from draw_chunk(tokenizer, draw_row, schedule, rng)[skipped:]
        chunk += 1
        skipped = 0


def draw_chunk(
    tokenizer: Any, draw_row: DrawRow, schedule: Schedule, rng: random.Random
) -> list[list[Encoded]]:
    """16 batches of rows of about one length each, in random order."""
    rows: list[Encoded] = []
    total_tokens = 0
    while total_tokens < BATCHES_A_CHUNK * schedule.batch_tokens:
        ids, has_loss = encode_row(tokenizer, draw_row(rng))
        rows.append((ids, has_loss))
        total_tokens += len(ids)
    rows.sort(key=lambda row: len(row[0]))

    # A batch ends where its share of all tokens is reached.
    bounds = [0]
    tokens = 0
    for index, (ids, _) in enumerate(rows):
        tokens += len(ids)
        is_full = tokens >= len(bounds) * total_tokens / BATCHES_A_CHUNK
        if is_full and len(bounds) < BATCHES_A_CHUNK:
            bounds.append(index + 1)
    chunk: list[list[Encoded]] = []
    for start, stop in zip(bounds, [*bounds[1:], len(rows)], strict=True):
        chunk.append(rows[start:stop])
    rng.shuffle(chunk)
    return chunk


def completion_loss(model: Any, batch: Sequence[Encoded]) -> torch.Tensor:
    """Mean cross-entropy over the completions' tokens."""
    width = max(len(ids) for ids, _ in batch)
    ids_BT = torch.zeros(len(batch), width, dtype=torch.long)
    mask_BT = torch.zeros(len(batch), width, dtype=torch.bool)
    for row, (ids, has_loss) in enumerate(batch):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        mask_BT[row, : len(ids)] = torch.tensor(has_loss)
    hidden_BTH = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    # A position predicts the next token: targets and mask are one to the left.
    target_mask_BT = mask_BT[:, 1:]
    logits_NV = model.lm_head(hidden_BTH[target_mask_BT])  # only where there is a loss
    targets_N = ids_BT[:, 1:][target_mask_BT]
    return F.cross_entropy(logits_NV, targets_N)


def build_optimizers(model: Any, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.ndim != 2 or "embed" in name:
            others.append(parameter)
        elif "lm_head" not in name:  # tied to the embeddings
            matrices.append(parameter)
    return [
        torch.optim.Muon(matrices, lr=schedule.muon_lr, weight_decay=0.0),
        torch.optim.AdamW(others, lr=schedule.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


@dataclass
class Phase:
    """A phase under way: model, optimizers, step; saved and resumed as one file."""

    name: str
    model: Any
    schedule: Schedule
    folder: Path
    seed: int
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Resume from the phase's state file, where there is one."""
        self.optimizers = build_optimizers(self.model, self.schedule)
        self.full_rates = [group["lr"] for group in self._parameter_groups()]
        if self.file.exists():
            state = torch.load(self.file, weights_only=True)
            self.model.load_state_dict(state["model"])
            for optimizer, optimizer_state in zip(self.optimizers, state["optims"], strict=True):
                optimizer.load_state_dict(optimizer_state)
            self.step, self.seconds = state["step"], state["seconds"]

    @property
    def file(self) -> Path:
        """The state file."""
        return self.folder / f"{self.name}.pt"

    def _parameter_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        for optimizer in self.optimizers:
            groups += optimizer.param_groups
        return groups

    def save(self) -> None:
        """Write the state, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "optims": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        with writing(self.file) as file:
            torch.save(state, file)

    def train(self, tokenizer: Any, draw_row: DrawRow, until: int) -> float:
        """Train to step `until`; returns the mean loss of those steps."""
        seed = f"{self.seed}/{self.name}"
        stream = batches(tokenizer, draw_row, self.schedule, seed, self.step)
        losses: list[float] = []
        began = time.monotonic()
        self.model.train()
        while self.step < min(until, self.schedule.last):
            share = self.schedule.rate(self.step)
            for group, full_rate in zip(self._parameter_groups(), self.full_rates, strict=True):
                group["lr"] = full_rate * share
            loss = completion_loss(self.model, next(stream))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            self.step += 1
        self.seconds += time.monotonic() - began
        return float(sum(losses) / max(1, len(losses)))


def sample_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> list[str]:
    """Sampled completions, a few hundred at a time; only for the build (the product samples through `models`)."""
    model.eval()
    torch.manual_seed(seed)
    tokenizer.padding_side = "left"
    texts = [""] * len(prompts)
    # Prompts of one length are sampled together: less padding.
    by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    for start in range(0, len(by_length), WRITTEN_TOGETHER):
        places = by_length[start : start + WRITTEN_TOGETHER]
        chats = [user_turn(prompts[place]) for place in places]
        inputs = tokenizer(chats, return_tensors="pt", padding=True)
        ids_BT = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=temperature > 0,
            temperature=temperature or None,
            top_k=0,
        )
        prompt_width = inputs["input_ids"].shape[1]
        for place, new_ids in zip(places, ids_BT[:, prompt_width:], strict=True):
            texts[place] = tokenizer.decode(new_ids, skip_special_tokens=True)
    return texts


def append_log(folder: Path, **entry: Any) -> None:
    """One line to the build's log and to the terminal."""
    line = json.dumps(entry)
    print(line, flush=True)
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
