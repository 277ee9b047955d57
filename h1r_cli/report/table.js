// --- tables that sort ---------------------------------------------------------------------------------------

/** A table whose heads sort its rows; a column is {name, value, show?, number?}, and `row` makes a row of its cells. */
function sortable(columns, items, row) {
  const body = el("tbody", {});
  let kept = items;
  let order = null;
  const fill = () => {
    const shown = order ? [...kept].sort(order) : kept;
    body.replaceChildren(...shown.map((item) => row(item, columns.map((column) => cell(column, item)))));
  };
  const heads = columns.map((column) => {
    const head = el("th", { scope: "col", class: column.number && "number" });
    head.append(button(column.name, () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      order = (a, b) => (up ? 1 : -1) * compared(column.value(a), column.value(b));
      fill();
    }));
    return head;
  });
  fill();
  const element = el("div", { class: "scroll tall" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body));
  const show = (those) => {
    kept = those;
    fill();
  };
  return { element, show };
}

const cell = (column, item) => el("td", { class: column.number && "number" }, (column.show || ((one) => text(column.value(one))))(item));
const text = (value) => (value === null || value === undefined ? "–" : typeof value === "number" ? value.toLocaleString("en") : String(value));

/** Order of two values, what is not there last. */
function compared(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  return typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
}

function button(name, pressed) {
  const made = el("button", { type: "button" }, name);
  made.addEventListener("click", pressed);
  return made;
}
