"use strict";
// Tables that can be sorted by the buttons in their heads and filtered by words and by choices; what goes on beside it says so.
// Without it they are plain.

const collator = new Intl.Collator(undefined, { numeric: true });

function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
}

function compare(a, b) {
  const numbers = [typeof a, typeof b].map((kind) => kind === "number");
  if (numbers[0] && numbers[1]) return a - b;
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
  return collator.compare(a, b);
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const descending = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const missing = (row) => row.cells[column].textContent === "-";
  const rows = [...body.rows].sort((a, b) => {
    if (missing(a) !== missing(b)) return missing(a) ? 1 : -1; // what has no value stays below, whichever way
    const order = compare(valueOf(a, column), valueOf(b, column));
    return descending ? -order : order;
  });
  body.append(...rows);
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent) return; // a button needs a name
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sortBy(table, column));
  });
}

function labeled(text, control) {
  const label = document.createElement("label");
  label.append(text, control);
  return label;
}

function choiceOf(table, column) {
  const values = new Set([...table.tBodies[0].rows].map((row) => row.cells[column].textContent));
  const select = document.createElement("select");
  select.append(new Option("all", ""));
  [...values].sort(collator.compare).forEach((value) => select.append(new Option(value, value)));
  select.dataset.column = column;
  return values.size > 1 && values.size <= 100 ? select : null;
}

function makeFilterable(table) {
  const bar = document.createElement("div");
  bar.className = "bar";
  const words = document.createElement("input");
  words.type = "search";
  bar.append(labeled("Filter", words));
  const choices = [];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const select = head.dataset.choose === undefined ? null : choiceOf(table, column);
    if (!select) return;
    choices.push(select);
    bar.append(labeled(head.textContent, select));
  });
  const count = document.createElement("output");
  bar.append(count);
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      const fits = wanted.every((word) => text.includes(word)) &&
        choices.every((select) => !select.value || row.cells[select.dataset.column].textContent === select.value);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
  };
  bar.addEventListener("input", apply);
  apply();
  table.closest(".frame").before(bar);
}

function showMore(scroll) {
  const frame = scroll.parentElement;
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "Scroll sideways for more \u2192";
  frame.after(hint);
  const apply = () => {
    frame.classList.toggle("right", scroll.scrollLeft + scroll.clientWidth < scroll.scrollWidth - 1);
    frame.classList.toggle("below", scroll.scrollTop + scroll.clientHeight < scroll.scrollHeight - 1);
    hint.hidden = scroll.scrollWidth <= scroll.clientWidth + 1;
  };
  scroll.addEventListener("scroll", apply, { passive: true });
  new ResizeObserver(apply).observe(scroll);
  apply();
}

for (const table of document.querySelectorAll("table.sortable")) {
  const rows = table.tBodies[0].rows.length;
  if (rows > 12 || (rows > 5 && table.querySelector("[data-choose]"))) makeFilterable(table);
  if (rows > 1) makeSortable(table);
}
document.querySelectorAll(".scroll, .long .drawing").forEach(showMore);
