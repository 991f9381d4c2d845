"""Local sampling against transformers' plain `generate`, on the same checkpoint, prompts and settings.

    python benchmarks/sampling.py [CHECKPOINT] [--json]

`generate` gets one problem at a time with all its samples as a batch (`num_return_sequences`), the usual loop.
Both sample at temperature 1 and stop at the end token; tokens are those drawn, end tokens included. `generate` is
measured in slices before and after ours, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Request, Sampling
from potstill.world.story import problems

DEFAULT = Path(__file__).resolve().parents[1] / "potstill" / "world" / "checkpoints" / "student"


def ours(model: TransformersModel, prompts: Sequence[str], n: int, limit: int) -> int:
    """Tokens drawn for n samples of each prompt."""
    sampling = Sampling(max_new_tokens=limit)
    requests = [
        Request(prompt, sample_index=draw, sampling=sampling)
        for prompt in prompts
        for draw in range(n)
    ]
    return sum(completion.tokens.completion for completion in model.write(requests))


def plain(model: TransformersModel, prompts: Sequence[str], n: int, limit: int) -> int:
    """The same with `generate`, one prompt after the other."""
    drawn, pad = 0, model.encoder.tokenizer.pad_token_id
    options: dict[str, Any] = {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "pad_token_id": pad,
    }
    for prompt in prompts:
        ids = torch.tensor([model.encoder.encode_prompt(prompt)], device=model.model.device)
        mask = torch.ones_like(ids)
        out = model.model.generate(
            ids, attention_mask=mask, num_return_sequences=n, max_new_tokens=limit, **options
        )
        new = out[:, ids.shape[1] :]
        ended = torch.isin(new, torch.tensor(model.end_ids, device=new.device)).cumsum(1)
        drawn += int((ended == 0).sum() + (ended.amax(1) > 0).sum())
    return drawn


def measure(checkpoint: Path, count: int, n: int, limit: int, slices: int) -> dict[str, float]:
    """Tokens a second of both and their ratio."""
    model = TransformersModel(checkpoint)
    prompts = [problem.question for problem in problems("story", size=count, seed=1, split="bench")]
    runs = {"potstill": ours, "generate": plain}
    for run in runs.values():
        run(model, prompts[:2], n, 4)  # load the weights, build lazy state
    tokens, seconds, cpu = (
        dict.fromkeys(runs, 0),
        dict.fromkeys(runs, 0.0),
        dict.fromkeys(runs, 0.0),
    )
    for part in range(slices):
        for name, run in runs.items():
            began, burned = time.perf_counter(), time.process_time()
            # Ours plans from the whole list, so it is measured whole, in the middle slice.
            whole = name == "potstill"
            if not whole or part == slices // 2:
                tokens[name] += run(model, prompts if whole else prompts[part::slices], n, limit)
                seconds[name] += time.perf_counter() - began
                cpu[name] += time.process_time() - burned
    rates = {name: tokens[name] / seconds[name] for name in runs}
    return {
        "problems": count, "n": n, "threads": torch.get_num_threads(),
        **{f"{name}_tokens": tokens[name] for name in runs},
        **{f"{name}_tokens_per_second": round(rates[name], 1) for name in runs},
        "ratio": round(rates["potstill"] / rates["generate"], 2),
        "cpu_ratio": round((tokens["potstill"] / cpu["potstill"]) / (tokens["generate"] / cpu["generate"]), 2),
    }  # fmt: skip


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.checkpoint, given.problems, given.n, given.max_new_tokens, given.slices)
    if given.json:
        print(json.dumps(found))
        return
    print(
        f"{found['problems']} problems, n={found['n']}, {found['threads']} threads, {given.checkpoint.name}"
    )
    for name in ("potstill", "generate"):
        print(
            f"  {name:9} {found[f'{name}_tokens_per_second']:9.0f} tokens/s  ({found[f'{name}_tokens']:.0f} tokens)"
        )
    print(f"  ratio     {found['ratio']:9.2f}  by wall time, {found['cpu_ratio']:.2f} by CPU time")


if __name__ == "__main__":
    main()
