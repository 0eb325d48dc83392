// Filters of the scoreboard; without this script all claims are shown.
document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".scoreboard-filters");
  if (!form) return;
  const rows = [...document.querySelectorAll("table.scoreboard tbody tr")];
  const said = form.querySelector("output");
  const show = () => {
    const wanted = [...form.querySelectorAll("select")].filter((select) => select.value);
    for (const row of rows) row.hidden = wanted.some((select) => row.dataset[select.name] !== select.value);
    for (const table of document.querySelectorAll("table.scoreboard")) {
      table.closest("section").hidden = !table.querySelector("tbody tr:not([hidden])");
    }
    const shown = rows.filter((row) => !row.hidden).length;
    said.textContent = `${shown} of ${rows.length} claims and questions`;
  };
  const unfold = () => {  // a link to a claim shows it, whatever is filtered
    if (rows.some((row) => row.hidden && "#" + row.id === location.hash)) { form.reset(); show(); }
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", show);
  addEventListener("hashchange", unfold);
  form.hidden = false;
  show();
});
