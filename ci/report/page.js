// What a page can do besides being read. Without this script it can be read whole: each fold opens, and tables stand as they are.
(() => {
  const root = document.documentElement;
  const all = (what, within = document) => [...within.querySelectorAll(what)];

  // Light or dark, as the reader's system has it, or as the reader has said: before anything is drawn.
  const remembered = (() => { try { return localStorage.theme; } catch { return undefined; } })();
  if (remembered) root.dataset.theme = remembered;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  function themeSwitch(button) {
    const named = () => { button.textContent = dark() ? "Light" : "Dark"; };
    named();
    button.onclick = () => {
      root.dataset.theme = dark() ? "light" : "dark";
      try { localStorage.theme = root.dataset.theme; } catch { /* then it holds for this page */ }
      named();
    };
  }

  // One switch for all folds of a kind.
  function foldsSwitch(button) {
    const folds = all(button.dataset.folds), show = button.textContent;
    button.hidden = folds.length === 0;
    button.onclick = () => {
      const open = button.textContent === show;
      folds.forEach(fold => { fold.open = open; });
      button.textContent = open ? button.dataset.shut : show;
    };
  }

  // What a link leads to is shown, however deep it is folded.
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target?.scrollIntoView();
  }

  // A table by one of its columns; a second time the other way round.
  const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const number = text => text === "∞" ? Infinity : parseFloat(text.replace(/[,\s]/g, "").replaceAll("−", "-")
    .replace(/×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)/, (_, power) => "e" + power.replace("⁻", "-").replace(/[^-]/g, digit => digits.indexOf(digit))));
  function sortable(head) {
    const body = head.closest("table").tBodies[0], column = head.cellIndex;
    if (body.rows.length < 2) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const cell = row => row.cells[column].textContent.trim();
      const compare = head.classList.contains("number")
        ? (a, b) => (number(cell(a)) || 0) - (number(cell(b)) || 0)
        : (a, b) => cell(a).localeCompare(cell(b), "en", { numeric: true });
      body.append(...[...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a)));
      all("th", head.parentElement).forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    };
  }

  // A chart as large as the window.
  function enlarges(link, dialog) {
    const figure = link.closest("figure"), chart = figure.querySelector("svg");
    const open = event => {
      event.preventDefault();
      dialog.querySelector("div").replaceChildren(chart.cloneNode(true));
      dialog.showModal();
    };
    link.onclick = open;
    all("svg", figure).forEach(svg => { svg.onclick = open; svg.classList.add("enlarges"); });
  }

  // Only the experiments that have all these words.
  function filter(input) {
    const entries = all("article"), found = document.getElementById("found");
    input.oninput = () => {
      const words = input.value.toLowerCase().split(/\s+/);
      entries.forEach(entry => { entry.hidden = !words.every(word => entry.textContent.toLowerCase().includes(word)); });
      all("section.chapter").forEach(chapter => { chapter.hidden = all("article:not([hidden])", chapter).length === 0; });
      found.textContent = `${entries.filter(entry => !entry.hidden).length} of ${entries.length}`;
    };
  }

  // On paper nothing can be opened.
  let shut = [];
  addEventListener("beforeprint", () => { shut = all("details:not([open])"); shut.forEach(fold => { fold.open = true; }); });
  addEventListener("afterprint", () => shut.forEach(fold => { fold.open = false; }));

  addEventListener("hashchange", reveal);
  addEventListener("DOMContentLoaded", () => {
    all(".controls").forEach(controls => { controls.hidden = false; });
    all("[data-theme-switch]").forEach(themeSwitch);
    all("[data-folds]").forEach(foldsSwitch);
    all(".lab-table th").forEach(sortable);
    all("dialog").forEach(dialog => all('.lab-files a[href$=".svg"]').forEach(link => enlarges(link, dialog)));
    all("input[type=search]").forEach(filter);
    if (matchMedia("(max-width: 1239px)").matches) all(".contents details").forEach(fold => { fold.open = false; });
    if (location.hash) reveal();
  });
})();
