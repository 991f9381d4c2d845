// A row as it was trained on, token by token: what is learnt, and how little the student expected each token.
(function (P) {
  "use strict";
  const { html, useState } = htmPreact;
  const { count } = P.format;
  const MOST = 8; // tokens in the table of the most surprising ones

  // What the layer can show, where it is there: nats are those of surprise, -log p.
  const MOMENTS = [
    { name: "before", label: "before training" },
    { name: "after", label: "after training" },
    { name: "difference", label: "what the training changed" },
    { name: "drawn", label: "when it was drawn" },
  ];

  function TokenText({ trace, tokens, layers, wanted, setStudent, query }) {
    const [index, setIndex] = useState(null);
    const [hasNumbers, setNumbers] = useState(true);
    const isSurprise = layers.includes("surprise");
    const moments = isSurprise ? MOMENTS.filter(({ name }) => natsOf(tokens, name)) : [];
    const moment = moments.find(({ name }) => query.moment && name === query.moment[0]) || moments[0];
    const nats = moment && natsOf(tokens, moment.name);
    const text = tokens.texts.join("");
    const isSigned = !!moment && moment.name === "difference";
    const marks = P.layers.tokenMarks(tokens, { isWeighted: layers.includes("learnt"), nats, isSigned, hasNumbers, index });
    const start = tokens.texts.slice(0, tokens.text_start).join("").length;
    if (layers.includes("steps")) marks.push(...P.layers.stepMarks(trace.steps).map((mark) => ({ ...mark, start: mark.start + start, stop: mark.stop + start })));
    const step = (by) => setIndex((old) => (old === null ? tokens.text_start : Math.max(0, Math.min(tokens.ids.length - 1, old + by))));
    return html`<div class="row small">
        ${tokens.students.length > 1 && html`<label class="soft">as trained on by <select value=${tokens.student} onChange=${(event) => setStudent(event.target.value)}>${tokens.students.map((name) => html`<option>${name}</option>`)}</select></label>`}
        ${tokens.students.length > 0 && html`<span><b>${count(tokens.learnt)}</b> of ${count(tokens.ids.length)} tokens are learnt${tokens.num_train_epochs ? `, in ${tokens.num_train_epochs} epochs` : ""}; grey is given.</span>`}
        ${moment && html`<label class="soft">surprise <select value=${moment.name} onChange=${(event) => P.route.setQuery({ moment: event.target.value }, true)}>${moments.map(({ name, label }) => html`<option value=${name}>${label}</option>`)}</select></label>
          <label class="soft"><input type="checkbox" checked=${hasNumbers} onChange=${() => setNumbers(!hasNumbers)} /> numbers</label>`}</div>
      ${isSurprise && html`<${Unscored} tokens=${tokens} />`}
      ${moment && html`<${Summary} tokens=${tokens} isSigned=${isSigned} />`}
      <p class="detail mono" aria-live="polite">${index === null ? "Point at a token, or go to the text and use the arrow keys." : tokenSentence(tokens, index)}</p>
      <${P.MarkedText} text=${text} marks=${marks} showSpaces=${layers.includes("spaces")} onToken=${setIndex} onStep=${step} wanted=${wanted === null ? null : wanted + start} label=${tokens.students.length ? "The text as it was trained on" : "The text as it was drawn"} />
      ${moment && html`<${MostSurprising} tokens=${tokens} nats=${nats} isSigned=${isSigned} choose=${setIndex} />`}`;
  }

  // Where a row has no scores: why, and the command that makes them.
  function Unscored({ tokens }) {
    if (!tokens.no_logprobs) return null;
    return html`<div class="notice"><p>How little the student expected each token is ${P.visible(tokens.no_logprobs)}.</p>
      ${tokens.score_fix && html`<p><code class="mono">${P.visible(tokens.score_fix)}</code> <${P.Copy} text=${tokens.score_fix} label="copy the command" /></p>`}</div>`;
  }

  function Summary({ tokens, isSigned }) {
    const means = tokens.mean_nats || {};
    const parts = MOMENTS.filter(({ name }) => means[name] != null).map(({ name, label }) => html`<li>${label} <b>${means[name].toFixed(3)}</b></li>`);
    return html`<ul class="facts">${parts.length > 0 && html`<li>nats a ${tokens.learnt ? "learnt " : ""}token:</li>`}${parts}</ul>
      <p class="small soft">${isSigned
        ? "The number is what a token's surprise fell (\u2212, line above) or rose (+, line below) by, in nats; the line is dotted from 1, dashed from 2.5, solid from 5."
        : "The number is a token's surprise in nats, from 1 on: 1 is 37 %, 2.5 is 8 %, 5 is 0.7 % likely. The line below is dotted from 1, dashed from 2.5, solid from 5."}</p>`;
  }

  // The tokens that stand out, as a table.
  function MostSurprising({ tokens, nats, isSigned, choose }) {
    const weights = P.layers.weightOfEach(tokens);
    const size = (i) => (isSigned ? Math.abs(nats[i]) : nats[i]);
    const places = nats.map((value, i) => i).filter((i) => nats[i] != null && (weights[i] > 0 || !tokens.learnt)).sort((a, b) => size(b) - size(a)).slice(0, MOST);
    const columns = [
      { key: "token", head: "token", cell: (i) => html`<button type="button" class="mono" onClick=${() => choose(i)}>${P.visible(JSON.stringify(tokens.texts[i]))}</button>` },
      { key: "place", head: "place", number: true, cell: (i) => count(i - tokens.text_start) },
      ...MOMENTS.filter(({ name }) => natsOf(tokens, name)).map(({ name, label }) => ({ key: name, head: name === "difference" ? "change, nats" : "nats " + label, number: true, cell: (i) => signed(natsOf(tokens, name)[i], name === "difference") })),
      ...["before", "after"].filter((name) => tokens.ranks && tokens.ranks[name]).map((name) => ({ key: "rank " + name, head: "rank " + name, number: true, cell: (i) => rank(tokens, name, i) })),
    ];
    return html`<details class="small"><summary>${isSigned ? "The tokens that changed most" : "The tokens that were expected least"}</summary>
      <${P.SortedTable} caption="Tokens" rows=${places} columns=${columns} /></details>`;
  }

  // Surprise of each token in nats: before, after, what changed, when it was drawn; null where it is not known.
  function natsOf(tokens, moment) {
    const { logprobs } = tokens;
    if (!logprobs) return null;
    if (moment !== "difference") return logprobs[moment] ? logprobs[moment].map((value) => (typeof value === "number" ? -value : null)) : null;
    if (!logprobs.before || !logprobs.after) return null;
    return logprobs.after.map((value, i) => (typeof value === "number" && typeof logprobs.before[i] === "number" ? logprobs.before[i] - value : null));
  }

  function signed(value, isSigned) {
    if (value == null) return P.format.NONE;
    return isSigned ? (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2) : value.toFixed(2);
  }

  function rank(tokens, moment, i) {
    const value = tokens.ranks[moment][i];
    return value == null ? P.format.NONE : count(value + 1);
  }

  function tokenSentence(tokens, index) {
    const parts = [`token ${index}`, `id ${tokens.ids[index]}`, JSON.stringify(P.visible(tokens.texts[index]))];
    const bytes = (tokens.bytes || {})[index];
    if (bytes) parts.push("bytes " + bytes);
    parts.push("weight " + P.layers.weightOfEach(tokens)[index]);
    if (tokens.special.includes(index)) parts.push("special");
    for (const { name, label } of MOMENTS) {
      const values = tokens.logprobs && tokens.logprobs[name];
      if (!values || values[index] == null) continue;
      const rankText = tokens.ranks && tokens.ranks[name] ? ` (rank ${rank(tokens, name, index)})` : "";
      parts.push(`log-probability ${label} ${P.format.number(values[index])}${rankText}`);
    }
    return parts.join(" \u00b7 ");
  }

  P.TokenText = TokenText;
})((window.potstill = window.potstill || {}));
