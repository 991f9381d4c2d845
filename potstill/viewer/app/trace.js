// A trace: where it comes from, what it says, what is learnt of it, what became of it.
(function (P) {
  "use strict";
  const { html, useEffect, useState } = htmPreact;
  const { link, setQuery } = P.route;
  const { count, duration, money, number, NONE } = P.format;

  // The layers, in the order of the keys 1 to 7. Those that are `alone` replace the marks.
  const LAYERS = [
    { name: "steps", label: "steps", hint: "steps that were judged, right or wrong" },
    { name: "learnt", label: "learnt", hint: "the weight of each token in training" },
    { name: "surprise", label: "surprise", hint: "how little the student expected each token" },
    { name: "difference", label: "difference", hint: "what differs from an ancestor", isAlone: true },
    { name: "overlap", label: "overlap", hint: "words in a row that an ancestor has too" },
    { name: "math", label: "math", hint: "formulas as they are set", isAlone: true },
    { name: "spaces", label: "spaces", hint: "blanks, tabs and line ends" },
  ];

  function TracePage({ run, id, query }) {
    const arm = query.arm && query.arm[0];
    const state = P.useData(P.runPath(run) + "/trace/" + encodeURIComponent(id) + (arm ? "?arm=" + encodeURIComponent(arm) : ""), false);
    return html`<${P.Loaded} state=${state}>${(trace) => html`<${Trace} key=${trace.id + trace.arm} run=${run} trace=${trace} query=${query} />`}<//>`;
  }

  function Trace({ run, trace, query }) {
    const layers = query.layers ? query.layers[0].split(",").filter(Boolean) : ["steps"];
    const toggle = (layer) => {
      const on = layers.includes(layer.name) ? layers.filter((name) => name !== layer.name) : [...layers.filter((name) => !isAlone(name) && !layer.isAlone), layer.name];
      setQuery({ layers: on.length ? on.join() : "none" }, true);
    };
    const wrong = trace.steps.filter((step) => !step.is_right);
    const [jump, setJump] = useState(-1);
    const next = (by) => wrong.length && setJump((old) => (old + by + wrong.length) % wrong.length);
    const draws = trace.siblings.prompt;
    const here = draws.findIndex((draw) => draw.is_this);
    const goTo = (member) => member && P.route.go(["run", run, "trace", member.id], { arm: trace.arm, layers: query.layers, q: query.q });
    const keys = {
      n: { name: "next wrong step", run: () => next(1) },
      N: { name: "previous wrong step", run: () => next(-1) },
      "[": { name: "previous draw", run: () => goTo(draws[here - 1]) },
      "]": { name: "next draw", run: () => goTo(draws[here + 1]) },
      p: { name: "parent", run: () => trace.parents.length && goTo(trace.members[trace.parents[0]] || { id: trace.parents[0] }) },
      y: { name: "copy a link to this page", run: () => navigator.clipboard.writeText(location.href) },
    };
    LAYERS.forEach((layer, i) => (keys[i + 1] = { name: "layer: " + layer.label, run: () => toggle(layer) }));
    P.useKeys(keys);
    return html`
      <${Head} run=${run} trace=${trace} query=${query} />
      <${Siblings} run=${run} trace=${trace} query=${query} />
      <${Descent} run=${run} trace=${trace} query=${query} />
      <section class="card" aria-labelledby="the-text"><div class="row"><h2 id="the-text">The text</h2>
        <div class="row" role="group" aria-label="Layers">${LAYERS.map((layer, i) => html`<button type="button" title=${layer.hint + " (" + (i + 1) + ")"} aria-pressed=${layers.includes(layer.name)}
          onClick=${() => toggle(layer)}>${layer.label}</button>`)}</div><${P.Copy} text=${trace.text} label="copy the text" /></div>
        <p class="small soft" aria-live="polite">${stepsSentence(trace, wrong, jump)}</p>
        <${LayeredText} run=${run} trace=${trace} query=${query} layers=${layers} wanted=${jump >= 0 && wrong[jump] ? wrong[jump].start : null} />
      </section>
      <${Prompts} trace=${trace} />
      <${Became} run=${run} trace=${trace} />
      <${P.Notes} run=${run} trace=${trace} />`;
  }

  function isAlone(name) {
    return LAYERS.some((layer) => layer.name === name && layer.isAlone);
  }

  function stepsSentence(trace, wrong, jump) {
    if (!trace.steps.length) return "No step of this text was judged.";
    const all = `${trace.steps.length - wrong.length} of ${trace.steps.length} steps are right.`;
    return jump >= 0 && wrong.length ? `${all} Wrong step ${jump + 1} of ${wrong.length}.` : all + (wrong.length ? " n goes to the next wrong one." : "");
  }

  function Head({ run, trace, query }) {
    const { problem, author, verdict } = trace;
    return html`<h1><span class="soft">${P.visible(trace.operator)} \u00b7</span> <span class="mono">${trace.id}</span> <${P.Copy} text=${trace.id} label="copy id" /></h1>
      <p class="row"><${P.Verdict} status=${trace.status} />
        ${verdict && html`<span>answer <b>${P.visible(verdict.answer ?? NONE)}</b>${verdict.reason && html`<span class="soft"> \u2013 ${P.visible(verdict.reason)}</span>`}</span>`}
        <span class="soft">gold</span> <b>${P.visible(problem.answer ?? NONE)}</b>
        ${trace.arms.length > 1
          ? html`<label class="soft small">as in <select value=${trace.arm} onChange=${(event) => setQuery({ arm: event.target.value })}>${trace.arms.map((one) => html`<option value=${one.arm}>${P.visible(one.arm)}</option>`)}</select></label>`
          : html`<${P.Badge} kind="name">${P.visible(trace.arm)}<//>`}</p>
      <ul class="facts">
        <li>by <b>${P.visible((author && author.role) || NONE)}</b></li>
        <li><b>${count(trace.tokens && trace.tokens.completion)}</b> tokens</li>
        <li>ended by <b>${P.visible(trace.finish || NONE)}</b></li>
        <li>draw <b>${author ? author.draw : NONE}</b></li>
        ${trace.created != null && html`<li>written <b><time>${P.format.date(trace.created)}</time></b></li>`}
        ${trace.seconds != null && html`<li><b>${duration(trace.seconds)}</b></li>`}
        ${trace.cost != null && html`<li><b>${money(trace.cost)}</b></li>`}
        ${verdict && verdict.verifier && html`<li>judged by <b>${P.visible(verdict.verifier)}</b>${trace.judged != null && html`, <time>${P.format.date(trace.judged)}</time>`}</li>`}
        ${Object.entries(trace.scores || {}).map(([name, value]) => html`<li>${P.visible(name)} <b>${number(value)}</b></li>`)}
        ${trace.saw_gold && html`<li><b>its writer saw the gold answer</b></li>`}
      </ul>
      ${trace.error && html`<div class="notice bad"><p>${P.visible(trace.error)}</p></div>`}
      <div class="card"><div class="row"><h2>Question</h2><a class="small" href=${link(["run", run, "problem", problem.id])}>all answers to it</a></div>
        <pre class="text" tabindex="0">${P.text.nodes(problem.question, P.text.findHits(problem.question, query.q && query.q[0]))}</pre></div>`;
  }

  function Siblings({ run, trace, query }) {
    const groups = [["Draws of this prompt", trace.siblings.prompt], ["Of this problem", trace.siblings.problem]].filter(([, draws]) => draws.length > 1);
    return groups.map(([label, draws]) => html`<nav class="row small" aria-label=${label}><span class="soft">${label}</span><span class="pips">${draws.map((draw, i) => html`<a
      class=${"pip " + (draw.status || "")} aria-current=${draw.is_this ? "true" : undefined} href=${link(["run", run, "trace", draw.id], { arm: trace.arm, layers: query.layers })}
      title=${"draw " + draw.draw + ": " + draw.status}>${{ right: "\u2713", wrong: "\u2717" }[draw.status] || i + 1}<span class="hidden"> draw ${draw.draw} ${draw.status}</span></a>`)}</span></nav>`);
  }

  // Left to right: error, teacher, rewrite, and what the student trained on it answers.
  function Descent({ run, trace, query }) {
    // The bare problem stands above, as the question.
    const entries = trace.lineage.flat().filter((entry) => entry.part !== "blank");
    if (entries.length < 2 && !trace.answers.length) return null;
    return html`<section aria-labelledby="descent"><h2 id="descent">Where it comes from, and what it taught</h2><div class="descent" tabindex="0" role="group" aria-label="Descent">
      ${entries.map((entry) => html`<${Passage} run=${run} trace=${trace} query=${query} member=${trace.members[entry.id]} title=${entry.title} isHere=${entry.id === trace.id} />`)}
      ${trace.answers.map((answer) => html`<${Passage} run=${run} trace=${trace} query=${query} member=${trace.members[answer.id]} arm=${answer.arm}
        title=${answer.title} hint=${answer.why}
        question=${answer.relation === "own" ? "" : answer.question} />`)}
    </div>${trace.is_lineage_cut && html`<p class="small soft">There are older ancestors; the page of the oldest one here shows them.</p>`}</section>`;
  }

  function Passage({ run, trace, member, title, hint, question, isHere, query, arm }) {
    if (!member) return null;
    const marks = P.layers.stepMarks(member.steps || []);
    return html`<article class=${"passage" + (isHere ? " here" : "")}><header><h3>${isHere ? P.visible(title) : html`<a href=${link(["run", run, "trace", member.id], { arm: arm || trace.arm, layers: query.layers })}>${P.visible(title)}</a>`}</h3>
      <${P.Verdict} status=${member.status} />${member.answer != null && html`<span class="small soft">answer ${P.visible(member.answer)}</span>`}</header>
      ${hint && html`<p class="small soft">${P.visible(hint)}</p>`}
      ${question && html`<p class="small">${P.visible(question)}</p>`}
      <div class="fold"><${P.MarkedText} text=${member.text} marks=${marks} wanted=${null} label=${title} /></div>
      ${member.is_cut && html`<p class="small soft">${count(member.length)} characters in all</p>`}</article>`;
  }

  // --- The text under its layers ---

  function LayeredText({ run, trace, query, layers, wanted }) {
    const has = (name) => layers.includes(name);
    const path = P.runPath(run) + "/trace/" + encodeURIComponent(trace.id);
    const arm = "?arm=" + encodeURIComponent(trace.arm);
    const needsTokens = has("learnt") || has("surprise");
    const [student, setStudent] = useState("");
    const tokens = P.useData(needsTokens ? path + "/tokens" + arm + (student ? "&student=" + encodeURIComponent(student) : "") : null, false);
    const overlap = P.useData(has("overlap") ? path + "/overlap" + arm : null, false);
    if (has("difference")) return html`<${AgainstAncestor} trace=${trace} />`;
    if (has("math")) return html`<${P.MathText} text=${trace.text} />`;
    if (needsTokens) {
      return html`<${P.Loaded} state=${tokens}>${(data) => data.is_available
        ? html`<${P.TokenText} trace=${trace} tokens=${data} layers=${layers} wanted=${wanted} setStudent=${setStudent} query=${query} />`
        : html`<div class="notice"><p>${P.visible(sentence(data.message))}</p>${data.fix && html`<p>To have it: ${P.visible(data.fix)}.</p>`}</div><${PlainText} trace=${trace} query=${query} layers=${layers} overlap=${overlap} wanted=${wanted} />`}<//>`;
    }
    return html`<${PlainText} trace=${trace} query=${query} layers=${layers} overlap=${overlap} wanted=${wanted} />`;
  }

  // What the server says, with a capital and a stop.
  function sentence(text) {
    return text.charAt(0).toUpperCase() + text.slice(1) + ".";
  }

  function PlainText({ trace, query, layers, overlap, wanted }) {
    const marks = [];
    if (layers.includes("steps")) marks.push(...P.layers.stepMarks(trace.steps));
    if (layers.includes("overlap") && overlap.data) marks.push(...P.layers.overlapMarks(overlap.data.runs));
    const hits = query.q ? P.layers.hitMarks(trace.text, query.q[0]) : [];
    marks.push(...hits);
    // Who comes from a search sees what was sought, until a step is asked for.
    const shown = wanted === null && hits.length ? hits[0].start : wanted;
    if (trace.thought) marks.push({ ...trace.thought, kind: "thought-text", title: "a thought" });
    return html`${trace.thought && html`<p class="small soft">A thought of ${count(trace.thought.stop - trace.thought.start)} characters stands before the answer.</p>`}
      <${P.MarkedText} text=${trace.text} marks=${marks} showSpaces=${layers.includes("spaces")} wanted=${shown} label="The text" />
      ${overlap.data && overlap.data.runs.length > 0 && html`<p class="small soft">Underlined: words that stand in a row in a text that this one was made from.</p>`}
      ${overlap.data && !overlap.data.runs.length && html`<p class="small soft">No three words in a row stand in a text that this one was made from.</p>`}`;
  }

  function AgainstAncestor({ trace }) {
    const ancestors = trace.lineage.flat().filter((entry) => entry.part !== "blank" && entry.id !== trace.id && trace.members[entry.id]);
    const [chosen, setChosen] = useState(ancestors.length ? ancestors[ancestors.length - 1].id : "");
    if (!ancestors.length) return html`<p class="soft">This text has no ancestor.</p>`;
    return html`<label class="small soft">beside <select value=${chosen} onChange=${(event) => setChosen(event.target.value)}>
      ${ancestors.map((entry) => html`<option value=${entry.id}>${entry.title} ${entry.id.slice(0, 14)}</option>`)}</select></label>
      <${P.Difference} before=${trace.members[chosen].text} now=${trace.text} />`;
  }

  // --- Prompts, and what became of it ---

  function Prompts({ trace }) {
    const { learner, writer, no_writer } = trace.prompt;
    return html`<section class="card"><h2>Prompts</h2>
      <details><summary>As the learner sees it</summary><${Messages} messages=${learner} /></details>
      ${writer
        ? html`<details><summary>As the writer was shown it</summary><${Messages} messages=${writer.messages} />${writer.prefix && html`<p class="small soft">It went on after</p><pre class="text" tabindex="0">${P.text.nodes(writer.prefix)}</pre>`}
            <dl>${Object.entries(writer.settings || {}).map(([name, value]) => html`<dt>${P.visible(name)}</dt><dd class="mono">${P.visible(JSON.stringify(value))}</dd>`)}</dl></details>`
        : html`<p class="small soft">${P.visible(no_writer)}</p>`}</section>`;
  }

  function Messages({ messages }) {
    return messages.map((message) => html`<article class="passage"><header><${P.Badge}>${P.visible(message.role)}<//><${P.Copy} text=${message.content} label="copy" /></header><pre class="text" tabindex="0">${P.text.nodes(message.content)}</pre></article>`);
  }

  function Became({ run, trace }) {
    const { drops, rows, children } = trace;
    return html`<section class="card"><h2>What became of it</h2>
      ${rows.map((row) => html`<p>Row ${row.position + 1} of ${row.of} for ${P.visible(row.arm)}${trace.weight !== 1 ? `, with weight ${number(trace.weight)}` : ""}.</p>`)}
      ${drops.map((drop) => html`<p>Dropped by ${P.visible(drop.operator)} ${P.visible(drop.test)}: ${P.visible(drop.reason)}.</p>`)}
      ${!rows.length && !drops.length && html`<p class="soft">It is no row, and no operator wrote down why.</p>`}
      ${children.length > 0 && html`<p>It became ${children.map((child) => html`<a class="mono" href=${link(["run", run, "trace", child.id], { arm: trace.arm })}>${P.visible(child.operator)} ${child.id.slice(0, 14)}</a> `)}</p>`}
      ${trace.rejected && html`<h3>The text that the pair rejects</h3><${P.MarkedText} text=${trace.rejected.text} marks=${P.layers.stepMarks(trace.rejected.steps || [])} wanted=${null} label="Rejected" />`}</section>`;
  }

  P.pages.trace = TracePage;
  P.Messages = Messages;
})((window.potstill = window.potstill || {}));
