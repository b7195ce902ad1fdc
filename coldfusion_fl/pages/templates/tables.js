"use strict";
// A click on the head of a column sorts its table; the rows of the foot stay. Cells without a value are always last.
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return null;
    const text = (cell.dataset.sort ?? cell.textContent).trim();
    if (text === "" || text === "–") return null;
    const found = /^[+−-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?/i.exec(text);
    return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : text.toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b);
  };
  const sort = (table, head, column) => {
    // The first click on a column of numbers shows the largest first.
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    const numeric = rows.some(([found]) => typeof found === "number");
    const now = head.getAttribute("aria-sort");
    const descending = now ? now === "ascending" : numeric;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const there = rows.filter(([found]) => found !== null);
    const absent = rows.filter(([found]) => found === null);
    there.sort(([a], [b]) => (descending ? compare(b, a) : compare(a, b)));
    body.append(...[...there, ...absent].map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.dataset.sort === "none") return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, head, column));
    });
  }
  // Everything is printed, also what is folded.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
})();
