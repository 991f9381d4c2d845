// The address: #/run/NAME/page?filters. All state of a page stands in it, so a copied address restores it; never the token.
(function (P) {
  "use strict";
  const { useEffect, useState } = htmPreact;

  // {parts: ["run", "NAME", "traces"], query: {arm: ["own"], …}}
  function read() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    const parts = path.split("/").filter(Boolean).map(decode);
    const values = {};
    for (const [name, value] of new URLSearchParams(query || "")) (values[name] = values[name] || []).push(value);
    return { parts, query: values };
  }

  function decode(part) {
    try {
      return decodeURIComponent(part);
    } catch {
      return part; // a broken address names nothing, and the page says so
    }
  }

  // The address of a page, as a link holds it.
  function link(parts, query) {
    const path = "#/" + parts.map(encodeURIComponent).join("/");
    const text = queryText(query);
    return text ? path + "?" + text : path;
  }

  function queryText(query) {
    const values = new URLSearchParams();
    for (const [name, value] of Object.entries(query || {})) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined && one !== null && one !== "") values.append(name, one);
      }
    }
    return values.toString();
  }

  function go(parts, query) {
    location.hash = link(parts, query);
  }

  // Change the query of this page; `replace` leaves no entry in the history (typing in a field).
  function setQuery(changes, replace) {
    const { parts, query } = read();
    const target = link(parts, { ...query, ...changes });
    if (replace) {
      history.replaceState(null, "", location.pathname + location.search + target);
      dispatchEvent(new HashChangeEvent("hashchange"));
    } else location.hash = target;
  }

  // Choose a value of a facet, or take the choice back; the list begins at its top again.
  function toggleFacet(query, name, value) {
    const chosen = query["f." + name] || [];
    const values = chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value];
    setQuery({ ["f." + name]: values, at: "" });
  }

  function useRoute() {
    const [route, setRoute] = useState(read);
    useEffect(() => {
      const change = () => setRoute(read());
      addEventListener("hashchange", change);
      return () => removeEventListener("hashchange", change);
    }, []);
    return route;
  }

  P.toggleFacet = toggleFacet;
  P.route = { read, link, go, setQuery, queryText, useRoute };
})((window.potstill = window.potstill || {}));
