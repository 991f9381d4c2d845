// Traces: search, facets with counts, a list of any length, export.
(function (P) {
  "use strict";
  const { html, useEffect, useMemo, useRef, useState } = htmPreact;
  const { link, setQuery, queryText } = P.route;
  const { count, number, NONE } = P.format;

  const COLUMNS = {
    arm: { head: "arm", width: "6.5rem", cell: (row) => P.visible(row.arm) },
    operator: { head: "operator", width: "5.5rem", cell: (row) => P.visible(row.operator) },
    status: { head: "verdict", width: "5.4rem", cell: (row) => html`<${P.Verdict} status=${row.status} />` },
    answer: { head: "answer", width: "3.8rem", cell: (row) => P.visible(row.answer ?? NONE) },
    tokens: { head: "tokens", width: "3.4rem", cell: (row) => count(row.tokens) },
    steps: { head: "steps", width: "4.2rem", cell: (row) => (row.steps ? row.steps - row.wrong_steps + " of " + row.steps : NONE) },
    author: { head: "author", width: "5.5rem", cell: (row) => P.visible(row.author || NONE) },
    finish: { head: "finish", width: "4.5rem", cell: (row) => P.visible(row.finish || NONE) },
    dropped: { head: "dropped by", width: "8rem", cell: (row) => P.visible((row.dropped || []).join(", ") || (row.row ? "a row" : NONE)) },
    problem: { head: "problem", width: "8rem", cell: (row) => P.visible(row.problem) },
    excerpt: { head: "text", width: "minmax(9rem, 1fr)", cell: excerptCell },
  };
  const FIRST = ["arm", "status", "answer", "tokens", "steps", "excerpt"];
  const NARROW = ["status", "answer", "excerpt"]; // on a telephone
  const KEPT = "potstill.columns";

  function excerptCell(row) {
    const { text, hits, is_start, is_end } = row.excerpt;
    if (row.status === "blank") return html`<span class="soft lines2">${P.visible((row.question || "").slice(0, 200))}</span>`;
    return html`<span class="mono lines2">${is_start ? "" : "\u2026"}${P.text.nodes(text.replace(/\s+/g, " "), hits)}${is_end ? "" : "\u2026"}</span>`;
  }

  function TracesPage({ run, query }) {
    const [columns, setColumns] = useState(readColumns);
    const filters = listQuery(query);
    const path = P.runPath(run) + "/anchors?" + filters;
    // The list stays as it is while the run goes on; a pill says that there is more.
    const [fresh, setFresh] = useState(0);
    const anchors = P.useData(path + (fresh ? "&fresh=" + fresh : ""), false);
    const facets = P.useData(P.runPath(run) + "/facets?" + filters);
    const showNew = () => setFresh((old) => old + 1);
    const added = countNew(anchors.data, facets.data);
    // An arm that was begun anew has taken its old traces away: a list that still shows them is wrong. And nobody reads
    // an empty one.
    useEffect(() => {
      if (added < 0 || (added > 0 && anchors.data.count === 0)) showNew();
    }, [facets.data]);
    const keep = (names) => {
      setColumns(names);
      localStorage.setItem(KEPT, names.join());
    };
    return html`<h1>Traces</h1>
      <${Search} query=${query} facets=${facets.data} />
      <div class="withfacets">
        <${Facets} state=${facets} query=${query} />
        <div>
          <${Bar} run=${run} filters=${filters} facets=${facets.data} query=${query} columns=${columns} keep=${keep} />
          ${added > 0 && html`<${P.NewPill} added=${added} show=${showNew} />`}
          <${P.Loaded} state=${anchors}>${(data) => html`<${TraceList} run=${run} filters=${filters} anchors=${data} columns=${columns} query=${query} fresh=${fresh} />`}<//>
        </div>
      </div>`;
  }

  // How many traces of this list came after it was read; below 0 where some are gone.
  function countNew(anchors, facets) {
    if (!anchors || !facets || !facets.is_counted || anchors.is_counted === false) return 0;
    const isBegunAnew = Object.entries(anchors.eras).some(([arm, era]) => facets.eras[arm] !== era);
    return isBegunAnew ? -1 : facets.count - anchors.count;
  }

  function readColumns() {
    const kept = (localStorage.getItem(KEPT) || "").split(",").filter((name) => COLUMNS[name]);
    if (kept.length) return kept;
    return innerWidth < 700 ? NARROW : FIRST;
  }

  // What the server is asked for: the search, the facets and the order, without what only this page knows.
  function listQuery(query) {
    const asked = {};
    for (const [name, values] of Object.entries(query)) if (/^(q|sort|order|f\..+)$/.test(name)) asked[name] = values;
    return queryText(asked);
  }

  function Search({ query, facets }) {
    const text = (query.q && query.q[0]) || "";
    const field = useRef(null);
    const timer = useRef(0);
    useEffect(() => {
      if (field.current && document.activeElement !== field.current) field.current.value = text;
    }, [text]);
    const search = (value, replace) => {
      clearTimeout(timer.current);
      setQuery({ q: value, at: "" }, replace);
    };
    const type = (event) => {
      clearTimeout(timer.current);
      const { value } = event.target;
      timer.current = setTimeout(() => search(value, true), 250);
    };
    const submit = (event) => {
      event.preventDefault();
      search(field.current.value, false);
    };
    const indexed = facets && facets.indexed;
    return html`<form role="search" onSubmit=${submit}>
      <label class="row"><span class="hidden">Search</span>
        <input type="search" ref=${field} onInput=${type} placeholder='words, "a phrase", status:wrong, tokens:>100, -word' spellcheck="false" /></label>
      ${indexed && indexed.words < 1 && indexed.has_words && html`<p class="soft small" role="status">Words of ${Math.floor(100 * indexed.words)} % of the traces are indexed; hits among them are shown.</p>`}
      ${facets && facets.messages.map((message) => html`<p class="notice small" role="status">${P.visible(message.text)}${message.available && message.available.length ? ". Known: " + message.available.join(", ") : ""}</p>`)}
    </form>`;
  }

  function Facets({ state, query }) {
    return html`<${P.Filters}><${P.Loaded} state=${state}>${(data) => html`
      ${data.facets.filter((facet) => facet.values.length).map((facet) => html`<fieldset key=${facet.name}><legend>${P.visible(facet.label)}</legend>
        ${facet.values.map((value) => html`<label key=${value.value}><input type="checkbox" checked=${value.is_chosen} onChange=${() => P.toggleFacet(query, facet.name, value.value)} />
          <span class="name">${P.visible(value.label)}</span><span class="count">${count(value.is_chosen || !facet.values.some((one) => one.is_chosen) ? value.count : value.of)}</span></label>`)}
      </fieldset>`)}
      ${data.ranges.map((range) => html`<${Range} key=${range.name} range=${range} query=${query} />`)}`}<//><//>`;
  }

  // From … to … of a number: a word of the query, such as tokens:10..20.
  function Range({ range, query }) {
    const text = (query.q && query.q[0]) || "";
    const pattern = new RegExp("(^|\\s)" + range.name.replace(/\./g, "\\.") + ":(\\S*)\\.\\.(\\S*)");
    const [, , low = "", high = ""] = pattern.exec(text) || [];
    const change = (from, to) => {
      const rest = text.replace(pattern, "").trim();
      const word = from || to ? range.name + ":" + from + ".." + to : "";
      setQuery({ q: (rest + " " + word).trim(), at: "" });
    };
    return html`<fieldset><legend>${P.visible(range.label)}</legend><div class="range">
      <input aria-label=${range.label + " from"} inputmode="decimal" value=${low} placeholder=${number(range.min)} onChange=${(event) => change(event.target.value.trim(), high)} />
      <span class="soft">to</span>
      <input aria-label=${range.label + " to"} inputmode="decimal" value=${high} placeholder=${number(range.max)} onChange=${(event) => change(low, event.target.value.trim())} /></div></fieldset>`;
  }

  function Bar({ run, filters, facets, query, columns, keep }) {
    const [failure, setFailure] = useState(null);
    const save = (format) => P.download(P.runPath(run) + "/export?" + filters + "&format=" + format, run + "-traces." + (format === "ids" ? "txt" : format)).catch(setFailure);
    const sort = (query.sort && query.sort[0]) || "made";
    const order = (query.order && query.order[0]) || "asc";
    return html`<div class="row small" role="group" aria-label="The list">
      <span aria-live="polite"><b>${facets ? count(facets.count) : NONE}</b> traces${facets && !facets.is_counted ? " so far" : ""}</span>
      <label class="soft">order <select value=${sort} onChange=${(event) => setQuery({ sort: event.target.value, at: "" })}>
        ${["made", "problem", "tokens", "length", "steps", "wrong_steps", "seconds", "cost"].map((name) => html`<option value=${name}>${name.replace("_", " ")}</option>`)}</select></label>
      <button type="button" aria-pressed=${order === "desc"} onClick=${() => setQuery({ order: order === "desc" ? "" : "desc", at: "" })}>descending</button>
      <details class="columns"><summary>Columns</summary><div class="card row">${Object.entries(COLUMNS).map(([name, column]) => html`<label><input type="checkbox" checked=${columns.includes(name)}
        onChange=${() => keep(Object.keys(COLUMNS).filter((one) => (one === name) !== columns.includes(one)))} /> ${column.head}</label>`)}</div></details>
      ${!P.share && html`<span class="row">Save <button type="button" onClick=${() => save("jsonl")}>JSONL</button><button type="button" onClick=${() => save("csv")}>CSV</button><button type="button" onClick=${() => save("ids")}>ids</button></span>`}
      ${failure && html`<${P.Failure} error=${failure} />`}</div>`;
  }

  function TraceList({ run, filters, anchors, columns, query, fresh }) {
    const at = Number((query.at && query.at[0]) ?? -1);
    const base = P.runPath(run) + "/traces?" + filters + "&columns=question";
    const names = columns.length ? columns : FIRST;
    const layout = useMemo(() => ({
      widths: names.map((name) => COLUMNS[name].width).join(" "),
      heads: names.map((name) => html`<span>${COLUMNS[name].head}</span>`),
    }), [names.join()]);
    // A page of the list is what stands between two anchors.
    const read = async (page) => {
      const first = page * P.PAGE;
      const anchor = Math.floor(first / anchors.every);
      let cursor = anchors.anchors[anchor];
      let items = [];
      const skipped = first - anchor * anchors.every;
      while (items.length < skipped + P.PAGE) {
        const answer = await P.get(base + "&limit=" + Math.min(1000, skipped + P.PAGE - items.length) + (cursor ? "&after=" + encodeURIComponent(cursor) : ""));
        items = items.concat(answer.items);
        if (!answer.next) break;
        cursor = answer.next;
      }
      return items.slice(skipped);
    };
    const chosen = P.useChosen((row) => P.route.go(["run", run, "trace", row.id], traceQuery(row, query)));
    const move = (index, row) => {
      chosen.take(row);
      if (index !== at) setQuery({ at: String(index) }, true);
    };
    const step = (by) => move(Math.max(0, Math.min(anchors.count - 1, at + by)));
    P.useKeys({
      j: { name: "next", run: () => step(1) },
      k: { name: "previous", run: () => step(-1) },
      Enter: { name: "open", run: () => at >= 0 && chosen.open() },
    });
    if (!anchors.count) return html`<p class="card">No trace matches.</p>`;
    return html`<${P.List} name="trace" label="Traces" total=${anchors.count} rowHeight=${54} columns=${layout} read=${read} source=${base + fresh} at=${at} onMove=${move}
      href=${(row) => link(["run", run, "trace", row.id], traceQuery(row, query))}
      line=${(row) => names.map((name, i) => {
        const cell = COLUMNS[name].cell(row);
        const opened = i === 0 ? html`<a class="quiet" tabindex="-1" href=${link(["run", run, "trace", row.id], traceQuery(row, query))}>${cell}</a>` : cell;
        return html`<span role="gridcell" class=${name === "excerpt" ? "" : "cell"}>${opened}</span>`;
      })} />`;
  }

  // The trace's page keeps the search, so that its hits are marked there too.
  function traceQuery(row, query) {
    return { arm: row.arm, q: query.q };
  }

  P.pages.traces = TracesPage;
})((window.potstill = window.potstill || {}));
