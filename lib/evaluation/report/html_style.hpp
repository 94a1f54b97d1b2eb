#pragma once
// The style sheet and the script of html_page.cpp.
#include <string_view>

namespace rotorquant::evaluation {

// Tables scroll sideways on narrow screens, their first column stays; in print they wrap instead and figures
// stay whole.
inline constexpr std::string_view html_style = R"css(
:root { color-scheme: light; --ink: #1b1f24; --quiet: #57606a; --rule: #d0d7de; --wash: #f6f8fa; --accent: #0b5cad; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem 1.25rem 4rem; background: #fff; color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 60rem; }
.verdict { border-left: .3rem solid var(--accent); background: var(--wash); padding: .75rem 1rem; }
.verdict p { margin: .35rem 0; overflow-wrap: anywhere; }
.verdict p:first-child { font-size: 1.1rem; font-weight: 600; }
.scroll { overflow-x: auto; margin: .5rem 0; border: 1px solid var(--rule); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: left; white-space: nowrap; background: #fff; }
thead th { background: var(--wash); border-bottom: 1px solid var(--rule); vertical-align: bottom; font-weight: 600; }
thead small { display: block; font-weight: 400; color: var(--quiet); }
tbody th { font-weight: 400; }
th:first-child { position: sticky; left: 0; z-index: 1; border-right: 1px solid var(--rule); }
wbr { display: none; }
.number { text-align: right; }
td:not(.number) { white-space: normal; }
.group > * { border-top: 1px solid var(--rule); }
tbody tr:hover > * { background: var(--wash); }
.spread, .note { color: var(--quiet); }
th [role=button] { cursor: pointer; }
th [role=button]:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th [role=button]::after { content: "\2195"; color: var(--quiet); margin-left: .3em; font-size: .8em; }
th[aria-sort=ascending] [role=button]::after { content: "\2191"; color: var(--accent); }
th[aria-sort=descending] [role=button]::after { content: "\2193"; color: var(--accent); }
.notes { color: var(--quiet); font-size: .875rem; }
.notes p { overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.5rem; align-items: start; }
figure { margin: 0; min-width: 0; }
figure div { overflow-x: auto; border: 1px solid var(--rule); border-radius: .4rem; padding: .5rem; }
figure img { display: block; width: 100%; min-width: 26rem; height: auto; }
figcaption { font-size: .875rem; color: var(--quiet); margin-top: .4rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; font-size: .9rem; margin: .5rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 1rem .8rem 3rem; }
  h1 { font-size: 1.35rem; }
  wbr { display: inline; }
  th, td { padding: .35rem .5rem; }
  tbody th:first-child, thead th:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; max-width: 11rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
@media print {
  @page { margin: 15mm; }
  body { max-width: none; padding: 0; font-size: 9pt; }
  h2, h3 { break-after: avoid; }
  .scroll, figure div { overflow: visible; border: 0; padding: 0; }
  table { font-size: 7pt; }
  wbr { display: inline; }
  th, td:not(.number) { white-space: normal; }
  th, td { padding: .1rem .25rem; }
  figcaption, .notes, dl { font-size: 8pt; }
  th:first-child { position: static; }
  tr, figure, .verdict { break-inside: avoid; }
  figure img { min-width: 0; }
  .figures { grid-template-columns: 1fr 1fr; gap: .75rem; }
  th [role=button]::after { content: none; }
}
)css";

// Heads become buttons here, so that a page without JavaScript promises nothing; Chromium leaves <button> out
// of the heads that it repeats on printed pages, hence spans. Cells sort by data-value, else by their text;
// empty cells stay last; equal ones keep their order. The rules between groups mean nothing in another order.
inline constexpr std::string_view html_script = R"js(
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("span");
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.title = "Sort";
    button.append(head.firstChild);
    head.prepend(button);
    button.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      button.click();
    });
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const key = row => {
        const cell = row.cells[column];
        return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent.trim();
      };
      const rows = [...body.rows].sort((one, other) => {
        const a = key(one), b = key(other);
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (typeof a === "number" && typeof b === "number" ? a - b
          : String(a).localeCompare(String(b), undefined, {numeric: true}));
      });
      rows.forEach(row => row.classList.remove("group"));
      body.append(...rows);
    });
  });
}
)js";

}  // namespace rotorquant::evaluation
