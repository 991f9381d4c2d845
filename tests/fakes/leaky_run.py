"""A run that holds five secrets, all made up, and a folder and a host of who made it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from viewed_run import make_problems, make_run, written

from potstill.records import Verdict, blank
from potstill.store import Store
from potstill.viewer.notes import NotesFile

SECRET_VARIABLE = "MY_VENDOR_API_KEY"
# Put together here, so that nobody takes them for lost ones.
SECRETS = {
    "text": "sk-" + "proj-4fJ8sLq2Xw9Zt7Kb1Vn3",
    "question": "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vW7",
    "reason": "ghp_" + "Zz9Yy8Xx7Ww6Vv5Uu4Tt3Ss2",
    "setting": "hunter2-and-more",
    "environment": "unguessable-words-of-mine",
}


def make_leaky_run(folder: Path) -> Path:
    """A run with a secret in each place where one may stand; one is the value of a variable of the environment."""
    make_run(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["roles"] = {
        "teacher": {"headers": {"authorization": SECRETS["setting"]}},
        "student": f"openai:x?at=http://10.1.2.3:8000/v1&path={folder}/models/mine",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    [problem] = make_problems(1)
    asked = replace(problem, id="p-leak", question=f"What is {SECRETS['question']}?")
    # The list shows 200 characters: one secret is cut there.
    text = f"{'x' * 185} {SECRETS['text']} 😀 and {SECRETS['environment']}, in {folder}."
    leaky = written(asked, "model-student", text).annotate(
        verdict=Verdict("wrong", "1", f"found {SECRETS['reason']}", "story@1")
    )
    with Store.open(folder) as store:
        ledger = store.ledger("leaky")
        ledger.add_traces([blank(asked), leaky])
        ledger.finish()
    NotesFile(folder / "notes.jsonl").add(
        {"trace": leaky.id, "mark": "look", "text": f"leaks {SECRETS['text']}"}
    )
    return folder
