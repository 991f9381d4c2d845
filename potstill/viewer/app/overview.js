// Overview: what came out, how sure it is, where the traces went.
(function (P) {
  "use strict";
  const { html } = htmPreact;
  const { link, setQuery } = P.route;
  const { count, NONE } = P.format;

  function OverviewPage({ run, query }) {
    const base = query.base && query.base[0];
    const state = P.useData(P.runPath(run) + (base ? "?base=" + encodeURIComponent(base) : ""));
    return html`<h1>${P.visible((state.data && (state.data.title || state.data.name)) || run)}</h1><${P.Loaded} state=${state}>${(data) => html`
      ${data.note && html`<p class="soft">${P.visible(data.note)}</p>`}
      ${data.state.message && html`<div class="notice bad"><p>${P.visible(data.state.message)}</p></div>`}
      <ul class="facts">
        <li><b>${count(data.counts.traces)}</b> traces</li><li><b>${count(data.counts.rows)}</b> rows for training</li>
        <li><b>${count(data.counts.drops)}</b> dropped</li><li><b>${count(data.counts.completions)}</b> calls</li><li>seed <b>${data.seed ?? NONE}</b></li>
      </ul>
      <${Standings} data=${data} />
      <${Arms} run=${run} data=${data} />
      ${Object.keys(data.funnels).length > 0 && html`<h2>Where the traces went</h2>`}
      ${Object.entries(data.funnels).map(([arm, funnel], i) => html`<${Funnel} run=${run} arm=${arm} funnel=${funnel} isOpen=${i === 0} />`)}
      ${Object.entries(data.sections || {}).map(([arm, sections]) => sections.map((section) => html`<${Shares} arm=${arm} section=${section} />`))}
      <${Setup} data=${data} />`}<//>`;
  }

  function Standings({ data }) {
    const said = data.standings.length ? data.standings : ["Nothing has been measured yet."];
    return html`<section class="card" aria-labelledby="came-out"><h2 id="came-out">What came out</h2>
      ${said.map((sentence) => html`<p>${P.visible(sentence)}</p>`)}
      ${data.quality.map((sentence) => html`<div class="notice"><p>${P.visible(sentence)}</p></div>`)}
      ${data.notes.map((sentence) => html`<p class="soft small">${P.visible(sentence)}</p>`)}
    </section>`;
  }

  function Arms({ run, data }) {
    const { arms } = data;
    const low = Math.min(0, ...arms.map((arm) => (arm.difference ? arm.difference.low : 0)));
    const high = Math.max(0, ...arms.map((arm) => (arm.difference ? arm.difference.high : 0)));
    const pad = 0.05 * (high - low) || 0.05;
    const others = data.columns.filter((column) => !column.startsWith("vs ") && column !== "arm" && column !== "rows" && column !== "verdict");
    const shown = (name) => ({ key: name, head: name, number: true, cell: (arm) => shownCell(run, arm, name) });
    const columns = [
      { key: "arm", head: "arm", value: (arm) => arm.arm, cell: (arm) => armCell(run, arm) },
      { key: "rows", head: "rows", number: true, value: (arm) => arm.rows, cell: (arm) => (arm.rows ? html`<a href=${tracesLink(run, arm.rows_query)}>${count(arm.rows)}</a>` : NONE) },
      ...others.slice(0, 1).map(shown),
      { key: "difference", head: "vs " + (data.base || NONE), value: (arm) => arm.difference && arm.difference.difference, number: true,
        cell: (arm) => (arm.difference ? P.visible(arm.difference.shown) : html`<span title=${arm.no_difference}>${NONE}</span>`) },
      { key: "whiskers", head: "95 % interval", cell: (arm) => arm.difference && html`<${P.Whisker} value=${arm.difference.difference} low=${arm.difference.low}
          high=${arm.difference.high} from=${low - pad} to=${high + pad} tone=${tone(arm.difference)} />` },
      ...others.slice(1).map(shown),
    ];
    return html`<section class="card" aria-labelledby="arms"><div class="row"><h2 id="arms">Arms</h2>
      ${data.bases.length > 1 && html`<label class="small soft">compared with <select value=${data.base} onChange=${(event) => setQuery({ base: event.target.value })}>
        ${data.bases.map((name) => html`<option value=${name}>${P.visible(name)}</option>`)}</select></label>`}</div>
      <${P.SortedTable} caption="Measures of the arms" rows=${arms} columns=${columns} />
      ${arms.filter((arm) => arm.difference).map((arm) => html`<p class="small soft">${P.visible([arm.difference.sentence, arm.difference.counts_sentence].filter(Boolean).join(". "))}.</p>`)}
    </section>`;
  }

  function armCell(run, arm) {
    const doing = arm.is_measured ? "" : arm.is_trained ? "trained, not measured" : arm.is_finished ? "" : "not finished";
    return html`${P.visible(arm.arm)}${arm.method && arm.method !== arm.arm && html`<span class="soft small"> ${P.visible(arm.method)}</span>`}
      ${doing && html`<br /><span class="soft small">${doing}</span>`}`;
  }

  function shownCell(run, arm, name) {
    const shown = arm.shown && arm.shown[name];
    if (!shown) return NONE;
    return name.startsWith("avg") && arm.answers_query ? html`<a href=${tracesLink(run, arm.answers_query)}>${P.visible(shown)}</a>` : P.visible(shown);
  }

  function tone(difference) {
    if (!difference.distinguishable) return "plain";
    return difference.difference > 0 ? "better" : "worse";
  }

  function tracesLink(run, query) {
    return link(["run", run, "traces"], { q: query });
  }

  // The way of the traces through an arm: each operator, what it took and returned, why it dropped.
  function Funnel({ run, arm, funnel, isOpen }) {
    const most = Math.max(1, ...funnel.steps.map((step) => Math.max(step.taken, step.returned)));
    const share = (part) => (100 * part) / most;
    const last = funnel.steps[funnel.steps.length - 1];
    return html`<details class="card" open=${isOpen}><summary>${P.visible(arm)} <span class="soft">${count(last && last.returned)} rows, ${count(funnel.dropped)} texts dropped on the way</span></summary>
      <div class="funnel">${funnel.steps.map((step) => html`
        <span title=${step.gloss}>${P.visible(step.operator)} <span class="soft">${P.visible(step.label)}${step.times > 1 ? " \u00d7" + step.times : ""}</span></span>
        <svg class="flow" viewBox="0 0 100 10" preserveAspectRatio="none" width="100%" aria-hidden="true">
          <rect y="2" width=${share(step.taken)} height="6" fill="var(--track)" /><rect class="fill" y="2" width=${share(step.returned)} height="6" /></svg>
        <span class="number">${count(step.taken)} \u2192 ${count(step.returned)}</span>
        <span class="number">${droppedCell(run, step)}</span>
        <span class="number soft ended">${step.ended != null && html`<time title=${"ended " + P.format.date(step.ended)}>${P.format.clock(step.ended)}</time>`}</span>`)}</div>
      ${funnel.reasons.length > 0 && html`<h3>Why</h3>
        <${P.SortedTable} caption=${"Reasons of " + arm} rows=${funnel.reasons} columns=${[
          { key: "reason", head: "reason", value: (row) => row.reason, cell: (row) => P.visible(row.reason) },
          { key: "test", head: "by", value: (row) => row.operator + row.test, cell: (row) => P.visible(row.operator + " " + row.test) },
          { key: "count", head: "dropped", number: true, value: (row) => row.count, cell: (row) => (row.query ? html`<a href=${tracesLink(run, row.query)}>${count(row.count)}</a>` : count(row.count)) },
        ]} />`}
    </details>`;
  }

  // What a step dropped, as the list of it; some steps choose without a word of each text that they leave.
  function droppedCell(run, step) {
    if (!step.query) return step.dropped > 0 ? html`<span class="soft">${count(step.dropped)} fewer</span>` : "";
    if (!step.traces) return "";
    const [word, title] = step.operator === "train" ? ["rows", "the rows"] : ["dropped", "the traces that were dropped here"];
    return html`<a href=${tracesLink(run, step.query)} title=${title}>${count(step.traces)} ${word}</a>`;
  }

  function Shares({ arm, section }) {
    return html`<section class="card"><h2>${P.visible(arm)}: ${P.visible(section.title)}</h2><p class="soft small">${P.visible(section.hint)}</p>
      <dl>${section.shares.map((share) => html`<dt>${P.visible(share.label)}</dt><dd>${share.part} of ${share.whole} <${P.Bar} share=${share.whole ? share.part / share.whole : 0} /></dd>`)}</dl></section>`;
  }

  function Setup({ data }) {
    return html`<section class="card" aria-labelledby="setup"><h2 id="setup">How it was made</h2>
      <dl>${data.manifest && html`<dt>potstill</dt><dd>${P.visible(data.manifest.potstill)}</dd>`}
        ${Object.entries(data.models || {}).map(([role, model]) => html`<dt>${P.visible(role)}</dt><dd class="mono">${P.visible(model)}</dd>`)}
        ${(data.prompts || []).map((prompt) => html`<dt>prompt</dt><dd class="mono">${P.visible(prompt)}</dd>`)}</dl>
      ${Object.entries(data.fingerprints || {}).map(([arm, print]) => html`<details><summary>${P.visible(arm)} <span class="mono soft">${P.visible(print.task_id)}</span></summary>
        <dl>${Object.entries({ ...print.task, ...print.run }).map(([name, value]) => html`<dt>${P.visible(name)}</dt><dd class="mono">${P.visible(plain(value))}</dd>`)}</dl></details>`)}
      ${data.manifest && html`<details><summary>Manifest</summary><pre class="text" tabindex="0">${P.visible(JSON.stringify(data.manifest, null, 2))}</pre></details>`}</section>`;
  }

  function plain(value) {
    return typeof value === "string" ? value : JSON.stringify(value);
  }

  P.pages[""] = OverviewPage;
  P.tracesLink = tracesLink;
})((window.potstill = window.potstill || {}));
