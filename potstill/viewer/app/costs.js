// Money and time, and the journal of every call.
(function (P) {
  "use strict";
  const { html, useEffect, useRef, useState } = htmPreact;
  const { link, setQuery, queryText } = P.route;
  const { count, duration, money, NONE } = P.format;
  // What the chart adds up, and which limit of the run is on it.
  const MEASURES = {
    completion_tokens: { label: "tokens written", fields: ["completion_tokens"] },
    tokens: { label: "tokens read and written", fields: ["prompt_tokens", "completion_tokens"], limit: "tokens" },
    cost: { label: "USD", fields: ["cost"], limit: "usd" },
    calls: { label: "calls", fields: ["calls"] },
    seconds: { label: "seconds of models", fields: ["seconds"] },
  };
  const NEAR = 4; // a limit of more than so many times the total would press the bands flat: it is told below
  const TONES = ["--accent", "--second", "--third", "--worse", "--better", "--soft"];

  function CostsPage({ run, query }) {
    const state = P.useData(P.runPath(run) + "/costs");
    return html`<h1>Money and time</h1><${P.Loaded} state=${state}>${(data) => html`
      <ul class="facts"><li><b>${count(data.total.calls)}</b> calls</li><li><b>${count(data.total.tokens)}</b> tokens</li><li><b>${P.visible(data.total.shown)}</b> paid</li>
        <li title="the seconds of all calls added up: calls that run at once count each"><b>${duration(data.total.seconds)}</b> of models</li>
        ${data.total.first != null && html`<li title=${P.format.date(data.total.first) + " to " + P.format.date(data.total.last)}><b>${duration(data.total.last - data.total.first)}</b> from the first call to the last</li>`}</ul>
      <${Limits} limits=${data.limits} />
      ${data.under_way.map((call) => html`<div class="notice"><p>${count(call.calls)} calls of ${P.visible(call.role)} under way: at most ${count(call.tokens)} tokens, ${money(call.cost)}.</p></div>`)}
      <${OverTime} data=${data} query=${query} />
      <section class="card"><h2>Paid, by role</h2><${P.SortedTable} caption="Paid, by role" rows=${data.paid} columns=${[
        { key: "role", head: "role", value: (row) => row.role, cell: (row) => html`${P.visible(row.role)}<br /><span class="mono soft small plainer">${P.visible(row.name)}</span>` },
        { key: "arm", head: "arm", value: (row) => row.arm, cell: (row) => P.visible(row.arm) },
        { key: "completions", head: "calls", number: true, value: (row) => row.completions, cell: (row) => html`<a href=${link(["run", run, "journal"], { arm: row.arm, role: row.role })}>${count(row.completions)}</a>` },
        { key: "errors", head: "failed", number: true, value: (row) => row.errors, cell: (row) => count(row.errors) },
        { key: "prompt_tokens", head: "tokens read", number: true, value: (row) => row.prompt_tokens, cell: (row) => html`${count(row.prompt_tokens)}${row.cached_tokens ? html`<br /><span class="soft small">${count(row.cached_tokens)} cached</span>` : ""}` },
        { key: "completion_tokens", head: "tokens written", number: true, value: (row) => row.completion_tokens, cell: (row) => html`${count(row.completion_tokens)}${row.reasoning_tokens ? html`<br /><span class="soft small">${count(row.reasoning_tokens)} reasoning</span>` : ""}` },
        { key: "seconds", head: "seconds", number: true, value: (row) => row.seconds, cell: (row) => duration(row.seconds) },
        { key: "p50", head: "p50, p95 a call", hint: "half of the calls took at most the first, 95 % at most the second", number: true, value: (row) => row.p95, cell: (row) => `${latency(row.p50)}, ${latency(row.p95)}` },
        { key: "cost", head: "cost", number: true, value: (row) => row.cost, cell: (row) => money(row.cost) },
      ]} /></section>
      ${data.failed.length > 0 && html`<section class="card"><h2>Attempts that failed</h2><${P.SortedTable} caption="Attempts that failed" rows=${data.failed} columns=${[
        { key: "failure", head: "failure", value: (row) => row.failure, cell: (row) => P.visible(row.failure) }, { key: "role", head: "role", cell: (row) => P.visible(row.role) },
        { key: "attempts", head: "attempts", number: true, value: (row) => row.attempts, cell: (row) => count(row.attempts) }, { key: "billed", head: "billed", number: true, cell: (row) => count(row.billed) },
        { key: "tokens", head: "tokens", number: true, cell: (row) => count(row.tokens) }, { key: "cost", head: "cost", number: true, cell: (row) => money(row.cost) },
      ]} /></section>`}`}<//>`;
  }

  function latency(seconds) {
    return seconds < 1 ? Math.round(1000 * seconds) + " ms" : duration(seconds);
  }

  // What the run may spend, and how much of it is gone; calls under way count at their worst.
  function Limits({ limits }) {
    if (!limits.length) return html`<p class="soft small">The run has no limit of money or tokens (--budget).</p>`;
    return html`<section class="card"><h2>Limits</h2><${P.SortedTable} caption="Limits" rows=${limits} columns=${[
      { key: "limit", head: "of", value: (row) => row.limit, cell: (row) => P.visible(row.limit || "the whole run") },
      { key: "share", head: "spent", number: true, value: (row) => row.share, cell: (row) => html`<${P.Bar} share=${row.share} /> ${P.format.percent(row.share, 0)}` },
      { key: "shown", head: "so much", cell: (row) => P.visible(row.shown) },
    ]} /></section>`;
  }

  // Stacked and cumulative, a band a role; the limit of the whole run as a dashed line.
  function OverTime({ data, query }) {
    const element = useRef(null);
    const name = query.of && MEASURES[query.of[0]] ? query.of[0] : "completion_tokens";
    const measure = MEASURES[name];
    const whole = data.limits.find((limit) => limit.limit === "");
    const limit = (measure.limit && whole && whole[measure.limit]) || null;
    const roles = [...new Set(data.series.map((series) => series.role))];
    const layers = cumulate(data, roles, measure.fields);
    const top = layers.length ? layers[layers.length - 1][data.times.length - 1] : 0;
    const isNear = limit !== null && limit <= NEAR * top;
    useEffect(() => {
      if (!data.times.length) return undefined;
      const style = getComputedStyle(document.documentElement);
      const tone = (variable) => style.getPropertyValue(variable).trim();
      const axis = { stroke: tone("--soft"), grid: { stroke: tone("--line"), width: 1 }, ticks: { stroke: tone("--line") }, font: "12px system-ui" };
      const bands = layers.map((_, i) => ({ label: P.visible(roles[i]), stroke: tone(TONES[i % TONES.length]), fill: tone(TONES[i % TONES.length]) + "55", width: 1.5 }));
      const series = [{}, ...bands.reverse()];
      const columns = [data.times, ...[...layers].reverse()];
      if (isNear) {
        series.push({ label: "limit", stroke: tone("--worse"), width: 1.5, dash: [6, 4], points: { show: false } });
        columns.push(data.times.map(() => limit));
      }
      const plot = new uPlot(
        { width: element.current.clientWidth, height: 240, scales: { y: { range: (_, low, high) => [0, high || 1] } }, axes: [axis, { ...axis, size: 70 }], series },
        columns,
        element.current
      );
      const observer = new ResizeObserver(() => plot.setSize({ width: element.current.clientWidth, height: 240 }));
      observer.observe(element.current);
      return () => {
        observer.disconnect();
        plot.destroy();
      };
    }, [data.generation, name]);
    if (!data.times.length) return null;
    return html`<figure class="card" style=${{ margin: "0 0 1rem" }} aria-label=${"Cumulative over time, by role: " + measure.label}><figcaption class="row"><h2>Over time, cumulative</h2>
      <select aria-label="Measure" value=${name} onChange=${(event) => setQuery({ of: event.target.value }, true)}>${Object.entries(MEASURES).map(([key, one]) => html`<option value=${key}>${one.label}</option>`)}</select></figcaption>
      ${limit !== null && html`<p class="small soft">The limit of the run, ${name === "cost" ? money(limit) : count(limit)}, ${isNear ? "is the dashed line." : "is far above what is shown."}</p>`}
      <div ref=${element}></div></figure>`;
  }

  // A line a role, each the sum of its own and of all before it.
  function cumulate(data, roles, fields) {
    const total = data.times.map(() => 0);
    return roles.map((role) => {
      const own = data.series.filter((series) => series.role === role);
      let sum = 0;
      return data.times.map((_, i) => {
        for (const series of own) for (const field of fields) sum += series[field][i];
        total[i] += sum;
        return total[i];
      });
    });
  }

  function JournalPage({ run, id, query }) {
    return id ? html`<${CallPage} run=${run} id=${id} />` : html`<${CallsPage} run=${run} query=${query} />`;
  }

  function CallsPage({ run, query }) {
    const filters = { arm: query.arm, role: query.role, status: query.status, order: query.order };
    const base = P.runPath(run) + "/journal?" + queryText(filters);
    const after = query.after ? "&after=" + encodeURIComponent(query.after[0]) : "";
    P.useRowKeys();
    const { state, latest, show } = P.useSettled(base + "&limit=100" + after);
    const added = state.data && latest.data ? latest.data.count - state.data.count : 0;
    return html`<h1>Journal</h1><${P.Loaded} state=${state}>${(data) => html`
      ${added !== 0 && html`<${P.NewPill} added=${added} show=${show} />`}
      <div class="row"><span aria-live="polite"><b>${count(data.count)}</b> calls</span>
        <label class="soft small">status <select value=${(query.status || [""])[0]} onChange=${(event) => setQuery({ status: event.target.value, after: "" })}><option value="">all</option>${data.statuses.map((name) => html`<option>${name}</option>`)}</select></label>
        ${["arm", "role"].map((name) => query[name] && html`<button type="button" onClick=${() => setQuery({ [name]: "", after: "" })}>${name} ${P.visible(query[name][0])} \u2715</button>`)}
        <button type="button" aria-pressed=${(query.order || [""])[0] === "desc"} onClick=${() => setQuery({ order: query.order ? "" : "desc", after: "" })}>newest first</button></div>
      <div class="card"><${P.SortedTable} caption="Calls" rows=${data.items} columns=${[
        { key: "key", head: "call", cell: (row) => html`<a class="mono" data-row="" href=${link(["run", run, "journal", row.key])}>${row.key.slice(-8)}</a>` },
        { key: "role", head: "role", cell: (row) => html`${P.visible(row.role)}<br /><span class="soft small">${P.visible(row.arm)}</span>` },
        { key: "prompt", head: "prompt", cell: (row) => html`<span class="mono small">${P.visible(row.prompt)}</span>` },
        { key: "reply", head: "reply", cell: (row) => html`<span class="mono small">${P.visible(row.reply)}</span>${row.error && html`<span class="worse small">${P.visible(row.error)}</span>`}` },
        { key: "finish", head: "end", cell: (row) => P.visible(row.finish || NONE) },
        { key: "tokens", head: "tokens", number: true, cell: (row) => count(row.tokens && row.tokens.completion) },
        { key: "seconds", head: "time", number: true, cell: (row) => duration(row.seconds) },
        { key: "verdicts", head: "verdicts", cell: (row) => row.verdicts.map((verdict) => html`<a href=${link(["run", run, "trace", verdict.trace], { arm: verdict.arm })}><${P.Verdict} status=${verdict.status} /></a> `) },
      ]} /></div>
      <p class="row">${after && html`<button type="button" onClick=${() => setQuery({ after: "" })}>From the start</button>`}${data.next && html`<button type="button" onClick=${() => setQuery({ after: data.next })}>Next 100</button>`}</p>`}<//>`;
  }

  function CallPage({ run, id }) {
    const state = P.useData(P.runPath(run) + "/journal/" + encodeURIComponent(id), false);
    return html`<h1 class="mono">${P.visible(id)}</h1><${P.Loaded} state=${state}>${(data) => data.entries.map((entry) => html`<section class="card">
      <pre class="text" tabindex="0">${P.text.nodes(JSON.stringify(entry, null, 2).replace(/\\n/g, "\n"))}</pre></section>`)}<//>`;
  }

  P.pages.costs = CostsPage;
  P.pages.journal = JournalPage;
})((window.potstill = window.potstill || {}));
