"""`world:oracle`: a program, not a model, that plays the roles which the world's small checkpoints can't.

The contract, for whoever adds a role:

- A role is one file of `roles/` that is named after it and has a `ROLE`. Nothing is registered: the file is found.
- A role is recognised by its prompt alone: `ROLE.pattern` is searched in it. A prompt that two roles recognise gets an
  error and no answer. One that no role recognises goes to the corrector where it shows an attempt, to the programmer
  where it shows a program task, else to the solver.
- A role knows what the prompt shows and nothing else: `ROLE.answer` gets the text of the prompt, the beginning that
  the assistant has already written, and random numbers of this sample. There is no way from there to the problem, its
  gold answer or its solution. What it is not shown it can't use, and what it is shown it believes: a coder carries out
  the plan in its prompt, right or wrong.
- Its answer changes with what it is shown: `tests/fakes/oracle_roles.py` has `assert_answer_depends_on`, which each
  role's test calls with everything that its prompt shows.
- `ROLE.version` goes up whenever its answers change: the oracle's id is made of the versions, and its completions are
  stored under that id.

A role may slip (`Oracle(slip_rate=0.1)`): equal requests with other sample indices then get other answers.
"""

from potstill.world.oracle.program import Oracle as Oracle
