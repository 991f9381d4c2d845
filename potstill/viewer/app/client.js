// What the server says: requests with the token, their cache, and the live stream.
(function (P) {
  "use strict";
  const { useEffect, useRef, useState } = htmPreact;
  const TOKEN = "potstill.token";
  const KEPT = 80; // answers kept in memory
  // Milliseconds between two changes of what is shown: the longer an answer takes, the more, so that looking at a run
  // takes little of its machine.
  const REST = { least: 1000, most: 30000, times: 40 };
  const RETRY = 3000; // milliseconds after which a lost stream is asked for again

  takeToken();
  const answers = new Map(); // path -> {answer, etag, generation}
  // slowest: milliseconds of the slowest answer since the last change; isStale: something changed while the tab was hidden.
  const live = { generation: 0, controller: null, cursor: "", run: null, timer: null, changed: 0, slowest: 0, isStale: false };
  const listeners = new Set();

  // The token comes in the fragment, is kept by the browser, and leaves the address and the history.
  function takeToken() {
    const match = /[#&]token=([^&]+)/.exec(location.hash);
    if (!match) return;
    localStorage.setItem(TOKEN, decodeURIComponent(match[1]));
    const rest = location.hash.replace(match[0], "").replace(/^#?&?/, "#");
    history.replaceState(null, "", location.pathname + location.search + (rest === "#" ? "" : rest));
  }

  function headers() {
    const token = localStorage.getItem(TOKEN);
    return token ? { Authorization: "Bearer " + token } : {};
  }

  // The JSON document at a path below api/; throws an Error with the server's sentence.
  async function get(path, signal) {
    if (P.share) return P.share.answer(path);
    const kept = answers.get(path);
    if (kept && kept.generation === live.generation) return kept.answer;
    const generation = live.generation;
    const asked = headers();
    if (kept && kept.etag) asked["If-None-Match"] = kept.etag;
    const response = await fetch("api/" + path, { headers: asked, signal, cache: "no-store" });
    if (kept && response.status === 304) {
      kept.generation = generation;
      return kept.answer;
    }
    if (!response.ok) throw await asError(response);
    const answer = await response.json();
    const spent = /dur=(\d+)/.exec(response.headers.get("Server-Timing") || "");
    if (spent) live.slowest = Math.max(live.slowest, Number(spent[1]));
    answers.delete(path);
    answers.set(path, { answer, etag: response.headers.get("ETag"), generation });
    if (answers.size > KEPT) answers.delete(answers.keys().next().value);
    return answer;
  }

  async function put(path, value) {
    if (P.share) throw P.share.refuse("notes");
    const response = await fetch("api/" + path, {
      method: "PUT",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify(value),
    });
    if (!response.ok) throw await asError(response);
    answers.clear();
    return response.json();
  }

  // The server's sentence: what was found, what was expected, how to mend it.
  async function asError(response) {
    const error = new Error(response.status + " " + response.statusText);
    error.status = response.status;
    try {
      error.body = await response.json();
    } catch {
      return error; // the body is no JSON: the status says what there is to say
    }
    const said = error.body.error || error.body;
    if (said.found) error.message = said.found;
    error.expected = said.expected;
    error.fix = said.fix;
    return error;
  }

  // A file of the run, saved by the browser.
  async function download(path, name) {
    if (P.share) throw P.share.refuse(path.includes("/file/") ? "file" : "export");
    const response = await fetch("api/" + path, { headers: headers() });
    if (!response.ok) throw await asError(response);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // {data, error}: what stands at a path (null: nothing is asked). The old data stay until the new ones come.
  // isLive: ask again when the run has changed.
  function useData(path, isLive = true) {
    return useAnswer(path, (signal) => get(path, signal), isLive);
  }

  // The same of whatever read(signal) promises; it is read again where the path is another one.
  function useAnswer(path, read, isLive = true) {
    const [state, setState] = useState({});
    const generation = useGeneration();
    const asking = useRef(null);
    useEffect(() => {
      if (path === null) return undefined;
      const current = (asking.current = startAsking(path, read, setState));
      return current.end;
    }, [path]);
    useEffect(() => {
      if (path !== null && isLive) asking.current.again();
    }, [generation]);
    return state;
  }

  // Asks, and once more after each change; a slow answer is waited for and never asked for twice at once.
  function startAsking(path, read, setState) {
    const controller = new AbortController();
    let generation = -1;
    let isOpen = false;
    const again = async () => {
      if (isOpen || controller.signal.aborted) return;
      isOpen = true;
      while (generation !== live.generation && !controller.signal.aborted) {
        if (document.hidden && generation >= 0) {
          live.isStale = true; // asked when somebody looks again
          break;
        }
        generation = live.generation;
        try {
          const data = await read(controller.signal);
          setState({ data, path });
        } catch (error) {
          if (error.name !== "AbortError") setState({ error, path });
        }
      }
      isOpen = false;
    };
    again();
    return { again, end: () => controller.abort() };
  }

  // As useData, for what must not move under the eyes of who reads it: {state, latest, show}. `state` stays as it was
  // until show() is called; `latest` is what the server says by now.
  function useSettled(path) {
    const latest = useData(path);
    const shown = useRef({});
    const [, redraw] = useState(0);
    const isCurrent = latest.path === path;
    if (isCurrent && shown.current.path !== path) shown.current = latest;
    const show = () => {
      shown.current = latest;
      redraw((n) => n + 1);
    };
    return { state: shown.current, latest: isCurrent ? latest : shown.current, show };
  }

  function useGeneration() {
    const [generation, setGeneration] = useState(live.generation);
    useEffect(() => subscribe((message) => message.type === "changed" && setGeneration(live.generation)), []);
    return generation;
  }

  // Listeners get every message of the stream, {type: "changed"} when pages should ask again, {type: "lost"} when it broke.
  function subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  function tell(message) {
    for (const listener of [...listeners]) listener(message);
  }

  function hear(message) {
    if (message.cursor !== undefined) live.cursor = message.cursor;
    tell(message);
    if (message.type === "runs" || (message.type === "run" && isNews(message))) planChange();
  }

  // Whether an answer in memory is of another generation than the run has now.
  function isNews(message) {
    const place = P.runPath(message.run);
    for (const [path, kept] of answers) {
      const isOfRun = path === place || path.startsWith(place + "/") || path.startsWith(place + "?");
      if (isOfRun ? kept.answer.generation !== message.generation : /^(runs|compare)/.test(path)) return true;
    }
    return false;
  }

  // The first change is shown at once, and what follows on its heels together after a rest.
  function planChange() {
    if (live.timer) return;
    const rest = Math.max(REST.least, Math.min(REST.most, REST.times * live.slowest));
    live.timer = setTimeout(change, Math.max(0, live.changed + rest - Date.now()));
  }

  function change() {
    live.timer = null;
    live.isStale = document.hidden; // a hidden tab asks for nothing
    if (live.isStale) return;
    live.changed = Date.now();
    live.slowest = 0;
    live.generation += 1;
    tell({ type: "changed" });
  }

  // What the stream tells of: one run, or (null) all of them. One stream a tab, none while the tab is hidden.
  function follow(run) {
    if (run === live.run && live.controller) return;
    stop();
    live.run = run;
    live.cursor = "";
    listen();
  }

  function stop() {
    const controller = live.controller;
    live.controller = null;
    if (controller) controller.abort();
  }

  async function listen() {
    if (P.share || document.hidden || live.controller) return;
    const controller = (live.controller = new AbortController());
    const stream = { beat: 0, watchdog: null, status: 0 };
    try {
      const query = P.route.queryText({ run: live.run, since: live.cursor });
      const path = "api/live" + (query ? "?" + query : "");
      const response = await fetch(path, { headers: headers(), signal: controller.signal, cache: "no-store" });
      stream.status = response.status;
      if (response.ok) await readLines(response.body.getReader(), (message) => {
        if (message.beat) stream.beat = message.beat;
        expectBeat(stream, controller);
        hear(message);
      });
    } catch {
      // The server ended, or the network broke: told below, and tried again.
    }
    clearTimeout(stream.watchdog);
    if (live.controller !== controller) return; // stopped by us
    live.controller = null;
    tell({ type: "lost", status: stream.status });
    if (stream.status < 400 || stream.status >= 500) setTimeout(listen, RETRY);
  }

  // A tunnel may break without a word: a stream that is silent for three beats is given up, and asked for anew.
  function expectBeat(stream, controller) {
    clearTimeout(stream.watchdog);
    if (stream.beat) stream.watchdog = setTimeout(() => controller.abort(), 3000 * stream.beat);
  }

  async function readLines(reader, take) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.trim()) take(JSON.parse(line));
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stop();
      return;
    }
    if (live.isStale) planChange();
    listen();
  });

  Object.assign(P, { get, put, download, useData, useAnswer, useSettled, subscribe, follow });
})((window.potstill = window.potstill || {}));
