// The run's files, and the notes that people leave on traces.
(function (P) {
  "use strict";
  const { html, useState } = htmPreact;
  const { ago, count } = P.format;

  function FilesPage({ run }) {
    const state = P.useData(P.runPath(run) + "/files");
    const [failure, setFailure] = useState(null);
    P.useRowKeys();
    const save = (name) => P.download(P.runPath(run) + "/file/" + name.split("/").map(encodeURIComponent).join("/"), name.split("/").pop()).catch(setFailure);
    return html`<h1>Files</h1>${failure && html`<${P.Failure} error=${failure} />`}<${P.Loaded} state=${state}>${(data) => html`<div class="card"><${P.SortedTable} caption="Files" rows=${data.files} columns=${[
      { key: "name", head: "file", value: (row) => row.name, cell: (row) => html`<button type="button" class="plain mono" data-row="" onClick=${() => save(row.name)}>${P.visible(row.name)}</button>` },
      { key: "label", head: "what it holds", cell: (row) => P.visible(row.label) },
      { key: "size", head: "bytes", number: true, value: (row) => row.size, cell: (row) => count(row.size) },
      { key: "changed", head: "changed", number: true, value: (row) => row.changed, cell: (row) => ago(row.changed) },
    ]} /></div>`}<//>`;
  }

  const MARKS = ["good", "bad", "look"];

  function Notes({ run, trace }) {
    const state = P.useData(P.runPath(run) + "/notes", false);
    const [written, setWritten] = useState(null);
    const [failure, setFailure] = useState(null);
    const data = state.data;
    const notes = written || trace.notes;
    const isWritable = data && data.is_writable;
    const last = notes[notes.length - 1];
    const mark = (name, text) =>
      P.put(P.runPath(run) + "/notes", { trace: trace.id, arm: trace.arm, mark: name, text: text || "" })
        .then(() => P.get(P.runPath(run) + "/notes"))
        .then((answer) => setWritten(answer.notes.filter((note) => note.trace === trace.id)))
        .catch(setFailure);
    P.useKeys(isWritable ? { m: { name: "mark: good, bad, look, none", run: () => mark(nextMark(last)) } } : {});
    if (!isWritable && !notes.length) return null;
    const submit = (event) => {
      event.preventDefault();
      mark((last && last.mark) || "look", event.target.elements.text.value);
      event.target.reset();
    };
    return html`<section class="card"><h2>Notes</h2>${failure && html`<${P.Failure} error=${failure} />`}
      ${notes.map((note) => html`<p><${P.Badge} kind=${{ good: "right", bad: "wrong" }[note.mark]}>${P.visible(note.mark || "no mark")}<//> ${P.visible(note.text)} <span class="soft small">${P.visible(note.by || "")} ${ago(note.at)}</span></p>`)}
      ${isWritable && html`<form class="row" onSubmit=${submit}>${MARKS.map((name) => html`<button type="button" aria-pressed=${!!last && last.mark === name} onClick=${() => mark(last && last.mark === name ? "" : name)}>${name}</button>`)}
        <label><span class="hidden">A note</span><input name="text" placeholder="a note" /></label><button>Write</button></form>`}</section>`;
  }

  function nextMark(last) {
    return ["", ...MARKS][(["", ...MARKS].indexOf((last && last.mark) || "") + 1) % 4];
  }

  P.pages.files = FilesPage;
  P.Notes = Notes;
})((window.potstill = window.potstill || {}));
