// A copy of a run: what the pages ask is answered from the data in the page, and no server is there. In the viewer itself
// there are no such data, and this file does nothing. What stands where: potstill/viewer/share/.
(function (P) {
  "use strict";
  const first = document.getElementById("copy-pages");
  if (!first) return;
  const RUN = first.dataset.run;
  const KEPT_BLOCKS = 12; // unpacked ones in memory
  const lists = P.shareList;
  const arrived = new Map(); // blocks that come as scripts: number -> what waits for it
  const blocks = new Map();
  const policy = window.trustedTypes ? trustedTypes.createPolicy("potstill-share", { createScriptURL: (url) => url }) : null;
  const isParsed = new Promise((done) => {
    if (document.readyState === "loading") addEventListener("DOMContentLoaded", done);
    else done();
  });

  // --- Data ---

  async function unzip(encoded) {
    const binary = atob(encoded.trim());
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  // The value of an entry of a table; equal parts are one object, so what comes from here is never changed.
  function unpack(table, place) {
    const entry = table.values[place];
    if (!Array.isArray(entry)) return entry;
    table.made = table.made || [];
    if (table.made[place] === undefined) {
      const parts = entry.slice(1).map((part) => unpack(table, part < 0 ? place + part : part));
      const shape = table.shapes[entry[0] - 1];
      // fromEntries: a name such as __proto__ is a name like any other.
      table.made[place] = entry[0] === 0 ? parts : Object.fromEntries(shape.map((name, i) => [name, parts[i]]));
    }
    return table.made[place];
  }

  // One part of an object, without the others.
  function unpackPart(table, place, name) {
    const entry = table.values[place];
    const part = entry[1 + table.shapes[entry[0] - 1].indexOf(name)];
    return unpack(table, part < 0 ? place + part : part);
  }

  const remembered = {};
  function readDocument(name) {
    remembered[name] = remembered[name] || isParsed.then(() => unzip(document.getElementById(name).textContent)).then((table) => unpack(table, table.root));
    return remembered[name];
  }

  const pages = unzip(first.textContent).then((table) => unpack(table, table.root));
  const readList = () => readDocument("copy-list");

  // A block of traces, from the page or from a script beside it.
  function readBlock(number) {
    if (!blocks.has(number)) {
      blocks.set(number, isParsed.then(() => {
        const element = document.getElementById("copy-block-" + number);
        return element ? element.textContent : loadScript(number);
      }).then(unzip));
      blocks.get(number).catch(() => blocks.delete(number));
    }
    const block = blocks.get(number);
    blocks.delete(number);
    blocks.set(number, block); // the newest last
    if (blocks.size > KEPT_BLOCKS) blocks.delete(blocks.keys().next().value);
    return block;
  }

  function loadScript(number) {
    return new Promise((done, fail) => {
      const url = "blocks/" + number + ".js";
      const script = document.createElement("script");
      arrived.set(number, done);
      script.onerror = () => fail(refusal(`The file ${url} of this copy is missing.`, "copy the whole folder"));
      script.src = policy ? policy.createScriptURL(url) : url;
      document.head.append(script);
    });
  }

  function take(number, encoded) {
    arrived.get(number)(encoded);
    arrived.delete(number);
  }

  function refusal(message, fix) {
    return Object.assign(new Error(message), { fix, isAbsent: true });
  }

  // --- Answers ---

  const NOT_HERE = {
    journal: "The journal is no part of a copy: it holds every request and every reply as it was sent.",
    export: "A copy saves no lists.",
    file: "The files of the run are no part of a copy.",
    notes: "A copy takes no notes.",
  };

  function refuse(what) {
    return refusal(NOT_HERE[what], "potstill view RUN, on the machine where the run is");
  }

  // What the server answers at a path below api/, from the copy.
  async function answer(path) {
    const [place, text] = path.split("?");
    const parts = place.split("/").map(decodeURIComponent);
    const query = new URLSearchParams(text || "");
    const { pages: fixed, compare, problems, rollouts } = await pages;
    if (place === "runs") return fixed.runs;
    if (place === "compare") return comparePage(compare, query);
    const [, run, page, id, part] = parts;
    if (run !== RUN) throw refusal("This copy is of the run " + RUN + ".");
    const rest = parts.slice(3).join("/");
    if (page === undefined) return checked(fixed["run/" + RUN + (query.get("base") ? "?base=" + query.get("base") : "")] || fixed["run/" + RUN]);
    if (page === "anchors") return anchors(await readRows(query));
    if (page === "traces") return listPage(await readRows(query), query);
    if (page === "facets") return facets(await readRows(query));
    if (page === "trace") return tracePage(id, part, query);
    if (page === "problem") return pageOfBlock(await blockOfProblem(rest), "problem " + rest, "The page of a problem shows all its texts, and is no part of a selection.");
    if (page === "problems") return problemsPage(problems[query.get("set") || "test"], query);
    if (page === "rollouts") return checked(rollouts[id + " " + query.get("step")]);
    if (NOT_HERE[page] && page !== "notes") throw refuse(page);
    return checked(fixed["run/" + RUN + "/" + page]);
  }

  // The server refused some pages when the copy was made: it says why.
  function checked(page) {
    if (!page) throw refusal("This copy has no such page.");
    if (page.error) throw Object.assign(refusal(page.error.found, page.error.fix), { expected: page.error.expected });
    return page;
  }

  // --- Lists of traces ---

  const rowsOfQuery = new Map(); // query -> promise of what it finds
  function readRows(query) {
    const key = new URLSearchParams([...query].filter(([name]) => /^(q|sort|order|f\..+)$/.test(name))).toString();
    if (!rowsOfQuery.has(key)) {
      rowsOfQuery.set(key, findRows(new URLSearchParams(key)));
      if (rowsOfQuery.size > 4) rowsOfQuery.delete(rowsOfQuery.keys().next().value);
    }
    return rowsOfQuery.get(key);
  }

  async function findRows(query) {
    const list = await readList();
    const names = list.facets.map((facet) => facet.name);
    const read = lists.readQuery(query.get("q") || "", names);
    for (const [facet, values] of chosenFacets(query)) {
      if (names.includes(facet)) lists.addChoice(read, facet, values, false);
      else read.messages.push({ level: "error", text: `there is no facet '${facet}'`, available: names });
    }
    const texts = read.needsTexts ? await readTexts() : null;
    const textOf = (item) => (texts ? texts.get(item.id) || "" : "");
    const chosen = lists.choose(list.items, read.conditions, textOf);
    const items = lists.sortItems(chosen.items, query.get("sort") || "made", query.get("order") === "desc");
    return { list, read, chosen, items, textOf, sort: query.get("sort") || "made", order: query.get("order") || "asc" };
  }

  function chosenFacets(query) {
    const names = new Set([...query.keys()].filter((name) => name.startsWith("f.")));
    return [...names].map((name) => [name.slice(2), query.getAll(name)]);
  }

  // All texts by trace: every block is read once.
  let allTexts = null;
  function readTexts() {
    allTexts = allTexts || gatherTexts();
    return allTexts;
  }

  async function gatherTexts() {
    const texts = new Map();
    for (const number of new Set(Object.values((await pages).blocks))) {
      const block = await readBlock(number);
      for (const [id, [[, place]]] of Object.entries(block.traces)) texts.set(id, unpackPart(block, place, "text"));
    }
    return texts;
  }

  const whole = { traces: 1, words: 1, has_words: true };

  function anchors({ items }) {
    const starts = [null];
    for (let at = 100; at < items.length; at += 100) starts.push(String(at));
    return { count: items.length, every: 100, anchors: starts, is_counted: true, eras: {} };
  }

  function listPage({ read, items, textOf, sort, order }, query) {
    const limit = Math.max(1, Math.min(1000, Number(query.get("limit") || 100)));
    const start = Number(query.get("after") || 0);
    const part = items.slice(start, start + limit);
    const shown = read.patterns.length ? part.map((item) => ({ ...item, excerpt: lists.excerptOf(textOf(item), read.patterns) })) : part;
    const next = start + limit < items.length ? String(start + limit) : null;
    return { generation: "copy", count: items.length, is_counted: true, sort, order, messages: read.messages, indexed: whole, items: shown, next, previous: null, scanned: null };
  }

  function facets({ list, read, chosen }) {
    // That no reason was written down is no reason.
    const valuesIn = (item, facet) => (facet === "reason" ? item.reasons : lists.valuesOf(item, facet));
    return {
      generation: "copy", count: chosen.items.length, is_counted: true, eras: {}, indexed: whole, messages: read.messages,
      facets: list.facets.map((facet) => lists.countFacet(facet, chosen, read.conditions, valuesIn)),
      ranges: lists.rangesOf(chosen.items, list.ranges),
    };
  }

  // --- Traces and problems ---

  let idsOfList = null;
  async function problemOfTrace(id) {
    idsOfList = idsOfList || readList().then(({ items }) => new Map(items.map((item) => [item.id, item.problem])));
    const ids = await idsOfList;
    if (ids.has(id)) return [id, ids.get(id)];
    const longer = [...ids.keys()].filter((one) => id.startsWith("trace-") && one.startsWith(id));
    if (longer.length !== 1) throw refusal(`This copy does not hold the trace ${id}.`, "potstill view RUN, on the machine where the run is");
    return [longer[0], ids.get(longer[0])];
  }

  async function blockOfProblem(problem) {
    const { blocks: numbers } = await pages;
    if (!Object.hasOwn(numbers, problem)) throw refusal(`This copy does not hold what was written about ${problem}.`);
    return readBlock(numbers[problem]);
  }

  function pageOfBlock(block, name, message) {
    if (block.pages[name] === undefined) throw refusal(message);
    return unpack(block, block.pages[name]);
  }

  async function tracePage(asked, part, query) {
    const [id, problem] = await problemOfTrace(asked);
    const block = await blockOfProblem(problem);
    const found = block.traces[id];
    const wanted = query.get("arm");
    const entry = found.find(([arm]) => arm === wanted) || (wanted ? null : found[0]);
    if (!entry) throw refusal(`The arm ${wanted} made no trace ${id} that this copy holds.`);
    const trace = unpack(block, entry[1]);
    if (part === undefined) return trace;
    if (part === "overlap") return block.pages[`overlap ${id} ${entry[0]}`] === undefined ? { runs: [] } : unpack(block, block.pages[`overlap ${id} ${entry[0]}`]);
    const student = query.get("student") || (trace.rows[0] && trace.rows[0].student);
    const name = `tokens ${id} ${student} ${query.get("side") || "chosen"}`;
    if (block.pages[name] === undefined) return { is_available: false, message: "no student was trained on this trace", fix: "" };
    return unpack(block, block.pages[name]);
  }

  // The matrix of problems: chosen, counted, ordered.
  function problemsPage(matrix, query) {
    if (!matrix) throw refusal("This copy has no such set of problems.");
    const words = lists.folded(query.get("q") || "").match(/[\p{L}\p{N}]+/gu) || [];
    const wordsOf = (row) => new Set(lists.folded(row.problem + " " + row.question).match(/[\p{L}\p{N}]+/gu));
    const conditions = [{ facet: "", test: (row) => !words.length || words.every((word) => wordsOf(row).has(word)) }];
    for (const [facet, values] of chosenFacets(query)) {
      const chosen = new Set(values);
      conditions.push({ facet, chosen, test: (row) => (row.facets[facet] || []).some((value) => chosen.has(value)) });
    }
    const chosen = lists.choose(matrix.rows, conditions, () => "");
    const counted = matrix.facets.map((facet) =>
      lists.countFacet(facet, chosen, conditions, (row, name) => row.facets[name], (value) => matrix.labels[value] || value)
    );
    const rows = sortProblems(chosen.items, query.get("sort") || "problem", query.get("order") === "desc");
    const page = pageOfRows(rows, query, 500);
    // Whole questions are here to be searched; a list shows their beginning.
    const shown = page.rows.map((row) => ({ ...row, question: row.question.slice(0, 200) }));
    return { ...matrix, count: rows.length, facets: counted, rows: shown, next: page.next };
  }

  function sortProblems(rows, sort, isDescending) {
    if (sort === "problem") return isDescending ? [...rows].reverse() : rows;
    const share = (cell) => (cell ? (cell.n ? cell.right / cell.n : 0) : -1);
    const keyOf = sort in { spread: 1, disagreement: 1, length: 1 } ? (row) => row[sort] : (row) => share(row.cells[sort]);
    const sign = isDescending ? -1 : 1;
    return [...rows].sort((one, other) => sign * (keyOf(one) - keyOf(other)));
  }

  // A page begins behind the problem that the last one ended with.
  function pageOfRows(rows, query, usual) {
    const limit = Number(query.get("limit") || usual);
    const start = query.get("after") ? rows.findIndex((row) => row.problem === query.get("after")) + 1 : 0;
    const part = rows.slice(start, start + limit);
    return { rows: part, next: start + limit < rows.length && part.length ? part[part.length - 1].problem : null };
  }

  function comparePage(compare, query) {
    const page = (compare[query.get("a")] || {})[query.get("b")];
    if (!page) throw refusal("This copy compares the measured arms of " + RUN + " alone.");
    if (page.error) return checked(page);
    // As the server refuses it: what was not asked the same.
    if (!page.is_comparable) throw Object.assign(refusal(page.found, page.fix), { status: 409, body: page });
    let flips = page.flips;
    const direction = query.getAll("f.direction");
    if (direction.length) flips = flips.filter((flip) => direction.includes(flip.change > 0 ? "gained" : "lost"));
    const isFlip = query.getAll("f.flip");
    if (isFlip.length) flips = flips.filter((flip) => isFlip.includes(flip.is_flip ? "yes" : "no"));
    if (query.get("sort") !== "problem") flips = [...flips].sort((one, other) => Math.abs(other.change) - Math.abs(one.change));
    const { rows, next } = pageOfRows(flips, query, 200);
    return { ...page, count: flips.length, flips: rows, next };
  }

  // A copy is opened at its one run.
  if (!location.hash) history.replaceState(null, "", P.route.link(["run", RUN]));

  P.share = { answer, refuse, take, sentence: first.dataset.sentence, traces: Number(first.dataset.traces) };
})((window.potstill = window.potstill || {}));
