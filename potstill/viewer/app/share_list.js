// Lists of a copy: the query language, filters, orders and counts that the server has in Python (API.md), for what is here.
(function (P) {
  "use strict";
  const TERM = /(-)?(?:([a-z_]+(?:\.[^\s:"']+)?):((?:"(?:\\"|[^"])*"?|[^\s,"]+)(?:,(?:"(?:\\"|[^"])*"?|[^\s,"]+))*)|"((?:\\"|[^"])*)"?|'([^']*)'?|(\S+))/g;
  const VALUE = /"((?:\\"|[^"])*)"?|([^\s,"]+)/g;
  const IDS = ["id", "parent", "root", "problem"];
  const NUMBERS = ["tokens", "length", "prompt_tokens", "reasoning_tokens", "draw", "weight", "steps", "wrong_steps", "first_wrong", "position", "seconds", "cost", "created"];
  const NOTED = ["dropped", "reason", "row", "mark"]; // facets of which a trace may have several values, or that may change
  const EXCERPT = 200;
  const CONTEXT = 60;
  const MOST_VALUES = 100;

  // --- A query, as conditions ---

  // {conditions, words, messages}: a condition is {facet, test(item, text)}, where `facet` may be ""; words are patterns.
  function readQuery(query, facetNames) {
    const read = { conditions: [], patterns: [], messages: [], needsTexts: false };
    for (const [, minus, field, typed, phrase, literal, word] of query.matchAll(TERM)) {
      if (field !== undefined) addField(read, field, typed, facetNames, !!minus);
      else if (literal !== undefined) addLiteral(read, literal, !!minus);
      else addWords(read, phrase === undefined ? word : phrase.replace(/\\"/g, '"'), "text", !!minus);
    }
    return read;
  }

  function add(read, test, isNegated, facet) {
    read.conditions.push({ facet: facet || "", test: isNegated ? (item, text) => !test(item, text) : test });
  }

  function addLiteral(read, literal, isNegated) {
    if (!literal) return;
    read.needsTexts = true;
    if (!isNegated) read.patterns.push(new RegExp(escaped(literal), "gu"));
    add(read, (item, text) => text.includes(literal), isNegated);
  }

  function addWords(read, typed, column, isNegated) {
    const words = typed.match(/[\p{L}\p{N}]+/gu);
    if (!words) {
      read.messages.push({ level: "info", text: `signs alone are not looked for (${typed}): write '${typed}' for exactly these characters`, available: [] });
      return;
    }
    // Words one after another, whatever signs stand between them; a star is the beginning of a word.
    const end = typed.endsWith("*") ? "[\\p{L}\\p{N}]*" : "(?![\\p{L}\\p{N}])";
    const pattern = "(?<![\\p{L}\\p{N}])" + words.map((one) => escaped(folded(one))).join("[^\\p{L}\\p{N}]+") + end;
    const isFound = new RegExp(pattern, "u");
    if (column === "text") {
      read.needsTexts = true;
      if (!isNegated) read.patterns.push(new RegExp(pattern, "giu"));
    }
    add(read, (item, text) => isFound.test(folded(column === "text" ? text : item.question || "")), isNegated);
  }

  function addField(read, field, typed, facetNames, isNegated) {
    const values = [...typed.matchAll(VALUE)].map(([, quoted, bare]) => bare || quoted.replace(/\\"/g, '"'));
    if (field === "text" || field === "question") for (const value of values) addWords(read, value, field, isNegated);
    else if (facetNames.includes(field)) addChoice(read, field, values, isNegated);
    else if (IDS.includes(field)) add(read, (item) => hasId(item, field, values), isNegated);
    else if (NUMBERS.includes(field) || field.startsWith("score.")) for (const value of values) addRange(read, field, value, isNegated);
    else read.messages.push({ level: "error", text: `there is no field '${field}'`, available: [...facetNames, ...IDS, ...NUMBERS, "score.NAME", "question"] });
  }

  function addChoice(read, facet, values, isNegated) {
    const chosen = new Set(values);
    add(read, (item) => valuesOf(item, facet).some((value) => chosen.has(value)), isNegated, facet);
    if (!isNegated) read.conditions[read.conditions.length - 1].chosen = chosen;
  }

  function hasId(item, field, values) {
    if (field === "id") return values.some((value) => item.id.startsWith(value));
    if (field === "parent") return values.some((value) => item.parents.includes(value));
    return values.includes(item[field]);
  }

  function addRange(read, field, value, isNegated) {
    if (value === "none" || value === "any") {
      add(read, (item) => (numberOf(item, field) === null) === (value === "none"), isNegated);
      return;
    }
    const between = /^([^.]+(?:\.\d+)?)\.\.(.+)$/.exec(value);
    const [, sign, single] = /^(<=|>=|<|>|=)?(.+)$/.exec(value);
    const [low, high] = between ? [Number(between[1]), Number(between[2])] : [Number(single), Number(single)];
    if (Number.isNaN(low) || Number.isNaN(high)) {
      read.messages.push({ level: "error", text: `'${value}' is no number: ${field}:>5, ${field}:2..8, ${field}:none`, available: [] });
      return;
    }
    const tests = { "<": (x) => x < high, "<=": (x) => x <= high, ">": (x) => x > low, ">=": (x) => x >= low };
    const fits = (!between && tests[sign]) || ((x) => x >= low && x <= high);
    add(read, (item) => numberOf(item, field) !== null && fits(numberOf(item, field)), isNegated);
  }

  function numberOf(item, field) {
    const value = field.startsWith("score.") ? item.scores[field.slice(6)] : item[field];
    return typeof value === "number" ? value : null;
  }

  // The values of an item in a facet; "none" where it has none.
  function valuesOf(item, facet) {
    if (facet === "row") return [item.row ? "yes" : "no"];
    if (facet === "mark") return [item.mark || "none"];
    const values = { dropped: item.dropped, reason: item.reasons }[facet];
    if (values) return values.length ? values : ["none"];
    return [item.facets[facet]].flat();
  }

  function escaped(text) {
    return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  }

  // Without case and accents.
  function folded(text) {
    return /^[\x00-\x7f]*$/.test(text) ? text.toLowerCase() : text.normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase();
  }

  // --- Lists ---

  // Items that fit all conditions, and for each facet those that fit all but its own: {items, others: {facet: items}}.
  function choose(items, conditions, textOf) {
    const chosen = { items: [], others: {} };
    for (const item of items) {
      const failing = new Set();
      for (const { facet, test } of conditions) {
        if (failing.has("") || failing.size > 1) break;
        if (!test(item, textOf(item))) failing.add(facet);
      }
      if (failing.size === 0) chosen.items.push(item);
      else if (failing.size === 1 && !failing.has("")) {
        const [facet] = failing;
        (chosen.others[facet] = chosen.others[facet] || []).push(item);
      }
    }
    return chosen;
  }

  // By a number, what has none last; ties in the order in which they were made.
  function sortItems(items, sort, isDescending) {
    const sign = isDescending ? -1 : 1;
    const keyOf = { made: (item) => item.key, problem: (item) => item.place, id: (item) => item.id }[sort] || ((item) => numberOf(item, sort));
    return [...items].sort((one, other) => {
      const [a, b] = [keyOf(one), keyOf(other)];
      if (a === null || b === null) return (a === null) - (b === null) || sign * (one.key - other.key);
      return sign * (a < b ? -1 : a > b ? 1 : one.key - other.key);
    });
  }

  // How many items have each value: `count` in the list, `of` without what is chosen in the facet itself.
  function countFacet(facet, chosen, conditions, valuesIn, labelOf) {
    const counts = countValues(chosen.items, facet.name, valuesIn);
    const choices = conditions.filter((condition) => condition.facet === facet.name && condition.chosen);
    // Of what is only refused of these, the server counts nothing else either.
    const others = choices.length || !NOTED.includes(facet.name) ? chosen.others[facet.name] || [] : [];
    const all = countValues(others, facet.name, valuesIn, new Map(counts));
    const isChosen = (value) => choices.some((condition) => condition.chosen.has(value));
    // What is chosen stays, also where nothing fits it: else the choice could not be taken back.
    for (const { chosen: values } of choices) for (const value of values) if (!all.has(value)) all.set(value, 0);
    const values = [...all].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, MOST_VALUES);
    return {
      ...facet,
      values: values.map(([value, of]) => ({ value, label: labelOf ? labelOf(value) : value, count: counts.get(value) || 0, of, is_chosen: isChosen(value) })),
    };
  }

  function countValues(items, facet, valuesIn, counts = new Map()) {
    for (const item of items) for (const value of new Set(valuesIn(item, facet))) counts.set(value, (counts.get(value) || 0) + 1);
    return counts;
  }

  function rangesOf(items, labels) {
    const scores = new Set(items.flatMap((item) => Object.keys(item.scores)));
    const names = [...Object.entries(labels), ...[...scores].sort().map((name) => ["score." + name, name])];
    const ranges = [];
    for (const [name, label] of names) {
      const numbers = items.map((item) => numberOf(item, name)).filter((value) => value !== null);
      if (!numbers.length) continue;
      const ends = numbers.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
      ranges.push({ name, label, min: ends[0], max: ends[1], count: numbers.length });
    }
    return ranges;
  }

  // What stands around the first hit of a text.
  function excerptOf(text, patterns) {
    const hits = patterns.flatMap((pattern) => [...text.matchAll(pattern)].map((match) => [match.index, match.index + match[0].length]));
    hits.sort((one, other) => one[0] - other[0]);
    const start = hits.length && hits[0][1] > EXCERPT ? Math.max(0, hits[0][0] - CONTEXT) : 0;
    const stop = Math.min(text.length, start + EXCERPT);
    const inside = [];
    for (const [from, to] of hits) {
      const last = inside.length ? inside[inside.length - 1][1] : 0;
      if (from >= start && to <= stop && from - start >= last) inside.push([from - start, to - start]);
    }
    return { text: text.slice(start, stop), hits: inside, is_start: start === 0, is_end: stop === text.length };
  }

  P.shareList = { readQuery, addChoice, choose, sortItems, countFacet, rangesOf, excerptOf, valuesOf, folded };
})((window.potstill = window.potstill || {}));
