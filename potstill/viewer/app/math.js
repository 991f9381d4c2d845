// Formulas in a text that a model wrote: found in one pass, set as MathML, within limits that no text gets past.
(function (P) {
  "use strict";
  const { html, useEffect, useRef } = htmPreact;
  const LONGEST = 4000; // characters of a formula
  const DEEPEST = 40; // braces within braces: layout takes longer the deeper they are
  const MOST = 1500; // formulas of a text that are set: some hundred milliseconds
  const PAIRS = [
    { open: "$$", close: "$$", isDisplay: true },
    { open: "\\[", close: "\\]", isDisplay: true },
    { open: "\\(", close: "\\)", isDisplay: false },
    { open: "$", close: "$", isDisplay: false, isOfLine: true },
  ];
  const OPENING = /\$\$?|\\\[|\\\(|\\boxed\{/g;

  // A text with its formulas set; what cannot be set stays as it was written.
  function MathText({ text }) {
    const formulas = findFormulas(text);
    const nodes = [];
    let at = 0;
    for (const formula of formulas.slice(0, MOST)) {
      nodes.push(...P.text.nodes(text.slice(at, formula.start)));
      nodes.push(html`<${Formula} key=${formula.start} source=${formula.source} written=${text.slice(formula.start, formula.stop)} isDisplay=${formula.isDisplay} />`);
      at = formula.stop;
    }
    nodes.push(...P.text.nodes(text.slice(at)));
    return html`${formulas.length > MOST && html`<p class="small soft">The first ${P.format.count(MOST)} of ${P.format.count(formulas.length)} formulas are set; the others stand as they were written.</p>`}
      <div class="text math" tabindex="0" role="region" aria-label="The text with its formulas">${nodes}</div>`;
  }

  // {start, stop, source, isDisplay} of each formula, in order. What a pair needs is looked for once and remembered, so
  // that a million openings without an end take no longer than their length.
  function findFormulas(text) {
    const closings = new Map(); // a closing sign -> its next place at or behind where it was looked for
    const nextClosing = (sign, from) => {
      const known = closings.get(sign);
      if (known !== undefined && (known === -1 || known >= from)) return known;
      const place = text.indexOf(sign, from);
      closings.set(sign, place);
      return place;
    };
    const formulas = [];
    OPENING.lastIndex = 0;
    for (let match = OPENING.exec(text); match; match = OPENING.exec(text)) {
      const start = match.index;
      const behind = start + match[0].length;
      const pair = PAIRS.find((one) => one.open === match[0]);
      const stop = pair ? nextClosing(pair.close, behind) : endOfBraces(text, behind);
      if (stop <= behind || stop - behind > LONGEST) continue;
      const inner = text.slice(behind, stop);
      if (pair && pair.isOfLine && inner.includes("\n")) continue;
      const end = pair ? stop + pair.close.length : stop;
      formulas.push({ start, stop: end, source: pair ? inner : text.slice(start, end), isDisplay: !!pair && pair.isDisplay });
      OPENING.lastIndex = end;
    }
    return formulas;
  }

  // The place behind the brace that closes the one before `from`; -1 where none does within a formula's length.
  function endOfBraces(text, from) {
    let depth = 1;
    for (let at = from; at < Math.min(text.length, from + 500); at += 1) {
      if (text[at] === "{") depth += 1;
      else if (text[at] === "}") depth -= 1;
      if (depth === 0) return at + 1;
    }
    return -1;
  }

  function isTooDeep(source) {
    let depth = 0;
    for (const character of source) {
      if (character === "{") depth += 1;
      else if (character === "}") depth -= 1;
      if (depth > DEEPEST) return true;
    }
    return false;
  }

  function Formula({ source, written, isDisplay }) {
    const element = useRef(null);
    useEffect(() => {
      try {
        if (isTooDeep(source)) throw new Error("too deep");
        temml.render(source, element.current, { displayMode: isDisplay, trust: false, maxExpand: 1000, maxSize: [20, 20], throwOnError: true });
      } catch {
        element.current.textContent = P.visible(written);
      }
    }, [source, isDisplay]);
    return html`<span class="formula" ref=${element} title=${P.visible(written)}></span>`;
  }

  P.MathText = MathText;
  P.findFormulas = findFormulas;
})((window.potstill = window.potstill || {}));
