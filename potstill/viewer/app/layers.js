// Layers over a text: what is judged, learnt, surprising, copied. Marks are laid over each other; only blocks on screen are drawn.
(function (P) {
  "use strict";
  const { html, useEffect, useLayoutEffect, useRef, useState } = htmPreact;
  const BLOCK = 256; // pieces of a text that are drawn together

  // Pieces of a text between all the edges of its marks: {start, stop, marks}. A mark is {start, stop, kind, …}.
  function cutPieces(length, marks) {
    const edges = new Set([0, length]);
    const inside = marks.filter((mark) => mark.start < mark.stop && mark.stop <= length);
    for (const { start, stop } of inside) edges.add(start).add(stop);
    const sorted = [...edges].sort((a, b) => a - b);
    const opening = [...inside].sort((a, b) => a.start - b.start);
    const pieces = [];
    let active = [];
    let next = 0;
    for (let i = 0; i + 1 < sorted.length; i += 1) {
      const [start, stop] = [sorted[i], sorted[i + 1]];
      active = active.filter((mark) => mark.stop > start);
      while (next < opening.length && opening[next].start === start) active.push(opening[next++]);
      pieces.push({ start, stop, marks: active });
    }
    return pieces;
  }

  // A text under its marks. `jump` is {kind, turn}: the next piece of that kind is shown and focused at each new turn.
  // `onToken` is told of the token under the pointer, `onStep` of the arrow keys: -1 or 1.
  function MarkedText({ text, marks, showSpaces, onToken, onStep, wanted, label }) {
    const pieces = cutPieces(text.length, marks);
    const blocks = [];
    for (let at = 0; at < pieces.length; at += BLOCK) blocks.push(pieces.slice(at, at + BLOCK));
    const hover = (event) => {
      const element = event.target.closest("[data-token]");
      if (element && onToken) onToken(Number(element.dataset.token));
    };
    const press = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      onStep(by);
    };
    return html`<pre class="text" tabindex="0" aria-label=${label} onMouseOver=${onToken ? hover : undefined} onKeyDown=${onStep ? press : undefined}>${blocks.map((block, index) => html`<${Block}
      key=${index} block=${block} text=${text} showSpaces=${showSpaces} isShown=${blocks.length < 3 || (wanted !== null && block.some((piece) => piece.start === wanted))} wanted=${wanted} />`)}</pre>`;
  }

  // A block of pieces: bare text until it comes near the screen.
  function Block({ block, text, showSpaces, isShown, wanted }) {
    const element = useRef(null);
    const [isNear, setNear] = useState(false);
    const isDrawn = isShown || isNear;
    useLayoutEffect(() => {
      if (isDrawn || !element.current) return undefined;
      const observer = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setNear(true), { rootMargin: "600px" });
      observer.observe(element.current);
      return () => observer.disconnect();
    }, [isDrawn]);
    if (!isDrawn) return html`<span ref=${element}>${P.text.nodes(text.slice(block[0].start, block[block.length - 1].stop))}</span>`;
    return html`<span ref=${element}>${block.map((piece) => html`<${Piece} key=${piece.start} piece=${piece} text=${text} showSpaces=${showSpaces} isWanted=${piece.start === wanted} />`)}</span>`;
  }

  function Piece({ piece, text, showSpaces, isWanted }) {
    const element = useRef(null);
    useEffect(() => {
      if (!isWanted || !element.current) return;
      element.current.scrollIntoView({ block: "center" });
      element.current.focus({ preventScroll: true });
    }, [isWanted]);
    const { start, stop, marks } = piece;
    const slice = showSpaces ? spacesShown(text.slice(start, stop)) : text.slice(start, stop);
    const nodes = P.text.nodes(slice);
    if (!marks.length) return nodes;
    const classes = [];
    const titles = [];
    let token;
    let nats;
    let isHit = false;
    for (const mark of marks) {
      if (mark.kind === "hit") isHit = true;
      else if (mark.kind === "step") classes.push("step", mark.isRight ? "right" : "wrong", mark.start === start ? "" : "inner");
      else classes.push(mark.kind, ...(mark.classes || []));
      if (mark.title) titles.push(mark.title);
      if (mark.token !== undefined) token = mark.token;
      if (mark.nats && mark.stop === stop) nats = mark.nats; // once a token, also of one that a step cuts
    }
    const wrong = marks.find((mark) => mark.kind === "step" && !mark.isRight && mark.start === start);
    return html`<span ref=${element} class=${classes.filter(Boolean).join(" ")} title=${titles.join("; ") || undefined} data-token=${token} data-nats=${nats}
      data-wrong=${wrong ? "" : undefined} tabindex=${isWanted ? "-1" : undefined}>${isHit ? html`<mark>${nodes}</mark>` : nodes}</span>`;
  }

  function spacesShown(text) {
    return text.replace(/ /g, "\u00b7").replace(/\t/g, "\u2192\t").replace(/\n/g, "\u00b6\n");
  }

  // --- Marks of each layer ---

  function stepMarks(steps) {
    return steps.map((step, i) => ({
      start: step.start, stop: step.stop, kind: "step", isRight: step.is_right,
      title: `step ${i + 1} of ${steps.length}: ${step.is_right ? "right" : "wrong"}`,
    }));
  }

  function hitMarks(text, query) {
    return P.text.findHits(text, query).map(([start, stop]) => ({ start, stop, kind: "hit" }));
  }

  function overlapMarks(runs) {
    return runs.map((run) => ({ start: run.start, stop: run.stop, kind: "overlap", title: `${run.words} words in a row as in the ${run.part}` }));
  }

  // Tokens as they were trained on. `nats` is the surprise of each, or, if it is signed, what it rose by.
  function tokenMarks(tokens, { isWeighted, nats, isSigned, hasNumbers, index }) {
    const weights = weightOfEach(tokens);
    const marks = [];
    let at = 0;
    tokens.texts.forEach((text, i) => {
      const classes = ["token"];
      if (isWeighted) classes.push(weights[i] === 0 ? "off" : weights[i] < 1 ? "half" : "on");
      else if (nats && weights[i] === 0 && tokens.learnt) classes.push("off");
      // Of what is given every token may be a surprise, and none is learnt: it would drown the others.
      const value = nats && (weights[i] > 0 || !tokens.learnt) ? nats[i] : null;
      const level = value == null ? 0 : levelOf(Math.abs(value));
      if (level) classes.push((value < 0 ? "warm" : "cold") + level);
      const shown = level && hasNumbers ? (isSigned ? (value < 0 ? "\u2212" : "+") : "") + Math.abs(value).toFixed(1) : undefined;
      if (i === tokens.end_token) classes.push("end");
      if (i === index) classes.push("at");
      if (text) marks.push({ start: at, stop: at + text.length, kind: classes[0], classes: classes.slice(1), token: i, nats: shown });
      at += text.length;
    });
    return marks;
  }

  function weightOfEach(tokens) {
    return tokens.weights.flatMap(([length, weight]) => new Array(length).fill(weight));
  }

  // How much of a surprise, in nats: three levels, 0 is none worth a mark.
  function levelOf(nats) {
    return nats >= 5 ? 3 : nats >= 2.5 ? 2 : nats >= 1 ? 1 : 0;
  }

  // --- Differences ---

  // Behind a sentence's end and behind each line: no look ahead, so that no text takes more than its length.
  const SENTENCE_END = /(?<=[.!?]\s)|(?<=\n)/;
  const LIMIT = { timeout: 400 }; // milliseconds; without an answer by then the whole stands as changed

  // What of `now` is new beside `before`, and what is gone: sentences are paired first, then words within a pair.
  function Difference({ before, now }) {
    const parts = Diff.diffArrays(before.split(SENTENCE_END), now.split(SENTENCE_END), LIMIT);
    if (!parts) return html`<p class="soft">The texts are too unlike for a comparison by words.</p>`;
    const nodes = [];
    for (let i = 0; i < parts.length; i += 1) {
      const part = parts[i];
      const next = parts[i + 1];
      if (part.removed && next && next.added) {
        nodes.push(...wordNodes(part.value.join(""), next.value.join("")));
        i += 1;
      } else nodes.push(changeNode(part, part.value.join("")));
    }
    return html`<p class="small soft"><del>Struck out</del>: only in the other text. <ins>Underlined</ins>: only in this one.</p>
      <pre class="text" tabindex="0" aria-label="Differences">${nodes}</pre>`;
  }

  function wordNodes(before, now) {
    const parts = before.length + now.length < 20000 ? Diff.diffWordsWithSpace(before, now, LIMIT) : null;
    if (!parts) return [changeNode({ removed: true }, before), changeNode({ added: true }, now)];
    return parts.map((part) => changeNode(part, part.value));
  }

  function changeNode(part, text) {
    if (part.added) return html`<ins>${P.text.nodes(text)}</ins>`;
    if (part.removed) return html`<del>${P.text.nodes(text)}</del>`;
    return html`<span>${P.text.nodes(text)}</span>`;
  }

  Object.assign(P, { MarkedText, Difference });
  P.layers = { cutPieces, stepMarks, hitMarks, overlapMarks, tokenMarks, weightOfEach };
})((window.potstill = window.potstill || {}));
