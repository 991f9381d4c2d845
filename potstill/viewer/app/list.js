// A list of any length: rows on screen only, read in pages of 100 by their place; scrolling is scaled where it is very long.
(function (P) {
  "use strict";
  const { html, useEffect, useLayoutEffect, useRef, useState } = htmPreact;
  const PAGE = 100;
  const TALLEST = 8e6; // pixels of a scrolled box that every browser lays out
  const MARGIN = 8; // rows drawn above and below the screen

  // read(page): a promise of the rows of a page of 100; `source` names what is read: a new one forgets the old rows.
  // line(row, index): the cells of a row; href(row): where it leads; at: the row that is chosen, moved by onMove(index, row).
  function List({ label, total, rowHeight, columns, read, source, line, href, at, onMove, name }) {
    const box = useRef(null);
    const [top, setTop] = useState(0);
    const [height, setHeight] = useState(600);
    const full = total * rowHeight;
    const scale = Math.max(1, full / TALLEST);
    const visibleRows = Math.ceil(height / rowHeight);
    // Where scrolling is scaled, the first row follows the bar's share of its way.
    const share = full > height ? top / (full / scale - height) : 0;
    const first = scale > 1 ? share * Math.max(0, total - height / rowHeight) : top / rowHeight;
    const from = Math.max(0, Math.floor(first) - MARGIN);
    const to = Math.min(total, Math.floor(first) + visibleRows + MARGIN);
    const rows = usePages(read, source, from, to);

    useLayoutEffect(() => {
      const measure = () => box.current && setHeight(box.current.clientHeight);
      measure();
      const observer = new ResizeObserver(measure);
      observer.observe(box.current);
      return () => observer.disconnect();
    }, []);

    const reveal = (index) => {
      const y = scale > 1 ? (index / Math.max(1, total - 1)) * (full / scale - height) : index * rowHeight;
      const element = box.current;
      if (scale > 1 || y < element.scrollTop) element.scrollTop = y;
      else if (y + rowHeight > element.scrollTop + element.clientHeight) element.scrollTop = y + rowHeight - element.clientHeight;
    };
    useEffect(() => {
      if (at >= 0 && at < total) reveal(at);
    }, [at, total, height]);

    const move = (index) => {
      const target = Math.max(0, Math.min(total - 1, index));
      onMove(target, rows(target));
    };
    const chosen = rows(at);
    useEffect(() => {
      if (chosen) onMove(at, chosen); // a row that was chosen before it was read
    }, [at, !!chosen]);
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const page = Math.max(1, visibleRows - 1);
      const target = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: total - 1 }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      move(target);
    };

    const drawn = [];
    for (let index = from; index < to; index += 1) {
      const row = rows(index);
      const y = scale > 1 ? top + (index - first) * rowHeight : index * rowHeight;
      const open = (event) => {
        if (row && !event.target.closest("a")) location.hash = href(row);
      };
      drawn.push(html`<div
        key=${index} class="line" role="row" aria-rowindex=${index + 2} id=${name + "-" + index}
        aria-selected=${index === at} data-read=${row ? "" : undefined}
        style=${{ transform: `translateY(${y}px)`, height: rowHeight + "px", gridTemplateColumns: columns.widths }}
        onMouseDown=${() => onMove(index, row)} onClick=${open}
      >${row ? line(row, index) : html`<span role="gridcell" class="soft">\u2026</span>`}</div>`);
    }
    return html`
      <div class="heads" style=${{ gridTemplateColumns: columns.widths }}>${columns.heads}</div>
      <div class="list" role="grid" aria-label=${label} aria-rowcount=${total + 1} tabindex="0" ref=${box}
        aria-activedescendant=${at >= from && at < to ? name + "-" + at : undefined}
        onScroll=${(event) => setTop(event.target.scrollTop)} onKeyDown=${press}>
        <div role="presentation" style=${{ height: full / scale + "px" }}></div>
        <div role="rowgroup">${drawn}</div>
      </div>`;
  }

  // The rows of the pages between two places, read when they are needed; a page of another query never shows.
  function usePages(read, key, from, to) {
    const pages = useRef({ key: "", rows: new Map() });
    const [, redraw] = useState(0);
    if (pages.current.key !== key) pages.current = { key, rows: new Map() };
    const wanted = [];
    for (let page = Math.floor(from / PAGE); page * PAGE < to; page += 1) wanted.push(page);
    useEffect(() => {
      const mine = pages.current;
      for (const page of wanted) {
        if (mine.rows.has(page)) continue;
        mine.rows.set(page, null);
        read(page).then(
          (rows) => {
            mine.rows.set(page, rows);
            if (mine === pages.current) redraw((n) => n + 1);
          },
          () => mine.rows.delete(page)
        );
      }
      forgetFarPages(mine.rows, wanted);
    }, [key, wanted.join()]);
    return (index) => {
      const page = pages.current.rows.get(Math.floor(index / PAGE));
      return page ? page[index % PAGE] : undefined;
    };
  }

  function forgetFarPages(rows, wanted) {
    for (const page of [...rows.keys()]) {
      if (rows.size <= 20) return;
      if (!wanted.includes(page)) rows.delete(page);
    }
  }

  // The row that is chosen in a list. Who is quicker than the list is read opens it all the same, once it is there.
  function useChosen(open) {
    const row = useRef(null);
    const isAwaited = useRef(false);
    return {
      take(newRow) {
        row.current = newRow;
        if (!newRow || !isAwaited.current) return;
        isAwaited.current = false;
        open(newRow);
      },
      open() {
        if (row.current) open(row.current);
        else isAwaited.current = true;
      },
    };
  }

  P.useChosen = useChosen;
  P.List = List;
  P.PAGE = PAGE;
})((window.potstill = window.potstill || {}));
