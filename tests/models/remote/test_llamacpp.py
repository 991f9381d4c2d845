"""A real llama.cpp server on a tiny GGUF file: `openai:…?at=llamacpp` beside `transformers:FILE.gguf` here.

With POTSTILL_GGUF=FILE the server is also tried on a file of that name, such as the one in SmolLM2's wheel.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import child
import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")
pytest.importorskip("gguf", reason="needs the extra potstill[gguf], which writes the file")
pytest.importorskip("xllamacpp", reason="needs xllamacpp, llama.cpp's server as a package")
from gguf_made import write_gguf

from potstill.models import cache_folder, load
from potstill.models.model import Completion, Request, Sampling
from potstill.models.scoring import token_scoring_request
from potstill.models.token_scoring import TopLogprobs

pytestmark = [
    pytest.mark.slow,  # a server in a process of its own
    pytest.mark.filterwarnings("ignore:.*is written once as a checkpoint"),
]
SERVER = """
import sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 256
params.n_parallel = 2
params.warmup = False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
GREEDY = Sampling(temperature=0, max_new_tokens=12, logprobs=True)
PREFIXES = ("", "So", " 19 - 14 = 5.  So the total is, I think,")
REAL_FILE = os.environ.get("POTSTILL_GGUF", "")
NEAR = 0.02  # of a log-probability: llama.cpp rounds on the way, by 0.004 as far as was seen


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path


@pytest.fixture(scope="module")
def url(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(file, tmp_path_factory.mktemp("log") / "log") as address:
        yield address


@contextmanager
def serving(file: Path, log: Path) -> Iterator[str]:
    with log.open("wb") as errors:
        pipes = {"stdin": child.subprocess.PIPE, "stdout": child.subprocess.PIPE, "stderr": errors}
        with child.started([sys.executable, "-c", SERVER, file], text=True, **pipes) as server:
            lines = iter(server.stdout.readline, "")
            address = next((line.strip() for line in lines if line.startswith("http")), "")
            assert address, log.read_text(errors="replace")
            yield f"{address}/v1"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path))


def test_answers_are_those_of_the_same_file_here(url: str, file: Path, cache: None) -> None:
    requests = []
    for question in ("Ned has 19 shells.  Then Ned sells 14.", "Add 3\n\n  to 12."):
        requests += [Request(question, prefix, GREEDY) for prefix in PREFIXES]
    there = load(f"openai:tiny?at=llamacpp&url={url}").write(requests)
    here = load(f"transformers:{file}?threads=1").write(requests)
    for request, one, other in zip(requests, there, here, strict=True):
        assert not one.error and one.text == other.text, request
        assert one.tokens.prompt == other.tokens.prompt
        assert one.logprobs == pytest.approx(other.logprobs, abs=NEAR)
        assert one.served.endswith(file.name)


def test_seeds_draws_and_stops(url: str) -> None:
    model = load(f"openai:tiny?at=llamacpp&url={url}")
    draws = [
        Request("Add 3.", sampling=Sampling(max_new_tokens=12), sample_index=i) for i in range(4)
    ]
    first = texts(model.write(draws))
    assert len(set(first)) == 4 and texts(model.write(draws)) == first
    # In a call for several samples it counts the tokens of one; so each is asked for by itself.
    counted = load(f"openai:tiny?at=llamacpp&n=4&url={url}").write(draws)
    assert texts(counted) == first and all(c.tokens.completion == 12 for c in counted)

    [whole] = model.write([Request("Add 3.", sampling=GREEDY)])
    stop = whole.text[3:6]
    stopped = Sampling(temperature=0, max_new_tokens=12, stop=(stop,))
    [cut] = model.write([Request("Add 3.", sampling=stopped)])
    assert (cut.text, cut.finish_reason) == (whole.text[: whole.text.index(stop)], "stop_string")


def test_plain_text_is_continued_as_here(url: str, file: Path, cache: None) -> None:
    requests = [Request("Ned has 19 shells.", prefix, GREEDY) for prefix in PREFIXES]
    there = load(f"openai:tiny?at=llamacpp&mode=text&url={url}").write(requests)
    here = load(f"transformers:{file}?threads=1&chat=plain").write(requests)
    assert texts(there) == texts(here) and all(texts(here))


@pytest.mark.skipif(not REAL_FILE, reason="POTSTILL_GGUF names no real GGUF file")
def test_a_real_model_is_drawn_from_stopped_and_continued(tmp_path: Path) -> None:
    question = "State the final answer to the following arithmetic problem: 5 + 3 ="
    sampling = Sampling(max_new_tokens=24, logprobs=True)
    draws = [Request(question, sampling=sampling, sample_index=index) for index in range(3)]
    with serving(Path(REAL_FILE), tmp_path / "log") as url:
        chat = load(f"openai:real?at=llamacpp&url={url}")
        first = chat.write(draws)
        assert texts(chat.write(draws)) == texts(first) and len(set(texts(first))) > 1
        for completion in first:
            assert completion.logprobs and max(completion.logprobs) <= 0
            assert completion.served.endswith(Path(REAL_FILE).name)

        greedy = Sampling(temperature=0, max_new_tokens=24)
        [whole] = chat.write([Request(question, sampling=greedy)])
        [stopped] = chat.write([Request(question, sampling=greedy_until(whole.text[4:8]))])
        assert whole.text.startswith(stopped.text) and stopped.finish_reason == "stop_string"

        # The server says the prefix again; what is stored is what follows it.
        for mode in ("chat", "text"):
            model = load(f"openai:real?at=llamacpp&mode={mode}&url={url}")
            [continued] = model.write([Request(question, "So 5 + 3 is equal to", greedy)])
            assert "So 5" not in continued.text[:8] and texts([continued])[0].strip()


def greedy_until(stop: str) -> Sampling:
    return Sampling(temperature=0, max_new_tokens=24, stop=(stop,))


def texts(completions: list[Completion]) -> list[str]:
    assert not [completion.error for completion in completions if completion.error]
    return [completion.text for completion in completions]


def test_the_likeliest_tokens_in_a_text_are_those_of_the_checkpoint(
    file: Path, url: str, cache: None
) -> None:
    import torch

    teacher = load(f"openai:tiny?at=llamacpp&url={url}&score=n_probs")
    local = load(f"transformers:{file}?dtype=float32&device=cpu")
    prompt = "Ned has 19 shells and sells 14."
    prompt_ids = local.encoder.encode_prompt(prompt)
    assert teacher.read_text(local.encoder.render_prompt(prompt)) == prompt_ids
    assert teacher.read_prompt(prompt) == prompt_ids

    ids = [*prompt_ids, *local.encoder.codec.encode("So 19 - 14 = 5.")]
    request = token_scoring_request(ids, start=len(prompt_ids), top_logprobs=5)
    [answer] = teacher.score_tokens([request])
    table = TopLogprobs.from_text(answer.text)
    with torch.no_grad():
        log_probs_TV = local.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    for place in range(len(ids) - len(prompt_ids)):
        row = log_probs_TV[len(prompt_ids) + place - 1]
        entries = slice(5 * place, 5 * place + 5)
        for token, logprob in zip(table.ids[entries], table.logprobs[entries], strict=True):
            assert logprob == pytest.approx(float(row[token]), abs=NEAR)
        assert max(table.logprobs[entries]) == pytest.approx(float(row.max()), abs=NEAR)
