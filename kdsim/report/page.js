// Sorting is stable, so that sorting by one column and then another groups as one expects; empty
// values (an interval that cannot be given) come last either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map(row => [row.cells[column].dataset.value, row]);
    const numeric = keyed.every(([key]) => key === "" || Number.isFinite(Number(key)));
    const order = (a, b) => numeric ? a - b : a.localeCompare(b, "en", {numeric: true});
    keyed.sort(([a], [b]) => a === "" || b === "" ? (a === "") - (b === "")
      : down ? order(b, a) : order(a, b));
    body.append(...keyed.map(([, row]) => row));
  }));
}

// A row stays if it has every word that was typed, in any column; a number has to be a whole cell,
// since 12 is a part of many makespans.
for (const box of document.querySelectorAll(".filter")) {
  const input = box.querySelector("input"), count = box.querySelector("output");
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  const texts = rows.map(row => [...row.cells].map(cell => cell.textContent.trim().toLowerCase()));
  const has = (cells, word) => Number.isFinite(Number(word)) ? cells.includes(word)
    : cells.some(cell => cell.includes(word));
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, k) => {
      row.hidden = !words.every(word => has(texts[k], word));
      shown += !row.hidden;
    });
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  input.addEventListener("input", apply);
  box.hidden = false;
  apply();
}

// A link to a folded section opens it, and a printed page shows everything.
const unfold = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const folded = target && target.querySelector("details");
  if (folded) folded.open = true;
};
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
