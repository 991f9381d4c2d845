// What the server says: requests with the token, their cache, and the live stream.
(function (P) {
  "use strict";
  const { useEffect, useState } = htmPreact;
  const TOKEN = "potstill.token";
  const KEPT = 80; // answers kept in memory
  const REST = 1500; // milliseconds between two changes of what is shown

  takeToken();
  const answers = new Map(); // path -> {answer, etag, generation}
  const live = { generation: 0, controller: null, cursor: "", run: null, timer: null };
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
    answers.delete(path);
    answers.set(path, { answer, etag: response.headers.get("ETag"), generation });
    if (answers.size > KEPT) answers.delete(answers.keys().next().value);
    return answer;
  }

  async function put(path, value) {
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
    const [state, setState] = useState({});
    const generation = useGeneration();
    useEffect(() => {
      if (path === null) return undefined;
      const controller = new AbortController();
      get(path, controller.signal)
        .then((data) => setState({ data, path }))
        .catch((error) => {
          if (error.name !== "AbortError") setState({ error, path });
        });
      return () => controller.abort();
    }, [path, isLive && generation]);
    return state;
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
    if (message.type !== "run" || live.timer) return;
    live.timer = setTimeout(() => {
      live.timer = null;
      live.generation += 1;
      tell({ type: "changed" });
    }, REST);
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
    if (document.hidden || live.controller) return;
    const controller = (live.controller = new AbortController());
    let status = 0;
    try {
      const query = P.route.queryText({ run: live.run, since: live.cursor });
      const path = "api/live" + (query ? "?" + query : "");
      const response = await fetch(path, { headers: headers(), signal: controller.signal, cache: "no-store" });
      status = response.status;
      if (response.ok) await readLines(response.body.getReader());
    } catch {
      // The server ended, or the network broke: told below, and tried again.
    }
    if (live.controller !== controller) return; // stopped by us
    live.controller = null;
    tell({ type: "lost" });
    if (status < 400 || status >= 500) setTimeout(listen, 3000);
  }

  async function readLines(reader) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.trim()) hear(JSON.parse(line));
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else listen();
  });

  Object.assign(P, { get, put, download, useData, subscribe, follow });
})((window.potstill = window.potstill || {}));
