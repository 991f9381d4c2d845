// The keyboard: a page says what its keys do; none fires in a field or with Ctrl, Alt or Meta.
(function (P) {
  "use strict";
  const { useEffect, useRef } = htmPreact;
  const stack = []; // the maps of the pages and parts on screen, the newest last

  // keys: {j: {name: "next", run()}, …}
  function useKeys(keys) {
    const latest = useRef(keys);
    latest.current = keys;
    useEffect(() => {
      stack.push(latest);
      return () => stack.splice(stack.indexOf(latest), 1);
    }, []);
  }

  function isField(element) {
    return element.isContentEditable || (/^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName) && element.type !== "checkbox");
  }

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (isField(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    for (const keys of [...stack].reverse()) {
      const action = keys.current[event.key];
      if (!action) continue;
      // Enter on a link, a button or a box is its own.
      if (event.key === "Enter" && event.target.closest("a, button, summary, input, label")) return;
      event.preventDefault();
      action.run();
      return;
    }
  }

  // Every key that does something now, for the help.
  function listKeys() {
    const known = new Map();
    for (const keys of stack) for (const [key, action] of Object.entries(keys.current)) known.set(key, action.name);
    return [...known];
  }

  addEventListener("keydown", press);
  Object.assign(P, { useKeys, listKeys });
})((window.potstill = window.potstill || {}));
