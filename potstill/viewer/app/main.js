// The frame: which page the address names, the run's navigation, the theme, the help, what is said of a live run.
(function (P) {
  "use strict";
  const { Component, html, render, useEffect, useRef, useState } = htmPreact;
  const { link } = P.route;

  // The pages of a run, in the order of the navigation.
  const PAGES = [
    ["", "Overview"],
    ["problems", "Problems"],
    ["traces", "Traces"],
    ["training", "Training"],
    ["costs", "Money and time"],
    ["journal", "Journal"],
    ["compare", "Compare"],
    ["files", "Files"],
  ];

  // The list of traces begins with those that somebody wrote; bare problems are one click away.
  const WRITTEN = { q: "-status:blank" };

  function App() {
    const route = P.route.useRoute();
    const [isHelpOpen, setHelp] = useState(false);
    const main = useRef(null);
    const [place, run, page] = route.parts;
    P.useKeys({
      "?": { name: "this help", run: () => setHelp(true) },
      "/": { name: "search", run: () => focusOn("input[type=search]") },
      f: { name: "facets", run: () => focusOn(".facets input") },
      c: { name: "compare", run: () => place === "run" && P.route.go(["run", run, "compare"]) },
      Escape: { name: "back", run: () => history.back() },
    });
    const where = route.parts.slice(0, 4).join("/");
    // One stream a tab: of the run that is looked at, else of all.
    const followed = place === "run" ? run : null;
    useEffect(() => P.follow(followed), [followed]);
    useEffect(() => {
      document.title = [pageName(page), run && P.visible(run), "Potstill"].filter(Boolean).join(" \u00b7 ");
      if (main.current) main.current.focus({ preventScroll: true });
      scrollTo(0, 0);
    }, [where]);
    return html`<div class="frame">
      <header class="top">
        <a class="brand" href=${link([])}>Potstill</a>
        ${place === "run" && html`<a class="where" href=${link(["run", run])}>${P.visible(run)}</a><${RunState} key=${run} run=${run} />`}
        <${Connection} />
        <div class="right"><${Theme} /><button type="button" aria-label="Keys" onClick=${() => setHelp(true)}><span class="wideonly">Keys </span><kbd>?</kbd></button></div>
      </header>
      <div class="side">${place === "run" && html`<${Navigation} run=${run} page=${page || ""} />`}</div>
      <main ref=${main} tabindex="-1"><${Guarded} key=${route.parts.slice(0, 3).join("/")}>${drawPage(route)}<//></main>
      ${P.share && html`<footer class="copy small soft">${P.visible(P.share.sentence)}</footer>`}
      ${isHelpOpen && html`<${Help} close=${() => setHelp(false)} />`}
    </div>`;
  }

  // A page that can't be drawn says so, and the others go on.
  class Guarded extends Component {
    componentDidCatch(error) {
      console.error(error);
      this.setState({ error });
    }
    render({ children }, { error }) {
      // Elements of two kinds: what was drawn of a page before it failed goes with its own.
      if (!error) return html`<div>${children}</div>`;
      return html`<section><h1>This page can't be drawn</h1><div class="notice bad" role="alert"><p>An error of the viewer's own: ${P.visible(String(error))}</p>
        <p>The other pages are not touched by it.</p></div></section>`;
    }
  }

  function pageName(page) {
    const found = PAGES.find(([name]) => name === (page || ""));
    return found ? found[1] : page;
  }

  function drawPage({ parts, query }) {
    const [place, run, page, id] = parts;
    if (!place) return html`<${P.RunsPage} />`;
    if (place === "compare") return html`<${P.ComparePage} query=${query} />`;
    const Page = place === "run" && run && P.pages[page || ""];
    if (!Page) return html`<h1>There is no such page</h1><p><a href=${link([])}>All runs</a></p>`;
    return html`<${Page} key=${run + "/" + page} run=${run} id=${id} query=${query} />`;
  }

  function Navigation({ run, page }) {
    const { data } = P.useData(P.runPath(run));
    const live = useLive(run);
    // The stream's counts are newer than the page's.
    const said = (live && live.counts) || (data && data.counts) || {};
    const counts = P.share ? { traces: P.share.traces } : { traces: said.traces, journal: said.completions };
    return html`<nav aria-label="Pages of the run"><ul>${PAGES.map(
      ([name, title]) => html`<li><a href=${link(["run", run, name].filter(Boolean), name === "traces" ? WRITTEN : {})}
        aria-current=${page === name || (page === "trace" && name === "traces") || (page === "problem" && name === "problems") ? "page" : undefined}>
        ${title}${counts[name] != null && html`<span class="count">${P.format.count(counts[name])}</span>`}</a></li>`
    )}</ul></nav>`;
  }

  // The newest line of the live stream about a run; null before the first.
  function useLive(run) {
    const [line, setLine] = useState(null);
    useEffect(() => P.subscribe((message) => message.type === "run" && message.run === run && setLine(message)), [run]);
    return line && line.run === run ? line : null;
  }

  // What the run is doing now, as the live stream says.
  function RunState({ run }) {
    const overview = P.useData(P.runPath(run));
    const live = useLive(run);
    const state = (live && live.state) || (overview.data && overview.data.state);
    if (!state) return null;
    // A killed run leaves what it was at.
    const isAt = state.status === "running" || state.status === "killed";
    const progress = isAt && live && live.progress;
    return html`<span class="row small" aria-live="polite"><${P.State} state=${state} /></span>
      ${progress && html`<span class="row small soft">${state.status === "killed" ? "at " : ""}${P.visible(progress.label || progress.arm || "")}
        ${progress.total ? html`<${P.Bar} share=${progress.done / progress.total} /> ${P.format.count(progress.done)} of ${P.format.count(progress.total)}` : ""}</span>`}`;
  }

  // Whether the stream is there: without it nothing new is seen, and that is told.
  function Connection() {
    const [lost, setLost] = useState(null);
    useEffect(() => P.subscribe((message) => {
      if (message.type === "lost") setLost(message);
      else if (message.type === "hello") setLost(null);
    }), []);
    if (!lost) return null;
    const text = lost.status === 401 ? "another viewer answers here: open the address that it printed" : "no connection to the viewer; trying again";
    return html`<span role="status"><${P.Badge} kind="error">${text}<//></span>`;
  }

  function Theme() {
    const [theme, setTheme] = useState(localStorage.getItem("potstill-theme") || "");
    useEffect(() => {
      document.documentElement.dataset.theme = theme;
      localStorage.setItem("potstill-theme", theme);
    }, [theme]);
    return html`<label class="small soft"><span class="wideonly">Theme </span><select aria-label="Theme" value=${theme} onChange=${(event) => setTheme(event.target.value)}>
      <option value="">system</option><option value="light">light</option><option value="dark">dark</option></select></label>`;
  }

  function Help({ close }) {
    const dialog = useRef(null);
    useEffect(() => dialog.current.showModal(), []);
    return html`<dialog ref=${dialog} onClose=${close} aria-labelledby="help-title">
      <h2 id="help-title">Keys</h2>
      <dl>${P.listKeys().map(([key, name]) => html`<dt><kbd>${key}</kbd></dt><dd>${name}</dd>`)}</dl>
      <form method="dialog"><button>Close</button></form>
    </dialog>`;
  }

  function focusOn(selector) {
    const element = document.querySelector(selector);
    if (!element) return;
    // On a narrow screen the facets are folded.
    const fold = element.closest("details");
    if (fold) fold.open = true;
    element.focus();
  }

  render(html`<${App} />`, document.getElementById("app"));
})((window.potstill = window.potstill || {}));
