"""Stored entries: what is read is what the teacher said, for these tokens and no others; small; never half."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import pairs, rows, stored
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint as make_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill.errors import StageError, StoreError
from potstill.models.ray_spec import ReplicaSettings
from potstill.objectives.truncated import top_k
from potstill.records import Span
from potstill.training.dataset.build import tokenize_for_teacher
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import TrainingSettings
from potstill.training.teacher import cached_logits


def tokenized(traces, path):
    return tokenize_for_teacher(traces, path, TrainingSettings()).rows


def test_what_is_read_is_what_the_teacher_said_to_half_precision(tmp_path):
    folder = stored(tmp_path, k=8)
    start = make_checkpoint(tmp_path / "student")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "teacher", dtype=torch.float32)
    for row in cached_logits.read(folder, start, tokenized(pairs(), start)):
        with torch.no_grad():
            live = top_k(model(torch.tensor([row.input_ids.tolist()])).logits[0], 8)
        counted = row.is_learnt.nonzero()[0].tolist()
        assert counted[0] == row.prompt_length and row.columns["cached_logp"].dtype == np.float16
        for at in counted:
            assert row.columns["cached_ids"][at].tolist() == live.ids_NK[at - 1].tolist()
            torch.testing.assert_close(
                torch.from_numpy(row.columns["cached_logp"][at]).float(),
                live.logp_NK[at - 1],
                rtol=1e-3,
                atol=1e-3,
            )
        assert not row.columns["cached_logp"][: row.prompt_length].any()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_entries_are_stored_at_the_temperature_asked_for(tmp_path, temperature):
    folder = stored(tmp_path, k=400, temperature=temperature)
    assert cached_logits.load_manifest(folder).temperature == temperature
    tensors = load_file(folder / "teacher_cache-00000.safetensors")
    shares = next(t for name, t in tensors.items() if name.endswith("logp")).float().exp().sum(-1)
    torch.testing.assert_close(shares, torch.ones_like(shares), rtol=0, atol=2e-2)


@pytest.mark.parametrize(("k", "least"), [(32, 192), (64, 384)])
def test_a_token_takes_at_most_600_bytes(tmp_path, k, least):
    folder = stored(tmp_path, k=k)
    told = cached_logits.load_manifest(folder)
    on_disk = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert told.bytes == on_disk and told.rows == 16 and told.k == k
    assert told.tokens == sum(
        row.is_learnt.sum() for row in tokenized(pairs(), tmp_path / "teacher")
    )
    assert least < told.bytes / told.tokens < 600, told.bytes / told.tokens


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_replicas_store_the_same_bytes(tmp_path, ray_cluster):
    folder = stored(tmp_path, k=8)
    other, teacher = tmp_path / "by replicas", tmp_path / "teacher"
    settings = ReplicaSettings(replicas=2, threads=torch.get_num_threads())
    read = tokenized(pairs(), teacher)
    manifest = cached_logits.write(other, teacher, read, k=8, replicas=settings)
    assert manifest == cached_logits.load_manifest(folder)
    for path in folder.iterdir():
        assert (other / path.name).read_bytes() == path.read_bytes()


def test_other_rows_weights_and_tokens_are_refused(tmp_path):
    folder = stored(tmp_path)
    start = make_checkpoint(tmp_path / "student")
    changed = [rows()[0].annotate(spans=(Span(0, 4, "step", 0.0),)), *rows()[1:]]
    with pytest.raises(StageError, match="no entries for 1 of 8 rows"):
        cached_logits.read(folder, start, tokenized(changed, start))
    reweighted = [rows()[0].annotate(weight=0.25), *rows()[1:]]
    assert len(cached_logits.read(folder, start, tokenized(reweighted, start))) == 8, (
        "a weight changes no entries"
    )
    template = json.dumps(
        "{{ messages[-1]['content'] }}{% if add_generation_prompt %}\n{% endif %}"
    )
    other = make_checkpoint(tmp_path / "other")
    (other / "chat_template.jinja").write_text(json.loads(template))
    with pytest.raises(StageError, match="made with another tokenizer"):
        cached_logits.read(folder, other, tokenized(rows(), start))


def test_a_training_on_entries_of_another_temperature_is_refused(tmp_path):
    start = make_checkpoint(tmp_path / "student")
    config = ObjectiveConfig("forward_kl", {"temperature": 2.0}, teacher_cache=stored(tmp_path))
    with pytest.raises(
        StageError, match="stored at temperature 1, and the objective compares at 2"
    ):
        fit(rows(), start, tmp_path / "out", TrainingSettings(max_steps=1), config=config)


def test_a_damaged_or_unfinished_folder_says_so(tmp_path):
    folder = stored(tmp_path)
    start = make_checkpoint(tmp_path / "student")
    found = tokenized(rows(), start)
    shard = folder / "teacher_cache-00000.safetensors"
    whole = shard.read_bytes()
    for cut in (len(whole) // 2, 100, 4):
        shard.write_bytes(whole[:cut])
        with pytest.raises(StoreError, match="is damaged"):
            cached_logits.read(folder, start, found)
    shard.write_bytes(whole)
    tensors = load_file(shard)
    save_file(
        {name: tensor for name, tensor in tensors.items() if not name.endswith("logp")}, shard
    )
    with pytest.raises(StoreError, match="is damaged"):
        cached_logits.read(folder, start, found)
    shard.write_bytes(whole)
    assert len(cached_logits.read(folder, start, found)) == 8
    (folder / "teacher_cache.json").write_text("{")
    with pytest.raises(StoreError, match="can't be read"):
        cached_logits.read(folder, start, found)
    (folder / "teacher_cache.json").unlink()
    with pytest.raises(StoreError, match="never finished"):
        cached_logits.read(folder, start, found)


def test_a_finished_folder_is_left_alone_and_another_never_overwritten(tmp_path, monkeypatch):
    folder = stored(tmp_path)
    before, told = (
        (folder / "teacher_cache-00000.safetensors").stat().st_mtime_ns,
        cached_logits.load_manifest(folder),
    )
    monkeypatch.setattr(cached_logits, "load_teacher", None)  # the teacher is not even loaded
    teacher, found = tmp_path / "teacher", tokenized(pairs(), tmp_path / "teacher")
    assert cached_logits.write(folder, teacher, found, k=16, device="cpu") == told
    assert (folder / "teacher_cache-00000.safetensors").stat().st_mtime_ns == before
    for other in ({"k": 8}, {"k": 16, "temperature": 2.0}):
        with pytest.raises(StoreError, match="another teacher, other rows, k or temperature"):
            cached_logits.write(folder, teacher, found, device="cpu", **other)
    with pytest.raises(StoreError, match="another teacher, other rows"):
        cached_logits.write(folder, teacher, found[:3], k=16, device="cpu")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(StoreError, match=r"not empty \(thesis.txt\)"):
        cached_logits.write(tmp_path / "mine", teacher, found, k=16, device="cpu")


def test_an_unfinished_one_is_begun_anew_over_several_shards(tmp_path, monkeypatch):
    whole = cached_logits.load_manifest(stored(tmp_path))
    monkeypatch.setattr(cached_logits, "ROWS_A_SHARD", 5)
    teacher, found = tmp_path / "teacher", tokenized(pairs(), tmp_path / "teacher")
    out, calls = tmp_path / "again", []

    class Stop(Exception):
        pass

    def stop(label, done, total):
        if done >= 5:
            raise Stop

    with pytest.raises(Stop):
        cached_logits.write(out, teacher, found, k=16, device="cpu", progress=stop)
    assert [path.name for path in out.iterdir()] == ["teacher_cache-00000.safetensors"]
    (out / "teacher_cache-00009.safetensors").write_bytes(b"of an earlier try")
    told = cached_logits.write(
        out, teacher, found, k=16, device="cpu", progress=lambda *call: calls.append(call)
    )
    assert len(list(out.glob("*.safetensors"))) == 4 and calls[-1] == ("rows", 16, 16)
    assert told.tokens == whole.tokens and told.content == whole.content
    start = make_checkpoint(tmp_path / "student")
    for mine, theirs in zip(
        cached_logits.read(out, start, found),
        cached_logits.read(tmp_path / "teacher_cache", start, found),
    ):
        assert np.array_equal(mine.columns["cached_ids"], theirs.columns["cached_ids"])


@pytest.mark.slow
def test_pairs_get_entries_on_both_sides(tmp_path):
    start = make_checkpoint(tmp_path / "student")
    config = ObjectiveConfig("distillm2", teacher_cache=stored(tmp_path))
    done = fit(
        pairs(), start, tmp_path / "out", TrainingSettings(max_steps=2, threads=1), config=config
    )
    assert done.rows == 8 and len(done.losses) == 2


def test_it_needs_something_to_store(tmp_path, tiny_checkpoint):
    with pytest.raises(StageError, match="0 rows"):
        cached_logits.write(tmp_path / "teacher_cache", tiny_checkpoint, [])
    with pytest.raises(StageError, match="k=0"):
        cached_logits.write(
            tmp_path / "teacher_cache", tiny_checkpoint, tokenized(rows(), tiny_checkpoint), k=0
        )


@pytest.mark.slow
def test_all_entries_of_a_training_equal_the_teachers_own_distribution(tmp_path):
    """With every entry kept, stored and live distillation are one thing, to half precision."""
    start = make_checkpoint(tmp_path / "student")
    size = len(AutoTokenizer.from_pretrained(start))
    settings = TrainingSettings(max_steps=2, threads=1, warmup_steps=0, learning_rate=1e-3)
    of = stored(tmp_path, k=size)
    from_disk = fit(
        rows(),
        start,
        tmp_path / "a",
        settings,
        config=ObjectiveConfig("forward_kl", teacher_cache=of),
    )
    live = fit(
        rows(),
        start,
        tmp_path / "b",
        settings,
        config=ObjectiveConfig("forward_kl", teacher=tmp_path / "teacher", max_new_tokens=8),
    )
    assert from_disk.losses == pytest.approx(live.losses, rel=2e-3)
    assert from_disk.key != live.key


@pytest.mark.slow
def test_a_teachers_padded_head_gives_no_entry_that_a_student_lacks(tmp_path):
    """Sizes of one family pad their heads to different widths; what no tokenizer knows is not stored."""
    start = make_checkpoint(tmp_path / "student")
    model = AutoModelForCausalLM.from_pretrained(
        make_checkpoint(tmp_path / "teacher", seed=1), dtype=torch.float32
    )
    tokens = model.config.vocab_size
    model.resize_token_embeddings(tokens + 64, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[tokens:] = (
            50 * model.get_output_embeddings().weight[:64]
        )
    model.save_pretrained(tmp_path / "teacher")
    folder = stored_by(tmp_path / "teacher", tmp_path / "teacher_cache")
    most = max(
        int(t.max())
        for n, t in load_file(folder / "teacher_cache-00000.safetensors").items()
        if n.endswith("ids")
    )
    assert most < tokens
    done = fit(
        rows(),
        start,
        tmp_path / "out",
        TrainingSettings(max_steps=1),
        config=ObjectiveConfig("forward_kl", teacher_cache=folder),
    )
    assert done.rows == 8


def stored_by(teacher, folder):
    cached_logits.write(folder, teacher, tokenized(rows(), teacher), k=16, device="cpu")
    return folder
