// Small parts that several pages draw: links, numbers, badges, bars, whiskers, tables.
(function (P) {
  "use strict";
  const { html, useEffect, useState } = htmPreact;
  const NONE = "\u2013";

  // Numbers as the report writes them.
  const percent = (share, digits = 1) => (share == null ? NONE : (100 * share).toFixed(digits) + " %");
  const points = (share) => (share == null ? NONE : (share >= 0 ? "+" : "\u2212") + Math.abs(100 * share).toFixed(1));
  const count = (value) => (value == null ? NONE : Math.round(value).toLocaleString("en"));
  const money = (value) => (value == null ? NONE : "$" + (value && value < 0.01 ? value.toPrecision(2) : value.toFixed(2)));

  function number(value) {
    if (value == null || Number.isNaN(value)) return NONE;
    if (typeof value !== "number") return P.visible(value);
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
  }

  function duration(seconds) {
    if (seconds == null) return NONE;
    if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
    const minutes = Math.floor(seconds / 60);
    return minutes < 60 ? minutes + " min " + Math.round(seconds % 60) + " s" : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
  }

  function ago(at) {
    if (at == null) return NONE;
    const seconds = Math.max(0, Date.now() / 1000 - at);
    if (seconds < 90) return Math.round(seconds) + " s ago";
    if (seconds < 5400) return Math.round(seconds / 60) + " min ago";
    return seconds < 172800 ? Math.round(seconds / 3600) + " h ago" : Math.round(seconds / 86400) + " days ago";
  }

  // A time of day, and with its date, both where the reader is.
  const clock = (at) => (at == null ? NONE : new Date(at * 1000).toLocaleTimeString("en-GB"));
  const date = (at) => (at == null ? NONE : new Date(at * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }));

  function Badge({ kind, children }) {
    return html`<span class=${"badge " + (kind || "")}>${children}</span>`;
  }

  // A verdict by word and sign, not by colour alone.
  function Verdict({ status }) {
    const sign = { right: "\u2713\u00a0", wrong: "\u2717\u00a0" }[status] || "";
    return status ? html`<${Badge} kind=${status}>${sign}${status}<//>` : null;
  }

  function Bar({ share, label }) {
    const width = Math.max(0, Math.min(1, share || 0)) * 100;
    return html`<span class="bar" role="img" aria-label=${label || percent(share)}>
      <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="fill" width=${width} height="10" /></svg>
    </span>`;
  }

  // An estimate with its interval on an axis from `from` to `to`; a dashed line at zero where the axis holds it.
  function Whisker({ value, low, high, from, to, tone }) {
    const x = (at) => (100 * (at - from)) / (to - from || 1);
    const at = (share) => x(Math.max(from, Math.min(to, share))) + "%";
    return html`<svg class=${"whiskers tone-" + (tone || "plain")} aria-hidden="true">
      <line class="axis" x1="0" x2="100%" y1="11" y2="11" />
      ${from < 0 && to > 0 && html`<line class="zero" x1=${at(0)} x2=${at(0)} y1="2" y2="20" />`}
      ${low != null && html`<line class="span" x1=${at(low)} x2=${at(high)} y1="11" y2="11" />`}
      ${value != null && html`<circle class="dot" cx=${at(value)} cy="11" r="5" />`}
    </svg>`;
  }

  function Copy({ text, label }) {
    const [copied, setCopied] = useState(false);
    const copy = () =>
      navigator.clipboard.writeText(text).then(() => {
        setCopied(true);
        setTimeout(() => setCopied(false), 1500);
      });
    return html`<button type="button" class="plain small" onClick=${copy} aria-label=${"Copy " + (label || "")}>${copied ? "copied" : label || "copy"}</button>`;
  }

  function Failure({ error }) {
    const hint = error.status === 401 ? " Open the address that the command printed: it carries the token." : "";
    return html`<div class=${"notice" + (error.isAbsent ? "" : " bad")} role="alert"><p>${P.visible(error.message)}${hint}</p>
      ${error.expected && html`<p>Expected: ${P.visible(error.expected)}</p>`}
      ${error.fix && html`<p>${P.visible(error.fix)}</p>`}</div>`;
  }

  // What a path holds, drawn by `children(data)`; waiting and failing look the same on every page.
  function Loaded({ state, children }) {
    if (state.error) return html`<${Failure} error=${state.error} />`;
    if (state.data === undefined) return html`<p class="soft" aria-busy="true">Reading\u2026</p>`;
    return children(state.data);
  }

  // A table that sorts by its heads. columns: {key, head, hint, number, cell(row), value(row)}.
  function SortedTable({ caption, columns, rows, first }) {
    const [order, setOrder] = useState(first || null);
    const sorted = order ? sortRows(rows, columns, order) : rows;
    const turn = (column) => setOrder({ key: column.key, down: order && order.key === column.key ? !order.down : !!column.number });
    return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table>
      <caption class="hidden">${caption}</caption>
      <thead><tr>${columns.map((column) => {
        const sort = order && order.key === column.key ? (order.down ? "descending" : "ascending") : "none";
        const head = column.value
          ? html`<button type="button" onClick=${() => turn(column)} title=${column.hint}>${column.head}${{ ascending: " \u2191", descending: " \u2193" }[sort] || ""}</button>`
          : html`<span title=${column.hint}>${column.head}</span>`;
        return html`<th scope="col" class=${column.number ? "number" : ""} aria-sort=${column.value ? sort : undefined}>${head}</th>`;
      })}</tr></thead>
      <tbody>${sorted.map((row) => html`<tr>${columns.map((column, i) => {
        const cell = column.cell ? column.cell(row) : P.visible(row[column.key] ?? NONE);
        return i === 0 ? html`<th scope="row">${cell}</th>` : html`<td class=${column.number ? "number" : ""}>${cell}</td>`;
      })}</tr>`)}</tbody>
    </table></div>`;
  }

  function sortRows(rows, columns, order) {
    const { value } = columns.find((column) => column.key === order.key);
    const sign = order.down ? -1 : 1;
    return [...rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a == null || b == null) return (a == null) - (b == null); // what is not known stands last either way
      return sign * (a < b ? -1 : a > b ? 1 : 0);
    });
  }

  // How a run stands: running, finished, stopped, killed; how long ago is told anew while the page is open.
  function State({ state }) {
    const [, redraw] = useState(0);
    useEffect(() => {
      const timer = setInterval(() => redraw((n) => n + 1), 20000);
      return () => clearInterval(timer);
    }, []);
    const kind = { running: "running", failed: "error", killed: "error", unreadable: "error" }[state.status];
    return html`<${Badge} kind=${kind}>${P.visible(stateText(state))}<//>`;
  }

  // As the server words it (run_state.py), at the time of this clock; a copy says how it was.
  function stateText(state) {
    if (P.share) return state.text;
    if (state.status === "running" || state.status === "unreadable" || !state.since) return state.text || state.status;
    const seconds = Math.max(0, Date.now() / 1000 - state.since);
    let age = "just now";
    if (seconds >= 172800) age = Math.floor(seconds / 86400) + " days ago";
    else if (seconds >= 3600) age = Math.floor(seconds / 3600) + " h ago";
    else if (seconds >= 60) age = Math.floor(seconds / 60) + " min ago";
    return state.status === "killed" ? "stopped " + age + " (killed)" : state.status + " " + age;
  }

  // What came while somebody reads: `added` more, or another state of the same (0); shown when it is asked for.
  function NewPill({ added, show }) {
    return html`<p class="pillplace" aria-live="polite"><button type="button" class="pill" onClick=${show}>${added > 0 ? count(added) + " new" : "show what has changed"}</button></p>`;
  }

  // j and k go through the rows of a page by what leads on from each: its link has the attribute data-row, so that it is
  // focused, read out, and opened by Enter as any link is.
  function useRowKeys(more) {
    const move = (by) => {
      const rows = [...document.querySelectorAll("main [data-row]")];
      const at = rows.indexOf(document.activeElement);
      const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
      if (next) next.focus();
    };
    P.useKeys({
      j: { name: "next", run: () => move(1) },
      k: { name: "previous", run: () => move(-1) },
      Enter: { name: "open", run: () => {} }, // the link's own, named here for the help
      ...more,
    });
  }

  // The facets beside a list; on a narrow screen they are folded.
  function Filters({ children }) {
    return html`<details class="facets" open=${innerWidth > 900}><summary>Filters</summary>${children}</details>`;
  }

  P.pages = {}; // what draws each page of a run, by its name in the address
  P.runPath = (run) => "run/" + encodeURIComponent(run);
  P.format = { percent, points, count, money, number, duration, ago, clock, date, NONE };
  Object.assign(P, { Filters, State, NewPill, useRowKeys, Badge, Verdict, Bar, Whisker, Copy, Failure, Loaded, SortedTable });
})((window.potstill = window.potstill || {}));
