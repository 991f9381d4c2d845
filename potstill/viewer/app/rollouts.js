// What students wrote when they were evaluated in their trainings: the same prompts, from evaluation to evaluation.
(function (P) {
  "use strict";
  const { html, useEffect, useState } = htmPreact;
  const { count } = P.format;

  // `students` are those of the page Training; who wrote nothing that was kept is left out.
  function Rollouts({ run, students, query }) {
    const writers = students.filter((student) => student.looks.length);
    if (!writers.length) return null;
    const chosen = writers.find((student) => query.writer && student.student === query.writer[0]) || writers[0];
    const { looks } = chosen;
    const asked = query.look ? looks.indexOf(Number(query.look[0])) : -1;
    const place = asked < 0 ? looks.length - 1 : asked;
    const go = (to) => P.route.setQuery({ writer: chosen.student, look: looks[to] }, true);
    const when = looks[place] === chosen.steps ? `after all ${count(chosen.steps)} steps` : `before step ${count(looks[place] + 1)}`;
    return html`<section class="card" aria-labelledby="rollouts"><h2 id="rollouts">What the student wrote</h2>
      <p class="soft small">Up to eight texts of each evaluation, always to the same rows' prompts.</p>
      <div class="row">
        ${writers.length > 1 && html`<label class="small soft">student <select value=${chosen.student} onChange=${(event) => P.route.setQuery({ writer: event.target.value, look: undefined }, true)}>
          ${writers.map((student) => html`<option value=${student.student}>${P.visible(student.title)}</option>`)}</select></label>`}
        <button type="button" disabled=${place === 0} onClick=${() => go(place - 1)} aria-label="earlier evaluation">\u2190</button>
        <label class="row small soft">evaluation <input type="range" min="0" max=${looks.length - 1} value=${place} onInput=${(event) => go(Number(event.target.value))} aria-valuetext=${when} /></label>
        <button type="button" disabled=${place === looks.length - 1} onClick=${() => go(place + 1)} aria-label="later evaluation">\u2192</button>
        <span class="small" aria-live="polite">${when}, ${place + 1} of ${looks.length}</span></div>
      <${Look} run=${run} student=${chosen} step=${looks[place]} /></section>`;
  }

  // The texts of one evaluation; those of the one before stay until they have come.
  function Look({ run, student, step }) {
    const state = P.useData(`${P.runPath(run)}/rollouts/${encodeURIComponent(student.student)}?step=${step}`, false);
    const [shown, setShown] = useState(undefined);
    useEffect(() => { if (state.data) setShown(state.data); }, [state.data]);
    return html`<${P.Loaded} state=${{ ...state, data: state.data || shown }}>${(data) => html`<div class="sides">${data.rollouts.map((rollout) => html`
      <article class="passage"><header><${P.Verdict} status=${rollout.status} />
        <span class="small soft">${rollout.answer != null ? "answer " + P.visible(rollout.answer) + ", " : ""}${rollout.gold != null ? "gold " + P.visible(rollout.gold) + ", " : ""}${count(rollout.tokens)} tokens${rollout.is_truncated ? ", cut at the limit" : ""}</span>
        <a class="small" href=${P.route.link(["run", run, "trace", rollout.trace], { arm: student.arm })}>its row</a></header>
        ${rollout.reason && html`<p class="small soft">${P.visible(rollout.reason)}</p>`}
        <p class="small">${P.visible(rollout.question)}</p>
        <div class="fold"><pre class="text" tabindex="0">${P.text.nodes(rollout.text)}</pre></div></article>`)}</div>`}<//>`;
  }

  P.Rollouts = Rollouts;
})((window.potstill = window.potstill || {}));
