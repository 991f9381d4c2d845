// Problems: which arm solves which, and all the answers to one of them.
(function (P) {
  "use strict";
  const { html, useRef } = htmPreact;
  const { link, setQuery, queryText } = P.route;
  const { count, number, NONE } = P.format;

  function ProblemsPage({ run, query }) {
    const asked = queryText({ set: query.set, q: query.q, sort: query.sort, order: query.order, ...facetsOf(query) });
    const base = P.runPath(run) + "/problems?" + asked;
    const { state, latest, show } = P.useSettled(base + "&limit=100");
    return html`<h1>Problems</h1><${P.Loaded} state=${state}>${(data) => html`
      ${latest.data && isOther(latest.data, data) && html`<${P.NewPill} added=${latest.data.of - data.of} show=${show} />`}
      <div class="row" role="group" aria-label="Set">${data.sets.map((set) => html`<button type="button" aria-pressed=${set.set === data.set} onClick=${() => setQuery({ set: set.set, at: "" })}>
        ${P.visible(set.label)} <span class="small">${count(set.problems)}</span></button>`)}
        <form role="search" class="row" onSubmit=${(event) => event.preventDefault()}><label><span class="hidden">Words of the question</span><input type="search" value=${(query.q || [""])[0]}
          placeholder="words of the question" onChange=${(event) => setQuery({ q: event.target.value, at: "" })} /></label></form></div>
      <p class="soft small" aria-live="polite">${count(data.count)} of ${count(data.of)} problems; right answers of n, from ${data.from === "traces" ? "the traces so far" : data.from}.
        ${data.base && data.columns.length > 1 && ` Lost (\u2193) and gained (\u2191) against ${P.visible(data.base)}: whether at least half of the answers are right.`}</p>
      <div class="withfacets"><${ProblemFacets} data=${data} query=${query} /><${Matrix} run=${run} data=${data} base=${base} query=${query} /></div>`}<//>`;
  }

  // Whether an answer says something else; the run's generation may change without that.
  function isOther(data, shown) {
    const said = ({ of, count, columns, rows }) => JSON.stringify([of, count, columns, rows]);
    return data !== shown && said(data) !== said(shown);
  }

  function facetsOf(query) {
    return Object.fromEntries(Object.entries(query).filter(([name]) => name.startsWith("f.")));
  }

  function ProblemFacets({ data, query }) {
    return html`<${P.Filters}>${data.facets.filter((facet) => facet.values.length).map((facet) => html`<fieldset><legend>${P.visible(facet.label)}</legend>${facet.values.map((value) => html`<label>
      <input type="checkbox" checked=${value.is_chosen} onChange=${() => P.toggleFacet(query, facet.name, value.value)} /><span class="name">${P.visible(value.label)}</span><span class="count">${count(value.count)}</span></label>`)}</fieldset>`)}<//>`;
  }

  function Matrix({ run, data, base, query }) {
    const at = Number((query.at && query.at[0]) ?? -1);
    const sort = query.sort ? query.sort[0] : "spread";
    const order = query.order ? query.order[0] : "desc";
    const chosen = P.useChosen((row) => P.route.go(["run", run, "problem", row.problem]));
    const cursors = useRef({ base, known: [null] }); // the cursor of each page of 100, as far as it was read
    if (cursors.current.base !== base) cursors.current = { base, known: [null] };
    const read = async (page) => {
      const { known } = cursors.current;
      let answer = data;
      for (let next = Math.min(page, known.length - 1); next <= page; next += 1) {
        answer = await P.get(base + "&limit=100" + (known[next] ? "&after=" + encodeURIComponent(known[next]) : ""));
        known[next + 1] = answer.next;
      }
      return answer.rows;
    };
    const head = (name, label, hint) => html`<button type="button" class="plain small" title=${hint} onClick=${() => setQuery({ sort: name, order: sort === name && order === "desc" ? "asc" : "desc", at: "" })}>
      ${label}${sort === name ? (order === "desc" ? " \u2193" : " \u2191") : ""}</button>`;
    const columns = {
      widths: "minmax(11rem, 1fr) 3rem " + data.columns.map(() => "5.4rem").join(" ") + " 3.4rem",
      heads: [head("problem", "problem"), html`<span>gold</span>`, ...data.columns.map((column) => head(column.column, P.visible(column.label))), head("spread", "spread", "the largest difference between two columns")],
    };
    const move = (index, row) => {
      chosen.take(row);
      if (index !== at) setQuery({ at: String(index) }, true);
    };
    const step = (by) => move(Math.max(0, Math.min(data.count - 1, at + by)));
    P.useKeys({
      j: { name: "next", run: () => step(1) },
      k: { name: "previous", run: () => step(-1) },
      Enter: { name: "open", run: () => at >= 0 && chosen.open() },
    });
    if (!data.count) return html`<p class="card">No problem matches.</p>`;
    return html`<div class="scroll matrix" tabindex="0" role="region" aria-label="Problems by arms"><div class="wide" style=${{ minWidth: 19 + 6.1 * data.columns.length + "rem" }}>
      <${P.List} name="problem" label="Problems" total=${data.count} rowHeight=${48} columns=${columns} read=${read} source=${base} at=${at} onMove=${move}
      href=${(row) => link(["run", run, "problem", row.problem])}
      line=${(row) => [
        html`<span role="gridcell" class="lines2 small"><a class="quiet" tabindex="-1" href=${link(["run", run, "problem", row.problem])}>${P.visible(row.question)}</a></span>`,
        html`<span role="gridcell" class="cell">${P.visible(row.gold ?? NONE)}</span>`,
        ...data.columns.map((column) => html`<span role="gridcell" class="cell"><${Cell} cell=${row.cells[column.column]} flip=${flipOf(row, column.column)} base=${data.base} /></span>`),
        html`<span role="gridcell" class="cell number">${number(row.spread)}</span>`,
      ]} /></div></div>`;
  }

  // How often a column solves a problem; with `flip`, that it gained or lost it against the base.
  function Cell({ cell, flip, base }) {
    if (!cell || !cell.n) return NONE;
    const sign = { gained: " \u2191", lost: " \u2193" }[flip] || "";
    return html`<${P.Bar} share=${cell.right / cell.n} label=${cell.right + " of " + cell.n + " right"} /> <span class=${"small " + ({ gained: "better", lost: "worse" }[flip] || "")}
      title=${flip && flip + " against " + base}>${cell.right}/${cell.n}${sign}</span>`;
  }

  function flipOf(row, column) {
    return ["gained", "lost"].find((way) => (row.facets[way] || []).includes(column));
  }

  function ProblemPage({ run, id, query }) {
    const state = P.useData(P.runPath(run) + "/problem/" + encodeURIComponent(id), false);
    const data = state.data || {};
    const go = (other) => other && P.route.go(["run", run, "problem", other]);
    P.useKeys({
      j: { name: "next problem", run: () => go(data.following) },
      k: { name: "previous problem", run: () => go(data.previous) },
    });
    return html`<${P.Loaded} state=${state}>${({ problem, prompt, columns, rows }) => html`
      <h1 class="mono">${P.visible(problem.id)}</h1>
      <div class="card"><h2>Question</h2><pre class="text" tabindex="0">${P.text.nodes(problem.question)}</pre>
        <ul class="facts"><li>gold <b>${P.visible(problem.answer || NONE)}</b></li><li>kind <b>${P.visible(problem.kind)}</b></li><li>source <b>${P.visible(problem.source)}</b></li>
          ${Object.entries(problem.metadata || {}).map(([name, value]) => html`<li>${P.visible(name)} <b>${P.visible(value)}</b></li>`)}</ul>
        ${problem.solution && html`<details><summary>The given solution</summary><pre class="text" tabindex="0">${P.text.nodes(problem.solution)}</pre></details>`}
        <details><summary>The prompt</summary><${P.Messages} messages=${prompt} /></details>
        ${rows.length > 0 && html`<p class="small">Rows for training: ${rows.map((row) => html`<a href=${link(["run", run, "trace", row.id], { arm: row.arm })}>${P.visible(row.arm)} ${row.position + 1}</a> `)}</p>`}</div>
      <div class="sides">${columns.map((column) => html`<section class="card"><h2>${P.visible(column.label)} <span class="soft small">${column.right} of ${column.n} right</span></h2>
        ${column.answers.map((group) => html`<details open=${column.answers.length < 3}><summary>${P.visible(group.answer ?? "no answer read")} <${P.Verdict} status=${group.status} /> <span class="soft">\u00d7 ${group.count}</span></summary>
          ${group.traces.map((trace) => html`<article class="passage"><header><a class="small" href=${link(["run", run, "trace", trace.id], { arm: column.ledger })}>draw ${trace.draw}</a>
            <span class="small soft">${count(trace.tokens)} tokens${trace.first_wrong != null ? `, first wrong step ${trace.first_wrong}` : ""}</span></header>
            <div class="fold"><${P.MarkedText} text=${trace.text} marks=${P.layers.stepMarks(trace.steps || [])} wanted=${null} label=${"Draw " + trace.draw} /></div>
            ${trace.is_cut && html`<p class="small soft">${count(trace.length)} characters in all</p>`}</article>`)}</details>`)}</section>`)}</div>`}<//>`;
  }

  P.pages.problems = ProblemsPage;
  P.pages.problem = ProblemPage;
  P.AnswerCell = Cell;
})((window.potstill = window.potstill || {}));
