// Two arms of the same task: the paired difference, the flips, the texts side by side.
(function (P) {
  "use strict";
  const { html, useEffect, useState } = htmPreact;
  const { link, setQuery, queryText } = P.route;
  const { count, NONE } = P.format;

  function ComparePage({ query, run }) {
    const runs = P.useData("runs", false);
    const [a, b] = [query.a && query.a[0], query.b && query.b[0]];
    const path = a && b ? "compare?" + queryText({ a, b, sort: query.sort, after: query.after, "f.direction": query["f.direction"], "f.flip": query["f.flip"] }) : null;
    const state = P.useData(path, false);
    return html`<div><h1>Compare</h1>
      <${P.Loaded} state=${runs}>${(data) => html`<${Choice} runs=${data.runs} run=${run} a=${a} b=${b} />`}<//>
      ${path && (state.error && state.error.status === 409 ? html`<${Refused} said=${state.error.body} />` : html`<${P.Loaded} state=${state}>${(data) => html`<${Compared} data=${data} query=${query} />`}<//>`)}</div>`;
  }

  function Choice({ runs, run, a, b }) {
    // Only what was measured can be compared; the untrained student is no arm of a recipe, and was measured all the same.
    const arms = runs.filter((one) => one.measured && (!run || one.run === run)).flatMap((one) => one.measured.map((arm) => [one.run + ":" + arm, run ? arm : one.name + ": " + arm]));
    // Of one run, the best arm beside the untrained student, which is measured first, is a start.
    useEffect(() => {
      const own = runs.find((one) => one.run === run);
      if (run && own && own.best && !a && arms.length > 1) setQuery({ a: run + ":" + own.best.arm, b: (arms.find(([name]) => name !== run + ":" + own.best.arm) || [])[0] }, true);
    }, [run]);
    const select = (name, value, label) => html`<label>${label} <select value=${value || ""} onChange=${(event) => setQuery({ [name]: event.target.value, after: "" })}><option value="">choose</option>
      ${arms.map(([key, text]) => html`<option value=${key}>${P.visible(text)}</option>`)}</select></label>`;
    return html`<div class="row">${select("a", a, "arm")}<span class="soft">against</span>${select("b", b, "base")}<button type="button" onClick=${() => setQuery({ a: b, b: a, after: "" })} disabled=${!a || !b}>swap</button></div>`;
  }

  function Refused({ said }) {
    return html`<div class="notice bad" role="alert"><p>These two can't be compared: ${P.visible(said.found || "their tasks differ")}</p>${said.expected && html`<p>${P.visible(said.expected)}</p>`}${said.fix && html`<p>${P.visible(said.fix)}</p>`}</div>
      ${said.differs && said.differs.length > 0 && html`<div class="card"><${P.SortedTable} caption="What differs" rows=${said.differs} columns=${[
        { key: "name", head: "field", cell: (row) => P.visible(row.name) }, { key: "a", head: "arm", cell: (row) => html`<span class="mono">${P.visible(row.a ?? NONE)}</span>` }, { key: "b", head: "base", cell: (row) => html`<span class="mono">${P.visible(row.b ?? NONE)}</span>` },
      ]} /></div>`}`;
  }

  function Compared({ data, query }) {
    P.useRowKeys();
    const { comparison, table } = data;
    const spread = Math.max(Math.abs(comparison.low), Math.abs(comparison.high), 0.02) * 1.1;
    return html`<section class="card"><h2>${P.visible(comparison.sentence)}</h2><p class="soft">${P.visible(comparison.counts_sentence || "")}</p>
        <p class="row"><b>${P.visible(comparison.shown)}</b> points</p><${P.Whisker} value=${comparison.difference} low=${comparison.low} high=${comparison.high} from=${-spread} to=${spread} tone=${comparison.low > 0 ? "better" : comparison.high < 0 ? "worse" : "plain"} />
        <div class="scroll narrow" tabindex="0" role="region" aria-label="Solved by"><table><caption class="soft small">${P.visible(table.rule)}</caption><thead><tr><td></td><th scope="col" class="number">${P.visible(data.b.arm)} solves</th><th scope="col" class="number">${P.visible(data.b.arm)} does not</th></tr></thead>
          <tbody><tr><th scope="row">${P.visible(data.a.arm)} solves</th><td class="number">${count(table.both)}</td><td class="number">${count(table.only_a)}</td></tr>
          <tr><th scope="row">${P.visible(data.a.arm)} does not</th><td class="number">${count(table.only_b)}</td><td class="number">${count(table.neither)}</td></tr></tbody></table></div></section>
      <section class="card"><div class="row"><h2>What changed</h2><span class="soft small" aria-live="polite">${count(data.count)} problems</span>
        ${["gained", "lost"].map((way) => html`<button type="button" aria-pressed=${(query["f.direction"] || [])[0] === way} onClick=${() => setQuery({ "f.direction": (query["f.direction"] || [])[0] === way ? "" : way, after: "" })}>${way}</button>`)}
        <button type="button" aria-pressed=${!!query["f.flip"]} onClick=${() => setQuery({ "f.flip": query["f.flip"] ? "" : "yes", after: "" })}>flips only</button></div>
        ${data.flips.map((flip) => html`<${Flip} key=${flip.problem} flip=${flip} data=${data} />`)}
        ${data.next && html`<button type="button" onClick=${() => setQuery({ after: data.next })}>More</button>`}</section>
      ${data.recipe.length > 0 && html`<section class="card"><h2>What differs in the recipe</h2><ul>${data.recipe.map((line) => html`<li class="mono">${P.visible(line)}</li>`)}</ul></section>`}`;
  }

  function Flip({ flip, data }) {
    const [isOpen, setOpen] = useState(false);
    return html`<details class="flip" onToggle=${(event) => setOpen(event.target.open)}><summary data-row=""><span class=${flip.change > 0 ? "better" : "worse"}>${P.format.points(flip.change)}</span> <${P.AnswerCell} cell=${flip.a} /> <span class="soft">from</span> <${P.AnswerCell} cell=${flip.b} />
      <span class="small oneline">${P.visible(flip.question)}</span></summary>${isOpen && html`<${SideBySide} flip=${flip} data=${data} />`}</details>`;
  }

  // The first answer of each that tells: a right one of the better arm, a wrong one of the other.
  function SideBySide({ flip, data }) {
    const path = (side) => P.runPath(side.run) + "/problem/" + encodeURIComponent(flip.problem);
    const [one, other] = [P.useData(path(data.a), false), P.useData(path(data.b), false)];
    if (one.error || other.error) return html`<${P.Failure} error=${one.error || other.error} />`;
    if (!one.data || !other.data) return html`<p class="soft" aria-busy="true">Reading\u2026</p>`;
    const a = pick(one.data, data.a.arm, flip.change > 0 ? "right" : "wrong");
    const b = pick(other.data, data.b.arm, flip.change > 0 ? "wrong" : "right");
    return html`<p class="small">${P.visible(flip.question)} <span class="soft">gold</span> <b>${P.visible(flip.gold)}</b></p><div class="sides">${[[data.b, b], [data.a, a]].map(([side, answer]) => html`<article class="passage">
        <header><h3>${P.visible(side.arm)}</h3>${answer && html`<${P.Verdict} status=${answer.status} /><a class="small" href=${link(["run", side.run, "trace", answer.id], { arm: answer.ledger })}>open</a>`}</header>
        ${answer ? html`<${P.MarkedText} text=${answer.text} marks=${P.layers.stepMarks(answer.steps || [])} wanted=${null} label=${side.arm} />` : html`<p class="soft">Its answers were not kept.</p>`}</article>`)}</div>
      ${a && b && html`<h3>${P.visible(data.a.arm)} beside ${P.visible(data.b.arm)}</h3><${P.Difference} before=${b.text} now=${a.text} />`}`;
  }

  function pick(problem, arm, status) {
    const column = problem.columns.find((one) => one.arm === arm || one.label === arm);
    if (!column) return null;
    const traces = column.answers.flatMap((group) => group.traces.map((trace) => ({ ...trace, ledger: column.ledger })));
    return traces.find((trace) => trace.status === status) || traces[0] || null;
  }

  P.ComparePage = ComparePage;
  P.pages.compare = ComparePage;
})((window.potstill = window.potstill || {}));
