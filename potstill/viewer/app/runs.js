// Runs: what there is, how it stands, which are compared.
(function (P) {
  "use strict";
  const { html, useState } = htmPreact;
  const { link } = P.route;
  const { ago, count, money, NONE } = P.format;

  function RunsPage() {
    const state = P.useData("runs");
    const [ticked, setTicked] = useState([]);
    P.useRowKeys({
      x: { name: "tick the run, for a comparison", run: tickFocused },
      c: { name: "compare the ticked runs", run: () => ticked.length === 2 && compareRuns(state.data.runs, ticked) },
    });
    return html`<h1>Runs</h1><${P.Loaded} state=${state}>${(data) => {
      if (!data.runs.length) return html`<p>No run was found here. A run is a folder with a <span class="mono">manifest.json</span>.</p>`;
      const comparable = data.runs.filter((row) => row.best);
      const tick = (run) => setTicked(ticked.includes(run) ? ticked.filter((one) => one !== run) : [...ticked, run].slice(-2));
      return html`
        ${comparable.length > 1 && html`<p class="row"><button type="button" disabled=${ticked.length !== 2} onClick=${() => compareRuns(data.runs, ticked)}>Compare two runs</button>
          <span class="soft small">${ticked.length === 2 ? "" : "Tick two runs with results."}</span></p>`}
        <div class="card"><${P.SortedTable} caption="Runs" rows=${data.runs} columns=${[
          { key: "run", head: "run", value: (row) => row.name, cell: (row) => nameCell(row, ticked, comparable.length > 1 && tick) },
          { key: "state", head: "state", value: (row) => row.state.status, cell: (row) => html`<${P.State} state=${row.state} />` },
          { key: "arms", head: "arms", cell: (row) => P.visible((row.arms || []).join(", ")) },
          { key: "best", head: "best arm", number: true, value: (row) => row.best && row.best.avg.value, cell: (row) => (row.best ? P.visible(row.best.arm + " " + row.best.shown) : NONE) },
          { key: "traces", head: "traces", number: true, value: (row) => row.traces, cell: (row) => count(row.traces) },
          { key: "cost", head: "cost", number: true, value: (row) => row.cost, cell: (row) => (row.is_counted === false ? html`<span class="soft">being counted</span>` : money(row.cost)) },
          { key: "limits", head: "limits", cell: limitsCell },
          { key: "began", head: "age", number: true, value: (row) => row.began, cell: (row) => html`<span title=${"began " + exactTime(row.began)}>${ago(row.began)}</span>` },
          { key: "changed", head: "changed", number: true, value: (row) => row.changed, cell: (row) => html`<span title=${exactTime(row.changed)}>${ago(row.changed)}</span>` },
        ]} /></div>`;
    }}<//>`;
  }

  function nameCell(row, ticked, tick) {
    return html`<label class="named">${tick && html`<input type="checkbox" checked=${ticked.includes(row.run)} onChange=${() => tick(row.run)} disabled=${!row.best} aria-label=${"Compare " + row.name} />`}
      <span><a data-row="" href=${link(["run", row.run])}>${P.visible(row.name)}</a>${row.title && row.title !== row.name && html`<br /><span class="soft small plainer">${P.visible(row.title)}</span>`}
      ${row.error && html`<br /><span class="worse small">${P.visible(row.error.message)}</span>`}</span></label>`;
  }

  function tickFocused() {
    const row = document.activeElement.closest("tr");
    const box = row && row.querySelector("input[type=checkbox]");
    if (box) box.click();
  }

  function limitsCell(row) {
    if (!row.limits || !row.limits.length) return NONE;
    return row.limits.map((limit) => html`<span class="small">${limit.limit && P.visible(limit.limit) + ": "}${P.visible(limit.shown)}</span><br />`);
  }

  function exactTime(seconds) {
    return seconds ? new Date(1000 * seconds).toLocaleString("sv") : NONE;
  }

  // The best arms of two runs; the page of the comparison changes the arms.
  function compareRuns(runs, ticked) {
    const [a, b] = ticked.map((name) => runs.find((run) => run.run === name));
    P.route.go(["compare"], { a: a.run + ":" + a.best.arm, b: b.run + ":" + b.best.arm });
  }

  P.RunsPage = RunsPage;
})((window.potstill = window.potstill || {}));
