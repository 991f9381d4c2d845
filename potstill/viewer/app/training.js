// Training: the curves of every column, students laid over each other.
(function (P) {
  "use strict";
  const { html, useEffect, useRef, useState } = htmPreact;
  const { setQuery } = P.route;
  const { count, duration } = P.format;
  const TONES = ["--accent", "--worse", "--third", "--second", "--better", "--ink"];

  function TrainingPage({ run, query }) {
    const state = useTraining(P.runPath(run) + "/training");
    const by = query.by ? query.by[0] : "step";
    const [hidden, setHidden] = useState([]);
    return html`<h1>Training</h1><${P.Loaded} state=${state}>${(data) => {
      if (!data.students.length) return html`<p>No student has been trained yet.</p>`;
      const shown = data.students.filter((student) => !hidden.includes(student.student));
      const turn = (name) => setHidden(hidden.includes(name) ? hidden.filter((one) => one !== name) : [...hidden, name]);
      return html`${data.messages.map((message) => html`<div class="notice"><p>${P.visible(message)}</p></div>`)}
        <div class="row" role="group" aria-label="Students">${data.students.map((student, i) => html`<label><input type="checkbox" checked=${!hidden.includes(student.student)} onChange=${() => turn(student.student)} />
          <svg width="22" height="10" aria-hidden="true"><line x1="0" x2="22" y1="5" y2="5" style=${{ stroke: "var(" + TONES[i % TONES.length] + ")", strokeWidth: 2.5, strokeDasharray: dash(i) }} /></svg> ${P.visible(student.title)}</label>`)}
          <label class="soft small">by <select value=${by} onChange=${(event) => setQuery({ by: event.target.value }, true)}><option value="step">step</option><option value="tokens">tokens</option></select></label></div>
        <div class="card"><${P.SortedTable} caption="Students" rows=${data.students} columns=${[
          { key: "title", head: "student", value: (row) => row.title, cell: (row) => html`${P.visible(row.title)}<br /><span class="mono soft small plainer">${row.student}</span>` },
          { key: "state", head: "state", cell: (row) => html`${P.visible(row.state)}${row.state === "running" ? `, step ${count(row.step)}` : ""}` },
          { key: "rows", head: "rows", number: true, cell: (row) => html`<a href=${P.tracesLink(run, row.rows_query)}>${count(row.report && row.report.rows)}</a>` },
          { key: "steps", head: "steps", number: true, cell: (row) => count(row.steps) },
          { key: "epochs", head: "epochs", number: true, cell: (row) => P.format.number(row.report && row.report.num_train_epochs) },
          { key: "tokens", head: "learnt tokens", number: true, cell: (row) => count(row.report && row.report.loss_tokens) },
          { key: "seconds", head: "time", number: true, cell: (row) => duration(row.report && row.report.seconds) },
          { key: "refused", head: "rows refused", cell: (row) => row.refused.map((one) => html`${count(one.count)} ${P.visible(one.reason)}<br />`) },
        ]} /></div>
        <${P.Rollouts} run=${run} students=${data.students} query=${query} />
        <div class="curves">${data.columns.map((column) => html`<${Curve} key=${column.name} column=${column} students=${shown} all=${data.students} by=${by} />`)}</div>`;
    }}<//>`;
  }

  // The curves so far, and after each change of the run only the steps that came since.
  function useTraining(path) {
    const known = useRef(null);
    return P.useAnswer(path, async (signal) => {
      const since = {};
      for (const student of known.current ? known.current.students : []) since["since." + student.student] = student.step;
      const answer = await P.get(path + "?" + P.route.queryText(since), signal);
      known.current = joinSteps(known.current, answer);
      return known.current;
    });
  }

  // A student's new steps behind those that are known; `since` 0 is the whole curve, also of a training begun anew.
  function joinSteps(known, answer) {
    const students = answer.students.map((student) => {
      const before = known && known.students.find((one) => one.student === student.student);
      if (!before || !student.since) return student;
      const length = before.series.step.length;
      const series = {};
      for (const name of new Set([...Object.keys(before.series), ...Object.keys(student.series)])) {
        series[name] = [...(before.series[name] || new Array(length).fill(null)), ...(student.series[name] || (student.series.step || []).map(() => null))];
      }
      return { ...student, series, total_tokens: [...before.total_tokens, ...student.total_tokens] };
    });
    const columns = new Map([...(known ? known.columns : []), ...answer.columns].map((column) => [column.name, column]));
    return { ...answer, students, columns: [...columns.values()] };
  }

  function dash(i) {
    return ["", "7 4", "2 3", "10 3 2 3", "14 5", "5 2 1 2"][i % 6];
  }

  function Curve({ column, students, all, by }) {
    const element = useRef(null);
    const withIt = students.filter((student) => (student.series[column.name] || []).some((value) => value !== null));
    const key = withIt.map((student) => student.student + student.series.step.length).join() + by;
    useEffect(() => {
      if (!withIt.length) return undefined;
      const tables = withIt.map((student) => [by === "tokens" ? student.total_tokens : student.series.step, student.series[column.name]]);
      const style = getComputedStyle(document.documentElement);
      const tone = (name) => style.getPropertyValue(name).trim();
      const axis = { stroke: tone("--soft"), grid: { stroke: tone("--line"), width: 1 }, ticks: { stroke: tone("--line") }, font: "12px system-ui" };
      const options = {
        width: element.current.clientWidth, height: 210, scales: { x: { time: false } }, axes: [axis, { ...axis, size: 58 }], legend: { show: false },
        series: [{ label: by }, ...withIt.map((student) => {
          const i = all.indexOf(student);
          return { label: P.visible(student.title), stroke: tone(TONES[i % TONES.length]), width: 2, dash: dash(i).split(" ").filter(Boolean).map(Number), spanGaps: true, points: { show: student.series.step.length < 3 } };
        })],
      };
      const plot = new uPlot(options, uPlot.join(tables), element.current);
      const observer = new ResizeObserver(() => plot.setSize({ width: element.current.clientWidth, height: 210 }));
      observer.observe(element.current);
      return () => {
        observer.disconnect();
        plot.destroy();
      };
    }, [key, document.documentElement.dataset.theme]);
    if (!withIt.length) return null;
    const last = withIt.map((student) => {
      const values = student.series[column.name].filter((value) => value !== null);
      return P.visible(student.title) + " " + P.format.number(values[values.length - 1]);
    });
    return html`<figure class="card" style=${{ margin: 0 }} aria-label=${column.label + ": last values " + last.join(", ")}><figcaption><h2>${P.visible(column.label)}</h2><p class="small soft">${P.visible(column.text)}</p></figcaption><div ref=${element}></div></figure>`;
  }

  P.pages.training = TrainingPage;
})((window.potstill = window.potstill || {}));
