// Texts that models wrote. They go into text nodes only, whole; what can't be seen is named.
(function (P) {
  "use strict";
  const { html } = htmPreact;

  // Characters that hide or reorder what stands beside them: controls, zero widths, bidirectional marks, lone surrogates.
  const UNSEEN =
    /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[\u{e0000}-\u{e01ef}]/gu;
  const HAS_UNSEEN = new RegExp(UNSEEN.source, "u");

  function codePoint(character) {
    return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  }

  // The text with every unseen character replaced by its name, for titles, labels and lists.
  function visible(text) {
    return String(text).replace(UNSEEN, (character) => "\u27e8" + codePoint(character) + "\u27e9");
  }

  // Nodes of a text: unseen characters as labels, hits of a search marked. `hits` are [from, to] pairs in order.
  function nodes(text, hits) {
    const out = [];
    let at = 0;
    for (const [from, to] of hits || []) {
      if (from > at) out.push(...plainNodes(text.slice(at, from)));
      out.push(html`<mark>${plainNodes(text.slice(from, to))}</mark>`);
      at = to;
    }
    if (at < text.length) out.push(...plainNodes(text.slice(at)));
    return out;
  }

  function plainNodes(text) {
    if (!HAS_UNSEEN.test(text)) return [text];
    const out = [];
    let at = 0;
    for (const match of text.matchAll(UNSEEN)) {
      if (match.index > at) out.push(text.slice(at, match.index));
      out.push(html`<span class="unseen">${codePoint(match[0])}</span>`);
      at = match.index + match[0].length;
    }
    if (at < text.length) out.push(text.slice(at));
    return out;
  }

  // Where the words and phrases of a query stand in a text, as merged [from, to] pairs.
  function findHits(text, query) {
    const found = [];
    for (const words of queryPhrases(query)) {
      const pattern = words.map(escapePattern).join("[\\s\\p{P}\\p{S}]+");
      for (const match of text.matchAll(new RegExp(pattern, "giu"))) {
        if (match[0]) found.push([match.index, match.index + match[0].length]);
        if (found.length > 2000) return merged(found);
      }
    }
    return merged(found);
  }

  // The query's phrases as lists of words: what follows a minus is not sought, nor are field:value pairs.
  function queryPhrases(query) {
    const phrases = [];
    for (const match of String(query || "").matchAll(/(-?)(?:"([^"]*)"|(\S+))/g)) {
      const [, minus, quoted, bare] = match;
      if (minus || (bare && /^\w+:/.test(bare))) continue;
      const words = (quoted === undefined ? bare : quoted).replace(/\*$/, "").match(/[\p{L}\p{N}_]+/gu);
      if (words) phrases.push(words);
    }
    return phrases;
  }

  function escapePattern(text) {
    return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  }

  function merged(pairs) {
    pairs.sort((one, other) => one[0] - other[0]);
    const out = [];
    for (const pair of pairs) {
      const last = out[out.length - 1];
      if (last && pair[0] <= last[1]) last[1] = Math.max(last[1], pair[1]);
      else out.push(pair.slice());
    }
    return out;
  }

  P.visible = visible;
  P.text = { nodes, findHits };
})((window.potstill = window.potstill || {}));
